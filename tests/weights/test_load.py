"""Weights from files, by the names that several libraries give them."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_checkpoints import write_zip

from robust_jax import models
from robust_jax.weights import inspect_weights, load_weights
from robust_jax.weights.torch_names import counterpart


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
    params, state = load_weights(tmp_path / "a.pt", model, (side, side, 3))
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
    report = inspect_weights(path, MODEL, SHAPE)
    assert report.fits
    assert {name for _, name in report.matched} == set(wrapped)
    assert set(report.ignored) == set(idle)
    changed = {"attacker.model.fc.bias": np.zeros(3, np.float32)}
    save_file(wrapped | idle | changed, path)
    assert set(inspect_weights(path, MODEL, SHAPE).unexpected) == {f"attacker.model.{name}" for name in arrays}


def test_normalisation_of_another_kind_is_an_error(tmp_path, arrays):
    path = tmp_path / "a.pt"
    write_zip(path, arrays | {"mu": np.array([0.25, 0.5, 0.75])[:, None, None], "sigma": np.ones(3)})
    with pytest.raises(ValueError, match=r"'mu' to equal the network's \(0.0, 0.0, 0.0\), got \(0.25, 0.5, 0.75\)"):
        load_weights(path, MODEL, SHAPE)
    load_weights(path, MODEL.clone(mean=(0.25, 0.5, 0.75), std=(1.0, 1.0, 1.0)), SHAPE)


def test_report_of_what_does_not_fit(tmp_path, arrays):
    path = tmp_path / "a.pt"
    arrays["block1.layer.0.conv_1.weight"] = arrays.pop("block1.layer.0.conv1.weight")
    arrays["fc.bias"] = np.zeros(4, np.float32)
    write_zip(path, arrays)
    report = inspect_weights(path, MODEL, SHAPE)
    assert not report.fits
    assert report.missing == ("block1.layer.0.conv1.weight",)
    assert report.unexpected == ("block1.layer.0.conv_1.weight",)
    assert report.mismatched == (("fc.bias", (3,), (4,)),)
    assert len(report.matched) == len(arrays) - 2
    message = r"Missing: 'block1\.layer\.0\.conv1\.weight'\. Did you mean 'block1\.layer\.0\.conv_1\.weight'\?"
    with pytest.raises(
        ValueError, match=rf"{message} .*'fc\.bias' of shape \(3,\), got \(4,\)\. Not expected: 'block1"
    ):
        load_weights(path, MODEL, SHAPE)
    write_zip(path, {"stages.0.weight": np.ones(3), "stages.1.weight": np.ones(3)})
    with pytest.raises(ValueError, match=r"not those of torchvision, timm or RobustBench .* 'stages\.0\.weight'"):
        load_weights(path, MODEL, SHAPE)


def test_networks_that_differ_are_not_mixed_up(tmp_path):
    """The same names in files of networks that compute something else."""
    equalised = models.Equalised(WIDE, tiles=(2, 2))
    network, side, names, _ = PUBLISHED["robustbench WideResNet"]
    write_zip(tmp_path / "a.pt", state_dict(network, side, names))
    assert inspect_weights(tmp_path / "a.pt", equalised, (side, side, 3)).fits
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
        assert not inspect_weights(tmp_path / "a.pt", model, (side, side, 3)).fits, (source, model)


def test_published_resnet20_classifies_lossless_cifar10(shared_data):
    tfds = pytest.importorskip("tensorflow_datasets")
    model = models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    folder = shared_data / "tfds" / "cifar10_lossless4000" / "1.0.0"
    source = tfds.builder_from_directory(str(folder)).as_data_source(split="train")
    examples = [source[i] for i in range(500)]
    weights = shared_data.parent / "weights" / "cifar_resnet20.safetensors"
    params, state = load_weights(weights, model, (32, 32, 3))
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
        load_weights(weights, models.cifar_resnet(26), shape)
    with pytest.raises(ValueError, match=r"Not expected: 'layer1\.2\."):
        load_weights(weights, models.cifar_resnet(14), shape)
    with pytest.raises(ValueError, match=r"Expected 'linear\.bias' of shape \(7,\), got \(10,\)"):
        load_weights(weights, models.cifar_resnet(20, num_classes=7), shape)
    with pytest.raises(FileNotFoundError, match="No weights"):
        load_weights(tmp_path / "none.safetensors", models.cifar_resnet(20), shape)
    with pytest.raises(ValueError, match="Expected entry=None"):
        load_weights(weights, models.cifar_resnet(20), shape, entry="ema")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_weights(tmp_path / "cut.safetensors", models.cifar_resnet(20), shape)
