"""Weights from files: PyTorch's formats without PyTorch, the names of several libraries, and files that mean harm."""

import io
import os
import pickle
import re
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from robust_jax import models
from robust_jax.models.torch_file import MAGIC, read_tensors
from robust_jax.models.weights import _read, torch_names

STORAGES = {
    "<f4": "FloatStorage",
    "<f8": "DoubleStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "|b1": "BoolStorage",
}


class Storage:
    def __init__(self, array, key):
        self.array, self.key = array, key


class Tensor:
    """A view of a storage, pickled as PyTorch does."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = storage, offset, shape, strides, False, OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture
def torch_modules(monkeypatch):
    """Modules with the names that checkpoints refer to, so that pickle can write them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise AssertionError("called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


def pickled(torch, tree, protocol=2, legacy=False):
    """The pickle of a tree, and its storages in order."""
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            storages[value.key] = value.array
            kind = getattr(torch, STORAGES[value.array.dtype.str])
            identifier = ("storage", kind, value.key, "cpu", value.array.size)
            return (*identifier, None) if legacy else identifier

    buffer = io.BytesIO()
    Pickler(buffer, protocol).dump(tree)
    return buffer.getvalue(), storages


def write_zip(torch, path, tree, protocol=2):
    data, storages = pickled(torch, tree, protocol)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", data)
        archive.writestr("weights/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"weights/data/{key}", array.tobytes())


def write_legacy(torch, path, tree, protocol=2):
    data, storages = pickled(torch, tree, protocol, legacy=True)
    parts = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
    parts += [data, pickle.dumps(sorted(storages), 2)]
    for key in sorted(storages):
        parts += [struct.pack("<q", storages[key].size), storages[key].tobytes()]
    path.write_bytes(b"".join(parts))


def tensor(array, key):
    strides = [stride // array.itemsize for stride in array.copy().strides]
    return Tensor(Storage(np.ascontiguousarray(array).ravel(), key), 0, array.shape, tuple(strides))


WRITERS = {"zip": write_zip, "legacy": write_legacy}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_both_formats(torch_modules, tmp_path, writer):
    """Types, views with strides and offsets, shared storages, scalars, and what else a checkpoint holds."""
    rng = np.random.default_rng(0)
    shared = Storage(np.arange(24, dtype="<f4"), "shared")
    state = OrderedDict(
        weight=tensor(rng.normal(size=(2, 3, 4)).astype("<f4"), "0"),
        half=tensor(rng.normal(size=5).astype("<f2"), "1"),
        double=tensor(rng.normal(size=5).astype("<f8"), "2"),
        count=tensor(np.array(7, "<i8"), "3"),
        flags=tensor(np.array([True, False]), "4"),
        transposed=Tensor(shared, 4, (4, 3), (1, 4)),
        same=Tensor(shared, 0, (24,), (1,)),
        empty=Tensor(shared, 0, (0, 3), (3, 1)),
    )
    path = tmp_path / "checkpoint.pt"
    writer(torch_modules, path, {"epoch": 3, "best": 0.5, "state_dict": state, "names": ["a", ("b", None, True)]})
    arrays = read_tensors(path)
    assert list(arrays) == list(state)
    for name in ("weight", "half", "double", "count", "flags"):
        storage, _, shape, *_ = state[name].arguments
        np.testing.assert_array_equal(arrays[name], storage.array.reshape(shape))
        assert arrays[name].dtype == storage.array.dtype
    np.testing.assert_array_equal(arrays["transposed"], np.arange(4, 16).reshape(3, 4).T)
    np.testing.assert_array_equal(arrays["same"], np.arange(24))
    assert arrays["empty"].shape == (0, 3)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "1."])
def test_wrappers_are_taken_off(torch_modules, tmp_path, prefix):
    state = {f"{prefix}layer{i}.weight": tensor(np.ones(2, "<f4"), str(i)) for i in range(12)}
    state["mu"] = tensor(np.ones(3, "<f4"), "mu")
    write_zip(torch_modules, tmp_path / "a.pth", state)
    assert set(_read(tmp_path / "a.pth")) == {"mu", *(f"layer{i}.weight" for i in range(12))}


class Harm:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("writer", ["zip", "legacy"])
def test_nothing_is_executed(torch_modules, tmp_path, protocol, writer):
    harm = tmp_path / "harm"
    for function, argument in ((os.system, f"touch {harm}"), (eval, f"open({str(harm)!r}, 'w')")):
        tree = {"state_dict": {"weight": Harm(function, argument)}}
        path = tmp_path / "harmful.pt"
        if writer == "zip":
            write_zip(torch_modules, path, tree, protocol)
        else:
            write_legacy(torch_modules, path, tree, protocol)
        with pytest.raises(ValueError, match=rf"Refused .*harmful\.pt: it would call \w+\.{function.__name__}"):
            read_tensors(path)
    assert not harm.exists()


OPCODES = {
    "INST": b"(S'touch harm'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch harm'\no.",
    "NEWOBJ": b"cos\nsystem\n(S'touch harm'\nt\x81.",
    "BUILD": b"cos\nenviron\n}S'a'\nS'b'\nsb.",
    "a call of a call": b"cbuiltins\ngetattr\n(cos\nsystem\ntR(tR.",
    "no end": b"}",
}


@pytest.mark.parametrize("data", OPCODES.values(), ids=OPCODES)
def test_other_ways_to_call_are_refused(tmp_path, data):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", data)
    with pytest.raises(ValueError, match=r"Refused .*a\.pt|a\.pt is not a whole PyTorch checkpoint"):
        read_tensors(tmp_path / "a.pt")


def test_damaged_checkpoints(torch_modules, tmp_path):
    path = tmp_path / "a.pt"
    state = {"weight": tensor(np.arange(100, dtype="<f4"), "0")}
    write_zip(torch_modules, path, state)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"a\.pt"):
        read_tensors(path)
    write_legacy(torch_modules, path, state)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match="bytes of storage '0'"):
        read_tensors(path)
    for view in ((90, (20,), (1,)), (0, (4,), (-1,)), (0, (2, 2), (1, 99))):
        write_zip(torch_modules, path, {"weight": Tensor(Storage(np.ones(100, "<f4"), "0"), *view)})
        with pytest.raises(ValueError, match="not a whole PyTorch checkpoint"):
            read_tensors(path)
    write_zip(torch_modules, path, {"epoch": 3})
    with pytest.raises(ValueError, match="expected tensors by name"):
        read_tensors(path)
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(ValueError, match=r"a\.pt is not a whole PyTorch checkpoint"):
        read_tensors(path)
    with pytest.raises(FileNotFoundError, match="No weights"):
        read_tensors(tmp_path / "none.pt")


NETWORKS = {
    "resnet": (models.ResNet(stage_sizes=(1, 1), width=8, num_classes=3), (16, 16, 3), 2),
    "bottleneck": (models.ResNet(stage_sizes=(1, 1), width=8, block="bottleneck", num_classes=3), (16, 16, 3), 2),
    "preact": (models.ResNet(stage_sizes=(1, 1), width=8, variant="preact", num_classes=3), (16, 16, 3), 2),
    "wide_resnet": (models.WideResNet(depth=10, width=1, num_classes=3), (16, 16, 3), 2),
    "vit": (models.ViT(width=8, depth=2, heads=2, num_classes=3), (8, 8, 3), 2),
}


def in_torch_naming(variables, scheme):
    """A network's variables as a state dict of one library: the first or the last name of each."""
    arrays = {}
    for keys, leaf in jax.tree.flatten_with_path(variables)[0]:
        path, array = tuple(key.key for key in keys[1:]), np.asarray(leaf)
        if "attention" in path:
            width = array.shape[-1] if path[2] == "out" else array.size if path[-1] == "bias" else array.shape[0]
            array = array.reshape(-1) if path[-1] == "bias" else array.reshape(width, width).T
        elif path[-1] == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        name = torch_names(path)[0 if scheme == "first" else -1]
        if "attention" in path and path[2] != "out":
            arrays.setdefault(name, {})[path[-2]] = array
        else:
            arrays[name] = array
    for name, parts in arrays.items():
        if isinstance(parts, dict):
            arrays[name] = np.concatenate([parts[part] for part in ("query", "key", "value")])
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


@pytest.mark.parametrize("scheme", ["first", "last"])
@pytest.mark.parametrize(("model", "shape", "seed"), NETWORKS.values(), ids=NETWORKS)
def test_every_network_by_the_names_of_several_libraries(tmp_path, torch_modules, model, shape, seed, scheme):
    params, state = models.init(model, jax.random.key(seed), shape)
    variables = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.arange(leaf.size).reshape(leaf.shape), {"params": params, **state}
    )
    arrays = in_torch_naming(variables, scheme)
    path = tmp_path / "weights.safetensors"
    save_file({**arrays, "bn1.num_batches_tracked": np.array(3)}, path)
    loaded, loaded_state = models.load_weights(path, model, shape)
    jax.tree.map(np.testing.assert_array_equal, {"params": loaded, **loaded_state}, dict(variables))
    report = models.inspect_weights(path, model, shape)
    assert report.fits
    assert set(report.matched) == set(arrays)
    write_zip(
        torch_modules, tmp_path / "a.pt", {f"module.{name}": tensor(array, name) for name, array in arrays.items()}
    )
    jax.tree.map(np.testing.assert_array_equal, models.load_weights(tmp_path / "a.pt", model, shape)[0], loaded)


def test_names_are_those_published():
    """As they stand in the files of torchvision, timm and RobustBench."""
    assert torch_names(("stage2_block1", "shortcut_conv", "kernel"))[0] == "layer2.0.downsample.0.weight"
    assert "block2.layer.0.convShortcut.weight" in torch_names(("stage2_block1", "shortcut_conv", "kernel"))
    assert "block3.layer.1.bn2.running_var" in torch_names(("stage3_block2", "norm2", "var"))
    assert "blocks.3.attn.qkv.weight" in torch_names(("block3", "attention", "key", "kernel"))
    mixed = torch_names(("block3", "attention", "value", "bias"))
    assert "encoder.layers.encoder_layer_3.self_attention.in_proj_bias" in mixed
    assert "encoder.layers.encoder_layer_0.mlp.3.weight" in torch_names(("block0", "mlp1", "kernel"))
    assert torch_names(("positions",)) == ["pos_embed", "encoder.pos_embedding"]
    assert "patch_embed.proj.bias" in torch_names(("embedding", "bias"))


def test_normalisation_in_the_file_must_be_the_models(tmp_path):
    fields = {"stage_sizes": (1, 1), "width": 8, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)}
    model = models.ResNet(**fields)
    params, state = models.init(model, jax.random.key(0), (16, 16, 3))
    arrays = in_torch_naming({"params": params, **state}, "first")
    path = tmp_path / "weights.safetensors"
    mean, std = np.array([0.1, 0.2, 0.3], np.float32), np.full(3, 0.5, np.float32)
    save_file({**arrays, "mu": mean.reshape(1, 3, 1, 1), "sigma": std}, path)
    models.load_weights(path, model, (16, 16, 3))
    other = models.ResNet(**{**fields, "mean": (0.4, 0.4, 0.4)})
    with pytest.raises(ValueError, match=r"Expected mean=.0\.1"):
        models.load_weights(path, other, (16, 16, 3))


def test_a_report_of_what_does_not_fit(tmp_path):
    model = models.ResNet(stage_sizes=(1, 1), width=8)
    params, state = models.init(model, jax.random.key(0), (16, 16, 3))
    arrays = in_torch_naming({"params": params, **state}, "first")
    arrays["layer1.0.conv_1.weight"] = arrays.pop("layer1.0.conv1.weight")
    arrays["fc.bias"] = np.zeros(4, np.float32)
    path = tmp_path / "weights.safetensors"
    save_file(arrays, path)
    report = models.inspect_weights(path, model, (16, 16, 3))
    assert not report.fits
    assert report.missing == ("'layer1.0.conv1.weight'",)
    assert report.unexpected == ("layer1.0.conv_1.weight",)
    assert "'fc.bias'" in report.mismatched[0]
    assert str(report).count("\n") == 3
    with pytest.raises(ValueError, match=re.escape("Did you mean 'layer1.0.conv_1.weight'?")):
        models.load_weights(path, model, (16, 16, 3))
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Unknown kind of weights file '\.npz'"):
        models.load_weights(tmp_path / "a.npz", model, (16, 16, 3))


def test_weights_that_do_not_fit_are_named(shared_data, tmp_path):
    weights = shared_data.parent / "weights" / "cifar_resnet20.safetensors"
    shape = (32, 32, 3)
    with pytest.raises(ValueError, match=r"has no array 'layer1\.3\.bn1"):
        models.load_weights(weights, models.cifar_resnet(26), shape)
    with pytest.raises(ValueError, match="holds arrays that ResNet does not have: layer1"):
        models.load_weights(weights, models.cifar_resnet(14), shape)
    with pytest.raises(ValueError, match=r"Expected 'linear\.bias' .* to give shape \(7,\), got \(10,\)"):
        models.load_weights(weights, models.cifar_resnet(20, num_classes=7), shape)
    with pytest.raises(FileNotFoundError, match="No weights"):
        models.load_weights(tmp_path / "none.safetensors", models.cifar_resnet(20), shape)
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        models.load_weights(tmp_path / "cut.safetensors", models.cifar_resnet(20), shape)
