"""What ``robust-jax corrupt`` reads: image files, arrays, data sets."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from robust_jax.core.checks import nearest
from robust_jax.data import Tfds
from robust_jax.data.folder import SUFFIXES

TFDS = "tfds:"
ARRAYS = (".npy", ".npz")
# ImageNet-C: the shorter side resized to 256, the middle 224 x 224 cut out.
MARGIN = 256 / 224
# Of an image file; kept, so that viewers turn and colour the corrupted image as they do the clean one.
METADATA = ("exif", "icc_profile")


@dataclasses.dataclass(frozen=True)
class Item:
    """One image to corrupt."""

    name: str
    """Path of its outputs inside the folder of a corruption and severity."""
    id: int
    """What its random numbers come from: CRC-32 of the name of a file, position in an array or data set."""
    index: int
    """Its position among all."""
    shape: tuple[int, int, int]
    label: int | None = None


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Pixels, and what else of the file is handed on."""

    pixels: UInt8[np.ndarray, "h w c"]
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """All images; ``read`` decodes one, and raises if it cannot be read."""

    items: tuple[Item, ...]
    read: Callable[[Item], Decoded]
    unreadable: dict[str, str]
    """Why images were left out, by name."""

    @property
    def labels(self) -> list[int] | None:
        """The labels of all images, None where there are none."""
        labels = [item.label for item in self.items if item.label is not None]
        return labels if len(labels) == len(self.items) else None


def open_inputs(
    source: str, *, size: int | None, split: str, data_dir: str | None, whole: bool, skip: Path, workers: int
) -> Inputs:
    """Lists the images of a source and their shapes.

    Args:
        source: an image file, a folder, a ``.npy`` or ``.npz`` file, or ``tfds:NAME``.
        size: cut to squares of this side; None leaves images as they are.
        split: of a data set, or of a ``.npz`` file that has several.
        data_dir: where data sets are.
        whole: decode every file now, to know of all that cannot be read; otherwise only headers are read.
        skip: a folder not to look into.
        workers: how many threads read.

    Raises:
        FileNotFoundError: if there is no such file, folder or data set, or it holds no images.
        ValueError: if it holds something else than 8-bit images.
    """
    if source.startswith(TFDS):
        return _open_tfds(source.removeprefix(TFDS), data_dir, split, size, workers)
    path = Path(source)
    if path.is_dir():
        return _open_files(path, _list_files(path, skip), size, whole, workers)
    if not path.is_file():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"No file or folder {source}.{nearest(path.name, siblings) if siblings else ''}")
    if path.suffix.lower() in ARRAYS:
        return _open_arrays(path, split, size)
    return _open_files(path.parent, [path], size, whole, workers)


def cut(image: Image.Image, size: int | None) -> Image.Image:
    """As images were prepared for ImageNet-C: bilinear, shorter side to 8/7 of the size, middle square of the size."""
    if size is None:
        return image
    target = round(size * MARGIN)
    sides = [target if side == min(image.size) else int(target * side / min(image.size)) for side in image.size]
    image = image.resize(sides, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in sides)
    return image.crop((left, top, left + size, top + size))


def decode(path: Path, size: int | None) -> Decoded:
    """The pixels of a file: one channel where it is grey, else RGB; transparency is dropped.

    Raises:
        OSError, ValueError or others of Pillow's: if it cannot be read, or has more than 8 bits a channel.
    """
    with Image.open(path) as image:
        mode = _mode(image)
        metadata = {name: image.info[name] for name in METADATA if image.info.get(name)}
        if image.mode == "P":
            image = image.convert("RGBA")
        pixels = np.asarray(cut(image.convert(mode), size))
    return Decoded(pixels.reshape(*pixels.shape[:2], -1), metadata)


def _mode(image: Image.Image) -> str:
    if image.mode[0] in "IF":
        raise ValueError(f"Expected 8 bits a channel, got mode {image.mode}.")
    return "L" if image.mode in ("1", "L", "LA") else "RGB"


def _shape(path: Path, size: int | None) -> tuple[int, int, int]:
    with Image.open(path) as image:
        width, height = (size, size) if size is not None else image.size
        return height, width, 1 if _mode(image) == "L" else 3


def _list_files(folder: Path, skip: Path) -> list[Path]:
    files, skip = [], skip.resolve()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if (Path(parent) / name).resolve() != skip)
        files += [Path(parent) / name for name in names if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
    if not files:
        raise FileNotFoundError(f"{folder} holds no images ({', '.join(SUFFIXES)}).")
    return sorted(files)


def _open_files(root: Path, files: Sequence[Path], size: int | None, whole: bool, workers: int) -> Inputs:
    names = [path.relative_to(root).as_posix() for path in files]
    classes = sorted({name.split("/")[0] for name in names if "/" in name})

    def inspect(path: Path) -> tuple[int, int, int] | str:
        try:
            return decode(path, size).pixels.shape if whole else _shape(path, size)
        except Exception as error:  # Pillow raises errors of many kinds for damaged files.
            return reason(error)

    with ThreadPoolExecutor(workers) as pool:
        shapes = list(pool.map(inspect, files))
    items, unreadable = [], {}
    for name, shape in zip(names, shapes, strict=True):
        if isinstance(shape, str):
            unreadable[name] = shape
            continue
        label = classes.index(name.split("/")[0]) if "/" in name else None
        items.append(Item(name, zlib.crc32(os.fsencode(name)), len(items), shape, label))
    return Inputs(tuple(items), lambda item: decode(root / item.name, size), unreadable)


def _open_arrays(path: Path, split: str, size: int | None) -> Inputs:
    images, labels = _load_npz(path, split) if path.suffix.lower() == ".npz" else _load_npy(path)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        raise ValueError(
            f"Expected uint8 images of shape [n, h, w], [n, h, w, 1] or [n, h, w, 3] in {path}, "
            f"got {images.dtype} {images.shape}."
        )
    if labels is not None and (labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
        raise ValueError(f"Expected {len(images)} integer labels in {path}, got {labels.dtype} {labels.shape}.")
    images = images.reshape(*images.shape[:3], -1)
    shape = (size or images.shape[1], size or images.shape[2], images.shape[3])
    items = _numbered([shape] * len(images), labels, None)
    return Inputs(items, lambda item: _cut_pixels(images[item.id], size), {})


def _load_npy(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    images = _load(path)
    labels = path.with_name("labels.npy")
    labels = _load(labels) if labels.is_file() and labels != path else None
    return images, labels if labels is not None and labels.shape == images.shape[:1] else None


def _load_npz(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    arrays = _load(path)
    names = [name for name in (f"{split}_images", "images") if name in arrays]
    names = names or [name for name in arrays.files if arrays[name].ndim in (3, 4)]
    if len(names) != 1 and names[:1] != [f"{split}_images"]:
        raise ValueError(
            f"Expected one array of images in {path}, called images or {split}_images, got {', '.join(arrays.files)}."
        )
    labels = names[0].replace("images", "labels")
    return arrays[names[0]], arrays[labels] if labels != names[0] and labels in arrays else None


def _load(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"Cannot read {path}: {error}") from error


def _open_tfds(name: str, data_dir: str | None, split: str, size: int | None, workers: int) -> Inputs:
    source = Tfds(name, data_dir=data_dir, test_split=split).load("test")

    def inspect(i: int) -> tuple[tuple[int, int, int], int] | str:
        try:
            image, label = source.read(i)
        except ValueError as error:
            return reason(error)
        return (size or image.shape[0], size or image.shape[1], min(image.shape[2], 3)), int(label)

    with ThreadPoolExecutor(workers if source.threaded else 1) as pool:
        found = list(pool.map(inspect, range(len(source))))
    unreadable = {f"{name}/{split} {i}": why for i, why in enumerate(found) if isinstance(why, str)}
    shapes, labels = zip(*((None, 0) if isinstance(pair, str) else pair for pair in found), strict=True)
    items = _numbered(shapes, labels, source.class_names)
    return Inputs(items, lambda item: _cut_pixels(source.read(item.id)[0][..., :3], size), unreadable)


def _numbered(
    shapes: Sequence, labels: Sequence[int] | np.ndarray | None, class_names: Sequence[str] | None
) -> tuple[Item, ...]:
    """Items of an array: ``CLASS/00017.png``, or without labels ``00017.png``."""
    digits = max(5, len(str(len(shapes) - 1)))
    items = []
    for i, shape in enumerate(shapes):
        if shape is None:
            continue
        name, label = f"{i:0{digits}d}.png", None
        if labels is not None:
            label = int(labels[i])
            name = f"{str(class_names[label]).replace('/', '_') if class_names else label}/{name}"
        items.append(Item(name, i, len(items), shape, label))
    return tuple(items)


def _cut_pixels(pixels: np.ndarray, size: int | None) -> Decoded:
    if size is None:
        return Decoded(np.asarray(pixels))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return Decoded(np.asarray(cut(image, size)).reshape(size, size, -1))


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
