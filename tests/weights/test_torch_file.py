"""Reading PyTorch's files without PyTorch: what they hold, damage, and files that mean harm."""

import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from torch_checkpoints import Opcodes, pickled, write_legacy, write_zip

from robust_jax.weights.torch_file import read_tensors

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
    "REDUCE of what the file defines": (b"X\x01\x00\x00\x00a" + b"(tR", "'str' object is not callable"),
    "STACK_GLOBAL": (b"\x8c\x08builtins\x8c\x04eval\x93(" + COMMAND + b"tR", "call builtins.eval"),
    "a call within a call": (b"cbuiltins\ngetattr\n(cos\n__dict__\n" + COMMAND + b"tR(tR", "call builtins.getattr"),
    "INST": (b"(" + COMMAND + b"ios\nsystem\n", "call os.system"),
    "OBJ": (b"(cos\nsystem\n" + COMMAND + b"o", "call os.system"),
    "NEWOBJ": (b"cos\nsystem\n(" + COMMAND + b"t\x81", "call os.system"),
    "NEWOBJ_EX": (b"cos\nsystem\n(" + COMMAND + b"t}\x92", "call os.system"),
    "BUILD": (b"cos\nsystem\n}b", "set the state of os.system"),
    "an extension": (b"\x82\x01", "unregistered extension code 1"),
    "a text as identifier": (b"Pharm\n", "load an object from outside"),
    "a module of PyTorch": (b"ctorch.nn.modules.linear\nLinear\n)\x81}b", "call torch.nn.modules.linear.Linear"),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("code", "message"), HARM.values(), ids=HARM)
def test_nothing_is_executed(tmp_path, monkeypatch, write, code, message):
    monkeypatch.setattr("os.system", lambda command: pytest.fail("executed"))
    monkeypatch.setattr("builtins.eval", lambda source: pytest.fail("executed"))
    write(tmp_path / "harmful.pt", {"state_dict": {"weight": np.ones(2)}, "other": Opcodes(code)})
    with pytest.raises(ValueError, match=rf"(Refused|Cannot read) .*harmful\.pt.*: (it would )?{message}"):
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
