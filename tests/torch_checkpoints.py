"""Files as torch.save writes them, made without PyTorch."""

import struct
import zipfile
from typing import NamedTuple

import numpy as np

from robust_jax.weights.torch_file import MAGIC

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
