"""What ``robust-jax corrupt`` writes: image files or CIFAR-10-C style arrays, each whole or absent; a contact sheet."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from robust_jax.commands.corrupt_inputs import Decoded, Item

LABELS = "labels.npy"
GALLERY = "gallery.png"
# Of PNG: noise hardly compresses, and higher levels take three times as long for a few percent.
COMPRESSION = 3
CELL, GAP, TITLE = 192, 4, 22


class Outputs(Protocol):
    """Where corrupted images go; every method may be called from several threads."""

    def pending(self, item: Item, corruption: str) -> tuple[float, ...]:
        """The severities of which there is no output yet."""
        ...

    def write(self, item: Item, corruption: str, images: Mapping[float, np.ndarray], clean: Decoded) -> None:
        """Keeps the images of some severities."""

    def finish(self, corruption: str) -> None:
        """Called when nothing more will come."""

    def read(self, item: Item, corruption: str, severity: float) -> UInt8[np.ndarray, "h w c"] | None:
        """An image as kept, None where there is none."""


class Files:
    """``OUT/CORRUPTION/SEVERITY/NAME``: the layout of ImageNet-C; the format is that of the name."""

    def __init__(self, folder: Path, severities: Sequence[float], quality: int):
        self.folder = folder
        self.severities = tuple(severities)
        self.quality = quality

    def path(self, item: Item, corruption: str, severity: float) -> Path:
        """Where an image goes."""
        return self.folder / corruption / f"{severity:g}" / item.name

    def pending(self, item: Item, corruption: str) -> tuple[float, ...]:
        """The severities whose file is missing."""
        return tuple(s for s in self.severities if not self.path(item, corruption, s).exists())

    def write(self, item: Item, corruption: str, images: Mapping[float, np.ndarray], clean: Decoded) -> None:
        """Writes a file per severity."""
        for severity, pixels in images.items():
            path = self.path(item, corruption, severity)
            replace_file(path, encode(pixels, path.suffix, quality=self.quality, metadata=clean.metadata))

    def finish(self, corruption: str) -> None:
        """Nothing is left to do."""

    def read(self, item: Item, corruption: str, severity: float) -> UInt8[np.ndarray, "h w c"] | None:
        """Decodes a file."""
        path = self.path(item, corruption, severity)
        if not path.exists():
            return None
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))


class Arrays:
    """``OUT/CORRUPTION.npy``, uint8 [severities · n, h, w, c], severity by severity, and ``OUT/labels.npy``.

    While one is being made it is ``.CORRUPTION.npy.partial``, with a byte for each image that is done beside it.
    """

    def __init__(self, folder: Path, severities: Sequence[float], items: Sequence[Item], labels: Sequence[int] | None):
        self.folder = folder
        self.severities = tuple(severities)
        self.shape = (len(self.severities) * len(items), *items[0].shape)
        self.count = len(items)
        self.open: dict[str, tuple[np.memmap, np.memmap]] = {}
        self.lock = threading.Lock()
        if labels is not None:
            buffer = io.BytesIO()
            np.save(buffer, np.tile(np.asarray(labels, np.int64), len(self.severities)))
            replace_file(folder / LABELS, buffer.getvalue())

    def path(self, corruption: str) -> Path:
        """The array of a corruption."""
        return self.folder / f"{corruption}.npy"

    def pending(self, item: Item, corruption: str) -> tuple[float, ...]:
        """All severities, or none."""
        if self.path(corruption).exists() or self._arrays(corruption)[1][item.index]:
            return ()
        return self.severities

    def write(self, item: Item, corruption: str, images: Mapping[float, np.ndarray], clean: Decoded) -> None:
        """Puts one image in its places."""
        del clean
        array, done = self._arrays(corruption)
        for number, severity in enumerate(self.severities):
            array[number * self.count + item.index] = images[severity]
        done[item.index] = 1

    def finish(self, corruption: str) -> None:
        """Gives a complete array its name."""
        if self.path(corruption).exists():
            return
        array, done = self._arrays(corruption)
        if done.all():
            array.flush()
            partial, flags = self._partial(corruption)
            partial.replace(self.path(corruption))
            flags.unlink()

    def read(self, item: Item, corruption: str, severity: float) -> UInt8[np.ndarray, "h w c"] | None:
        """One image of an array."""
        if not self.path(corruption).exists():
            return None
        array = np.load(self.path(corruption), mmap_mode="r", allow_pickle=False)
        return np.asarray(array[self.severities.index(severity) * self.count + item.index])

    def _partial(self, corruption: str) -> tuple[Path, Path]:
        return self.folder / f".{corruption}.npy.partial", self.folder / f".{corruption}.npy.done"

    def _arrays(self, corruption: str) -> tuple[np.memmap, np.memmap]:
        with self.lock:
            if corruption not in self.open:
                partial, flags = self._partial(corruption)
                # The flags are made last: where they are, so is an array.
                mode = "r+" if partial.exists() and flags.exists() else "w+"
                array = np.lib.format.open_memmap(partial, mode, np.uint8, None if mode == "r+" else self.shape)
                self.open[corruption] = (array, np.memmap(flags, np.uint8, mode, shape=(self.count,)))
            return self.open[corruption]


def encode(pixels: UInt8[np.ndarray, "h w c"], suffix: str, *, quality: int, metadata: Mapping) -> bytes:
    """An image in the format of a suffix; of ``quality`` where that is lossy."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    kind = Image.registered_extensions()[suffix.lower()]
    image.save(buffer, kind, quality=quality, compress_level=COMPRESSION, **metadata)
    return buffer.getvalue()


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; a partial one left by a kill is overwritten by the next attempt.

    Raises:
        OSError: naming the path, if the disk is full or cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        try:
            partial.write_bytes(content)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error


def contact_sheet(
    clean: UInt8[np.ndarray, "h w c"], rows: Mapping[str, Sequence[np.ndarray | None]], columns: Sequence[str]
) -> Image.Image:
    """A row per corruption: its name, the clean image and the corrupted ones, in cells whose longer side is ``CELL``.

    Args:
        clean: the image.
        rows: of each corruption the corrupted images; None leaves a cell empty.
        columns: titles of the columns of the corrupted images.
    """
    scale = CELL / max(clean.shape[:2])
    height, width = (max(1, round(side * scale)) for side in clean.shape[:2])
    font = ImageFont.load_default(TITLE * 0.65)
    label = 2 * GAP + int(max(font.getlength(name.replace("_", " ")) for name in [*rows, ""]))
    size = (label + (1 + len(columns)) * (width + GAP), TITLE + len(rows) * (height + GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("clean", *columns)):
        middle = label + column * (width + GAP) + width // 2
        draw.text((middle, TITLE // 2), title, "black", font, anchor="mm")
    for row, (name, images) in enumerate(rows.items()):
        top = TITLE + row * (height + GAP)
        draw.text((GAP, top + height // 2), name.replace("_", " "), "black", font, anchor="lm")
        for column, image in enumerate((clean, *images)):
            if image is not None:
                cell = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8))
                # Small images keep their pixels visible.
                method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
                sheet.paste(cell.resize((width, height), method), (label + column * (width + GAP), top))
    return sheet
