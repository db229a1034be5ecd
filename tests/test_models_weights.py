"""Weights from files: PyTorch's formats without PyTorch, the names of several libraries, and files that mean harm."""

import struct
import zipfile
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from robust_jax import models
from robust_jax.models.torch_file import MAGIC, read_tensors
from robust_jax.models.torch_names import counterpart

STORAGES = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "uint8": "Byte",
    "bool": "Bool",
}


class Opcodes(NamedTuple):
    """A part of a pickle as it stands."""

    code: bytes


def pickled(value, storages, legacy=False) -> bytes:
    """A pickle without its STOP, arrays as PyTorch describes tensors; their memory is collected in ``storages``."""

    def items(values):
        return b"".join(pickled(item, storages, legacy) for item in values)

    match value:
        case Opcodes():
            return value.code
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if abs(value) < 2**31:
            return b"J" + struct.pack("<i", value)
        case int():
            return b"\x8a\x0a" + value.to_bytes(10, "little")
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + items(value) + b"t"
        case list():
            return b"](" + items(value) + b"e"
        case dict():
            return b"}(" + items(part for item in value.items() for part in item) + b"u"
        case np.ndarray():
            base = value if value.base is None else value.base
            key = str(next((i for i, known in enumerate(storages) if known is base), len(storages)))
            if key == str(len(storages)):
                storages.append(base)
            storage_type = Opcodes(f"ctorch\n{STORAGES[base.dtype.name]}Storage\n".encode())
            identifier = ("storage", storage_type, key, "cpu", base.size, *([None] if legacy else []))
            storage = Opcodes(pickled(identifier, storages) + b"Q")
            offset = (value.ctypes.data - base.ctypes.data) // base.itemsize
            strides = tuple(stride // base.itemsize for stride in value.strides)
            hooks = Opcodes(b"ccollections\nOrderedDict\n)R")
            arguments = pickled((storage, offset, value.shape, strides, False, hooks), storages)
            return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
    raise TypeError(value)


def write_zip(path, value):
    storages = []
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", b"\x80\x02" + pickled(value, storages) + b".")
        archive.writestr("weights/byteorder", "little")
        for i, array in enumerate(storages):
            archive.writestr(f"weights/data/{i}", array.tobytes())


def write_legacy(path, value):
    storages = []
    data = pickled(value, storages, legacy=True)
    parts = [pickled(part, []) for part in (MAGIC, 1001, {"little_endian": True})]
    parts += [data, pickled([str(i) for i in range(len(storages))], [])]
    runs = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages)
    path.write_bytes(b"".join(b"\x80\x02" + part + b"." for part in parts) + runs)


WRITERS = [write_zip, write_legacy]
NAMESPACE = Opcodes(b"cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrG?\xb9\x99\x99\x99\x99\x99\x9asb")
NUMPY_SCALAR = Opcodes(b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00f8tRN)tR")


@pytest.mark.parametrize("write", WRITERS)
def test_types_views_and_what_else_a_checkpoint_holds(tmp_path, write):
    base = np.arange(24, dtype=np.float32)
    tensors = {
        "weight": np.random.default_rng(0).normal(size=(2, 3, 4)),
        "half": np.array([1, 2.5, -3], np.float16),
        "brain": np.array([1, 2.5, -3], jnp.bfloat16),
        "flags": np.array([True, False]),
        "count": np.array(7),
        "whole": base,
        "row": base[6:9],
        "transposed": base[4:16].reshape(3, 4).T,
        "repeated": np.broadcast_to(base[3:4], (5,)),
        "empty": np.zeros((0, 3), np.uint8),
    }
    checkpoint = {"epoch": 3, "best": NUMPY_SCALAR, "args": NAMESPACE, "lr": [0.1, (None, True)], "state_dict": tensors}
    write(tmp_path / "a.pth.tar", checkpoint)
    arrays = read_tensors(tmp_path / "a.pth.tar")
    assert list(arrays) == list(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
    assert np.shares_memory(arrays["row"], arrays["whole"])


def test_big_endian(tmp_path):
    array = np.arange(3, dtype=np.float32)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickled({"a": array}, []) + b".")
        archive.writestr("a/byteorder", "big")
        archive.writestr("a/data/0", array.astype(">f4").tobytes())
    np.testing.assert_array_equal(read_tensors(tmp_path / "a.pt")["a"], array)


def test_the_entry_with_the_weights_is_found_or_chosen(tmp_path):
    path = tmp_path / "a.pt"
    one, two = {"w": np.ones(1)}, {"w": np.full(1, 2.0)}
    for checkpoint in ({"ema": two, "model": one}, {"net": {"state_dict": one}}, {"mine": one, "epoch": 1}, one):
        write_zip(path, checkpoint)
        assert read_tensors(path)["w"] == 1
    write_zip(path, {"last": one, "best": two})
    assert read_tensors(path, entry="best")["w"] == 2
    with pytest.raises(ValueError, match="got last, best"):
        read_tensors(path)
    with pytest.raises(ValueError, match=r"no entry 'bes'\. Did you mean 'best'"):
        read_tensors(path, entry="bes")
    for nothing in ({"epoch": 3}, [1, 2]):
        write_zip(path, nothing)
        with pytest.raises(ValueError, match=r"Cannot read .*a\.pt as a PyTorch checkpoint: expected"):
            read_tensors(path)


COMMAND = b"X\x04\x00\x00\x00harm"
HARM = {
    "REDUCE": (b"cos\nsystem\n(" + COMMAND + b"tR", "call os.system"),
    "REDUCE of what the file defines": (b"X\x01\x00\x00\x00a" + b"(tR", "call a str"),
    "STACK_GLOBAL": (b"\x8c\x08builtins\x8c\x04eval\x93(" + COMMAND + b"tR", "call builtins.eval"),
    "a call within a call": (b"cbuiltins\ngetattr\n(cos\n__dict__\n" + COMMAND + b"tR(tR", "call builtins.getattr"),
    "INST": (b"(" + COMMAND + b"ios\nsystem\n", "call os.system"),
    "OBJ": (b"(cos\nsystem\n" + COMMAND + b"o", "call os.system"),
    "NEWOBJ": (b"cos\nsystem\n(" + COMMAND + b"t\x81", "call os.system"),
    "NEWOBJ_EX": (b"cos\nsystem\n(" + COMMAND + b"t}\x92", "call os.system"),
    "BUILD": (b"cos\nsystem\n}b", "set the state of os.system"),
    "an extension": (b"\x82\x01", "the instruction EXT1"),
    "a text as identifier": (b"Pharm\n", "the instruction PERSID"),
    "a module of PyTorch": (b"ctorch.nn.modules.linear\nLinear\n)\x81}b", "call torch.nn.modules.linear.Linear"),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("code", "message"), HARM.values(), ids=HARM)
def test_nothing_is_executed(tmp_path, monkeypatch, write, code, message):
    monkeypatch.setattr("os.system", lambda command: pytest.fail("executed"))
    monkeypatch.setattr("builtins.eval", lambda source: pytest.fail("executed"))
    write(tmp_path / "harmful.pt", {"state_dict": {"weight": np.ones(2)}, "other": Opcodes(code)})
    with pytest.raises(ValueError, match=rf"Refused .*harmful\.pt: it (would|has) {message}"):
        read_tensors(tmp_path / "harmful.pt")


@pytest.mark.parametrize("write", WRITERS)
def test_every_cut_is_noticed(tmp_path, write):
    write(tmp_path / "whole.pt", {"weight": np.arange(30.0)})
    content = (tmp_path / "whole.pt").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"(Cannot read|Refused) .*cut\.pt"):
            read_tensors(tmp_path / "cut.pt")


DAMAGE = {
    "other numbers": b"ctorch._utils\n_rebuild_tensor_v2\n(%sJ\x19\x00\x00\x00(J\x0a\x00\x00\x00t(K\x01tN)tR",
    "negative strides": b"ctorch._utils\n_rebuild_tensor_v2\n(%sK\x00(K\x02t(J\xff\xff\xff\xfftN)tR",
    "no storage": b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00(K\x02t(K\x01tN)tR",
    "axes without strides": b"ctorch._utils\n_rebuild_tensor_v2\n(%sK\x00(K\x02K\x03t(K\x01tN)tR",
    "an empty stack": b"000",
    "no such memo": b"h\x07",
    "no mark": b"t",
    "an odd number of items": b"}(K\x01u",
}


@pytest.mark.parametrize("code", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_an_error_that_names_the_file(tmp_path, code):
    storages = []
    storage = pickled(np.arange(30.0), storages).split(b"_rebuild_tensor_v2\n(")[1].split(b"Q")[0] + b"Q"
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"}X\x01\x00\x00\x00w" + code.replace(b"%s", storage) + b"s.")
        archive.writestr("a/data/0", storages[0].tobytes())
    with pytest.raises(ValueError, match=r"Cannot read .*a\.pt as a PyTorch checkpoint"):
        read_tensors(tmp_path / "a.pt")


def test_other_files(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(1))
    (tmp_path / "a.txt").write_text("not a checkpoint")
    (tmp_path / "a.bin").write_bytes(b"\x80\x02K\x01.")
    for name, message in (("a.npz", "expected a data.pkl"), ("a.txt", "neither"), ("a.bin", "not one of torch.save")):
        with pytest.raises(ValueError, match=rf"{name} as a PyTorch checkpoint: .*{message}"):
            read_tensors(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="No weights"):
        read_tensors(tmp_path / "none.pt")


def norms(name):
    return {f"{name}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")}


def pairs(*names):
    return {f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")}


def blocks(names, *, convolutions, shortcut):
    """Residual blocks, the last with a projection."""
    arrays = {f"{name}.conv{i}.weight" for name in names for i in range(1, convolutions + 1)}
    arrays |= set().union(*(norms(f"{name}.bn{i}") for name in names for i in range(1, convolutions + 1)))
    return arrays | {f"{names[-1]}.{shortcut}.weight"}


TIMM_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
TORCHVISION_BLOCK = ("ln_1", "self_attention.out_proj", "ln_2", "mlp.0", "mlp.3")
NORMALISED = {"mean": (0.0,), "std": (1.0,), "num_classes": 3}
RESNET = models.ResNet(stage_sizes=(1, 1), width=8, **NORMALISED)
WIDE = models.WideResNet(depth=10, width=1, **NORMALISED)
VIT = models.ViT(width=12, depth=2, heads=3, patch_size=4, **NORMALISED)
LAYERS = ("layer1.0", "layer2.0")

# A network, the side of its images, all names in PyTorch, and the logits that PyTorch computes of two images.
PUBLISHED = {
    "torchvision resnet18": (
        RESNET,
        16,
        blocks(LAYERS, convolutions=2, shortcut="downsample.0")
        | {"conv1.weight", *norms("bn1"), *norms("layer2.0.downsample.1"), *pairs("fc")},
        [[2.421696, 0.811089, 0.773668], [2.456051, 0.722357, 0.762442]],
    ),
    "torchvision resnet50": (
        RESNET.clone(block="bottleneck", stem="imagenet"),
        16,
        blocks(LAYERS, convolutions=3, shortcut="downsample.0")
        | {"conv1.weight", "layer1.0.downsample.0.weight", *norms("bn1"), *pairs("fc")}
        | {*norms("layer1.0.downsample.1"), *norms("layer2.0.downsample.1")},
        [[1.650692, -0.232742, 1.508254], [1.637348, -0.208137, 1.499556]],
    ),
    "robustbench ResNet": (
        RESNET,
        16,
        blocks(LAYERS, convolutions=2, shortcut="shortcut.0")
        | {"conv1.weight", *norms("bn1"), *norms("layer2.0.shortcut.1"), *pairs("linear")},
        [[1.54897, 0.473554, 0.628855], [1.559492, 0.502862, 0.630163]],
    ),
    "robustbench PreActResNet": (
        RESNET.clone(variant="preact"),
        16,
        blocks(LAYERS, convolutions=2, shortcut="shortcut.0") | {"conv1.weight", *norms("bn"), *pairs("linear")},
        [[1.161225, 0.661542, 1.37677], [1.182239, 0.670986, 1.376107]],
    ),
    "robustbench WideResNet": (
        WIDE,
        32,
        blocks(("block1.layer.0", "block2.layer.0", "block3.layer.0"), convolutions=2, shortcut="convShortcut")
        | {"conv1.weight", "block2.layer.0.convShortcut.weight", *norms("bn1"), *pairs("fc")},
        [[1.811398, 0.026889, 1.952388], [1.831721, 0.028751, 1.95524]],
    ),
    "robustbench DMWideResNet": (
        WIDE.clone(activation="silu", padding="end"),
        32,
        {f"layer.{i}.block.0.conv_{j}.weight" for i in range(3) for j in range(2)}
        | set().union(*(norms(f"layer.{i}.block.0.batchnorm_{j}") for i in range(3) for j in range(2)))
        | {"layer.1.block.0.shortcut.weight", "layer.2.block.0.shortcut.weight"}
        | {"init_conv.weight", *norms("batchnorm"), *pairs("logits")},
        [[1.175977, 0.694143, 0.435601], [1.183919, 0.700002, 0.432841]],
    ),
    "timm ViT": (
        VIT,
        8,
        pairs("patch_embed.proj", "norm", "head", *(f"blocks.{i}.{name}" for i in range(2) for name in TIMM_BLOCK))
        | {"cls_token", "pos_embed"},
        [[2.775696, 1.522198, 1.988109], [2.780692, 1.52155, 1.988208]],
    ),
    "torchvision ViT": (
        VIT,
        8,
        pairs("conv_proj", "encoder.ln", "heads.head")
        | pairs(*(f"encoder.layers.encoder_layer_{i}.{name}" for i in range(2) for name in TORCHVISION_BLOCK))
        | {f"encoder.layers.encoder_layer_{i}.self_attention.in_proj_{a}" for i in range(2) for a in ("weight", "bias")}
        | {"class_token", "encoder.pos_embedding"},
        [[1.553685, 2.441683, -1.89783], [1.575132, 2.145416, -1.956385]],
    ),
}


def drawn(name, shape):
    """Numbers that depend on the name alone, as they were given to PyTorch's networks."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 1:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def state_dict(model, side, names):
    """A network's arrays as PyTorch names and shapes them."""
    params, state = jax.eval_shape(lambda key: models.init(model, key, (side, side, 3)), jax.random.key(0))
    arrays = {}
    for path, leaf in jax.tree.flatten_with_path((params, state))[0]:
        variable = tuple(part.key for part in path[1:] if part.key != "batch_stats")
        item = counterpart(model, variable, leaf.shape)
        (name,) = set(item.names) & names
        arrays[name] = drawn(name, item.torch_shape)
    return arrays


@pytest.mark.parametrize(("model", "side", "names", "logits"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_names_give_the_logits_of_pytorch(tmp_path, model, side, names, logits):
    arrays = state_dict(model, side, names)
    assert set(arrays) == names
    write_zip(tmp_path / "a.pt", {"model": {f"module.{name}": array for name, array in arrays.items()}})
    params, state = models.load_weights(tmp_path / "a.pt", model, (side, side, 3))
    images = np.random.default_rng(0).uniform(size=(2, side, side, 3)).astype(np.float32)
    found = jax.jit(models.predictor(model, {"params": params, **state}))(images)
    np.testing.assert_allclose(found, logits, atol=1e-4)


MODEL, SIDE, NAMES, _ = PUBLISHED["robustbench WideResNet"]
SHAPE = (SIDE, SIDE, 3)


@pytest.fixture
def arrays():
    return state_dict(MODEL, SIDE, NAMES)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "1.", "module.model."])
def test_wrappers_and_what_no_prediction_reads(tmp_path, arrays, prefix):
    path = tmp_path / "a.safetensors"
    wrapped = {prefix + name: array for name, array in arrays.items()}
    idle = {
        f"{prefix}bn1.num_batches_tracked": np.array(3),
        f"{prefix}sub_block1.layer.0.conv1.weight": np.ones((16, 16, 3, 3), np.float32),
        "normalize.mean": np.zeros((1, 3, 1, 1), np.float32),
        "sigma": np.ones((3, 1, 1), np.float32),
        **{f"attacker.model.{name}": array for name, array in arrays.items()},
    }
    save_file(wrapped | idle, path)
    report = models.inspect_weights(path, MODEL, SHAPE)
    assert report.fits
    assert {name for _, name in report.matched} == set(wrapped)
    assert set(report.ignored) == set(idle)
    changed = {"attacker.model.fc.bias": np.zeros(3, np.float32)}
    save_file(wrapped | idle | changed, path)
    assert set(models.inspect_weights(path, MODEL, SHAPE).unexpected) == {f"attacker.model.{name}" for name in arrays}


def test_normalisation_of_another_kind_is_an_error(tmp_path, arrays):
    path = tmp_path / "a.pt"
    write_zip(path, arrays | {"mu": np.array([0.25, 0.5, 0.75])[:, None, None], "sigma": np.ones(3)})
    with pytest.raises(ValueError, match=r"'mu' to equal the network's \(0.0, 0.0, 0.0\), got \(0.25, 0.5, 0.75\)"):
        models.load_weights(path, MODEL, SHAPE)
    models.load_weights(path, MODEL.clone(mean=(0.25, 0.5, 0.75), std=(1.0, 1.0, 1.0)), SHAPE)


def test_report_of_what_does_not_fit(tmp_path, arrays):
    path = tmp_path / "a.pt"
    arrays["block1.layer.0.conv_1.weight"] = arrays.pop("block1.layer.0.conv1.weight")
    arrays["fc.bias"] = np.zeros(4, np.float32)
    write_zip(path, arrays)
    report = models.inspect_weights(path, MODEL, SHAPE)
    assert not report.fits
    assert report.missing == ("block1.layer.0.conv1.weight",)
    assert report.unexpected == ("block1.layer.0.conv_1.weight",)
    assert report.mismatched == (("fc.bias", (3,), (4,)),)
    assert len(report.matched) == len(arrays) - 2
    message = r"Missing: 'block1\.layer\.0\.conv1\.weight'\. Did you mean 'block1\.layer\.0\.conv_1\.weight'\?"
    with pytest.raises(
        ValueError, match=rf"{message} .*'fc\.bias' of shape \(3,\), got \(4,\)\. Not expected: 'block1"
    ):
        models.load_weights(path, MODEL, SHAPE)
    write_zip(path, {"stages.0.weight": np.ones(3), "stages.1.weight": np.ones(3)})
    with pytest.raises(ValueError, match=r"not those of torchvision, timm or RobustBench .* 'stages\.0\.weight'"):
        models.load_weights(path, MODEL, SHAPE)


def test_networks_that_differ_are_not_mixed_up(tmp_path):
    """The same names in files of networks that compute something else."""
    equalised = models.Equalised(WIDE, tiles=(2, 2))
    network, side, names, _ = PUBLISHED["robustbench WideResNet"]
    write_zip(tmp_path / "a.pt", state_dict(network, side, names))
    assert models.inspect_weights(tmp_path / "a.pt", equalised, (side, side, 3)).fits
    for source, model in (
        ("robustbench DMWideResNet", WIDE),
        ("robustbench WideResNet", WIDE.clone(padding="end")),
        ("robustbench PreActResNet", RESNET),
        ("robustbench ResNet", RESNET.clone(variant="preact")),
        ("robustbench ResNet", RESNET.clone(norm="group")),
        ("timm ViT", VIT.clone(pooling="mean")),
    ):
        network, side, names, _ = PUBLISHED[source]
        write_zip(tmp_path / "a.pt", state_dict(network, side, names))
        assert not models.inspect_weights(tmp_path / "a.pt", model, (side, side, 3)).fits, (source, model)


def test_published_resnet20_classifies_lossless_cifar10(shared_data):
    tfds = pytest.importorskip("tensorflow_datasets")
    model = models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    folder = shared_data / "tfds" / "cifar10_lossless4000" / "1.0.0"
    source = tfds.builder_from_directory(str(folder)).as_data_source(split="train")
    examples = [source[i] for i in range(500)]
    weights = shared_data.parent / "weights" / "cifar_resnet20.safetensors"
    params, state = models.load_weights(weights, model, (32, 32, 3))
    images = jnp.asarray(np.stack([e["image"] for e in examples]), jnp.float32) / 255
    logits = jax.jit(models.predictor(model, {"params": params, **state}))(images)
    # These are training images, all of which the published network classifies correctly.
    np.testing.assert_array_equal(logits.argmax(-1), [e["label"] for e in examples])
    of_pytorch = [-12.44919, -5.69823, -0.65897, 9.12066, 0.71100, 4.55526, 19.82787, 0.38097, -6.64090, -9.11281]
    np.testing.assert_allclose(logits[0], of_pytorch, atol=1e-4)


def test_published_weights_that_do_not_fit_are_named(shared_data, tmp_path):
    weights = shared_data.parent / "weights" / "cifar_resnet20.safetensors"
    shape = (32, 32, 3)
    with pytest.raises(ValueError, match=r"Missing: 'layer1\.3\.bn1\.running_mean', .* more\."):
        models.load_weights(weights, models.cifar_resnet(26), shape)
    with pytest.raises(ValueError, match=r"Not expected: 'layer1\.2\."):
        models.load_weights(weights, models.cifar_resnet(14), shape)
    with pytest.raises(ValueError, match=r"Expected 'linear\.bias' of shape \(7,\), got \(10,\)"):
        models.load_weights(weights, models.cifar_resnet(20, num_classes=7), shape)
    with pytest.raises(FileNotFoundError, match="No weights"):
        models.load_weights(tmp_path / "none.safetensors", models.cifar_resnet(20), shape)
    with pytest.raises(ValueError, match="Expected entry=None"):
        models.load_weights(weights, models.cifar_resnet(20), shape, entry="ema")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        models.load_weights(tmp_path / "cut.safetensors", models.cifar_resnet(20), shape)
