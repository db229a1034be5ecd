"""Tensors of PyTorch checkpoints, read without PyTorch and without running what a file asks for."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple, TypeGuard

import jax.numpy as jnp
import numpy as np

from robust_jax.core.checks import nearest
from robust_jax.weights.inert_pickle import Attributed, Global, Placeholder, Refused, build

MAGIC = 0x1950A86A20F9469CFC6C
ENTRIES = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights"),
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict"),
)
"""Where checkpoints keep the weights; averages, which may come beside them, last."""

STORAGES = {
    "torch.DoubleStorage": np.float64,
    "torch.FloatStorage": np.float32,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": jnp.bfloat16,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
}
PLACEHOLDERS = {
    *("argparse.Namespace", "builtins.set", "__builtin__.set", "torch.device", "_codecs.encode", "numpy.dtype"),
    *("numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct"),
    *("numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct"),
}
"""What makes the settings and scores that stand beside weights."""


class Storage(NamedTuple):
    """A run of numbers in the file."""

    key: str
    dtype: np.dtype
    start: int
    """Where it begins in the run of that key; not 0 for a view of another storage."""
    size: int


class Tensor(NamedTuple):
    """Which numbers of a storage make a tensor; offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(path: str | Path, *, entry: str | None = None) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by name, as in its state dict.

    Reads what ``torch.save`` writes since version 1.6 (a zip file) and wrote before (pickles in sequence). Numbers are
    read for the state dict alone, not for an optimiser beside it.

    Args:
        path: the file, of any suffix.
        entry: which entry of the checkpoint holds the weights. None takes the first there is of the usual ones
            (``state_dict``, ``model``, ``net``, …, averages last), else the checkpoint itself, else its only entry
            with tensors.

    Returns:
        Arrays of the file's shapes and types. They cannot be written to.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or no checkpoint; if it asks for a call that weights do not need, which is
            named; or if there is no such entry or more than one to choose from.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"No weights {path}.")
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(0)
            if start == b"PK\x03\x04":
                with zipfile.ZipFile(file) as archive:
                    return _read_zip(archive, entry)
            if start[:1] == b"\x80":
                return _read_pickles(file, entry)
            raise ValueError("it is neither a zip file nor a pickle.")
    except Refused as error:
        raise ValueError(f"Refused {path}: {error}") from error
    except (
        *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, MemoryError, RuntimeError),
        *(struct.error, zlib.error, zipfile.BadZipFile),
    ) as error:
        raise ValueError(f"Cannot read {path} as a PyTorch checkpoint: {error}") from error


def _read_zip(archive: zipfile.ZipFile, entry: str | None) -> dict[str, np.ndarray]:
    names = archive.namelist()
    folder = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
    if folder is None:
        raise ValueError(f"expected a data.pkl, got {', '.join(names[:5])}.")
    checkpoint = build(io.BytesIO(archive.read(f"{folder}data.pkl")), _stand_in, _storage)
    order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in names else b"little"
    tensors = _state_dict(checkpoint, entry)
    return _arrays(tensors, lambda key: archive.read(f"{folder}data/{key}"), little_endian=order == b"little")


def _read_pickles(file: IO[bytes], entry: str | None) -> dict[str, np.ndarray]:
    """The format before version 1.6: magic number, version, system, checkpoint, keys; then each key's numbers."""
    types: dict[str, np.dtype] = {}

    def storage(identifier: object) -> Storage:
        found = _storage(identifier)
        types[found.key] = found.dtype
        return found

    if build(file, _stand_in, storage) != MAGIC:
        raise ValueError("it is a pickle, but not one of torch.save.")
    build(file, _stand_in, storage)
    system = build(file, _stand_in, storage)
    if not isinstance(system, dict):
        raise ValueError("it does not describe the system that wrote it.")
    little_endian = system["little_endian"]
    tensors = _state_dict(build(file, _stand_in, storage), entry)
    keys = build(file, _stand_in, storage)
    if not isinstance(keys, list):
        raise ValueError("it does not list its storages.")
    needed = {tensor.storage.key for tensor in tensors.values()}
    contents: dict[str, bytes] = {}
    for key in keys:
        (size,) = struct.unpack("<q" if little_endian else ">q", file.read(8))
        expected = max(size, 0) * types[key].itemsize
        content = file.read(expected)
        if len(content) != expected:
            raise ValueError(f"expected {expected} bytes of storage {key!r}, got {len(content)}.")
        if key in needed:
            contents[key] = content
    return _arrays(tensors, contents.__getitem__, little_endian=little_endian)


def _stand_in(name: str, arguments: tuple[object, ...]) -> object:
    match name:
        case "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor":
            storage, offset, shape, strides = arguments[:4]
            if not (isinstance(storage, Storage) and _is_count(offset) and _are_counts(shape) and _are_counts(strides)):
                raise ValueError("a tensor lacks its storage, shape or strides.")
            return Tensor(storage, offset, tuple(shape), tuple(strides))
        case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state":
            return arguments[0]
        case "torch.Size":
            return _items(arguments[0])
        case "collections.OrderedDict":
            return Attributed(_items(arguments[0])) if arguments else Attributed()
        case "collections.defaultdict":
            return Attributed()
    if name in PLACEHOLDERS:
        return Placeholder(name)
    raise Refused(f"it would call {name}, which weights do not need.")


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _are_counts(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple | list) and all(map(_is_count, value))


def _items(value: object) -> tuple:
    if not isinstance(value, tuple | list):
        raise ValueError(f"expected a list, got a {type(value).__name__}.")
    return tuple(value)


def _storage(identifier: object) -> Storage:
    if not isinstance(identifier, tuple) or len(identifier) < 5:
        raise Refused("it would load an object from outside that is no storage.")
    kind, storage_type, key, _, size, *view = identifier
    if kind != "storage" or not isinstance(storage_type, Global) or not isinstance(key, str):
        raise ValueError("an object outside the pickle is no storage.")
    if storage_type.__name__ not in STORAGES:
        raise ValueError(f"unknown {storage_type.__name__}.{nearest(storage_type.__name__, STORAGES)}")
    start = 0
    if view and view[0] is not None:
        _, start, size = view[0]
    if type(start) is not int or type(size) is not int or min(start, size) < 0:
        raise ValueError(f"storage {key!r} has no size.")
    return Storage(key, np.dtype(STORAGES[storage_type.__name__]), start, size)


def _state_dict(checkpoint: object, entry: str | None) -> dict[str, Tensor]:
    """The tensors by name, of the checkpoint or of an entry, which may have entries too."""
    if not isinstance(checkpoint, dict):
        raise ValueError(f"expected a dictionary of tensors, got a {type(checkpoint).__name__}.")
    if entry is not None:
        if entry not in checkpoint:
            raise ValueError(f"it has no entry {entry!r}.{nearest(entry, map(str, checkpoint))}")
        return _state_dict(checkpoint[entry], None)
    nested = [str(name) for name, value in checkpoint.items() if _holds_tensors(value, depth=2)]
    usual = [name for name in ENTRIES if name in nested]
    tensors = {str(name): value for name, value in checkpoint.items() if isinstance(value, Tensor)}
    if usual:
        return _state_dict(checkpoint[usual[0]], None)
    if tensors:
        return tensors
    if len(nested) == 1:
        return _state_dict(checkpoint[nested[0]], None)
    if nested:
        raise ValueError(f"expected one entry with weights, or the choice of one, got {', '.join(nested)}.")
    raise ValueError(f"expected tensors by name, got the entries {', '.join(map(str, checkpoint)) or 'of nothing'}.")


def _holds_tensors(value: object, depth: int) -> bool:
    return isinstance(value, dict) and any(
        isinstance(item, Tensor) or (depth > 1 and _holds_tensors(item, depth - 1)) for item in value.values()
    )


def _arrays(
    tensors: dict[str, Tensor], content: Callable[[str], bytes], *, little_endian: bool
) -> dict[str, np.ndarray]:
    """The tensors' numbers; those that share a storage share memory."""
    runs: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        key, dtype, start, size = tensor.storage
        if key not in runs:
            unsigned = np.dtype(f"u{dtype.itemsize}")
            raw = np.frombuffer(content(key), unsigned.newbyteorder("<" if little_endian else ">"))
            runs[key] = raw.astype(unsigned, copy=False).view(dtype)
        run = runs[key]
        if run.dtype != dtype or start + size > run.size:
            raise ValueError(f"{name!r} needs {start + size} numbers of {dtype}, got {run.size} of {run.dtype}.")
        arrays[name] = _strided(name, run[start : start + size], tensor)
    return arrays


def _strided(name: str, run: np.ndarray, tensor: Tensor) -> np.ndarray:
    _, offset, shape, strides = tensor
    if len(shape) != len(strides):
        raise ValueError(f"{name!r} has a shape of {len(shape)} axes and strides of {len(strides)}.")
    if 0 in shape:
        return np.zeros(shape, run.dtype)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if last >= run.size:
        raise ValueError(f"{name!r} needs {last + 1} numbers, got {run.size}.")
    return np.lib.stride_tricks.as_strided(
        run[offset:], shape, [stride * run.itemsize for stride in strides], writeable=False
    )
