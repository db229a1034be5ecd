"""Folders of images with masks: the class of every pixel."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from PIL import Image

from robust_jax.core.checks import check_positive
from robust_jax.data.folder import existing_folder
from robust_jax.data.images import fit_image
from robust_jax.data.source import Example, Source, check_count, check_split, check_validation, hold_out
from robust_jax.types import IGNORED

ONE_CHANNEL = ("1", "L", "P", "I", "I;16")
"""Pillow's modes of images with one number a pixel; of those of one bit the numbers are 0 and 255."""


@dataclasses.dataclass(frozen=True)
class MaskFolder:
    """Segmentation of the images in a folder, with a mask for each image: an image file of one number a pixel.

    Every image is resized on its shorter side and cut to a square, bicubic, and its mask with it, at the nearest pixel.
    Training images may be cut into patches; validation and test images stay whole, for networks of any image size.

    Raises:
        ValueError: if a number is out of range, there are no classes or not as many values, or patches do not fill
            the image.
    """

    name: str
    """Name of the set: its folder in ``data_dir``."""
    class_names: tuple[str, ...]
    """Names of the classes."""
    values: tuple[int, ...] = ()
    """Number in the masks of each class; () where masks hold classes 0, 1, …"""
    ignored: int | None = None
    """Number in the masks of pixels without a class."""
    images: str = "{split}/images/*"
    """Pattern of the images' paths in the folder; ``{split}`` is train or test."""
    masks: str = "{split}/masks/{stem}.png"
    """Path of an image's mask in the folder; ``{stem}`` is the image's file name without its ending."""
    num_test: int | None = None
    """Images of the test split, the last in alphabetical order, where ``images`` has no ``{split}``."""
    image_size: int = 224
    """Side of the images in pixels."""
    patch: int | None = None
    """Side of the patches that training images are cut into; None leaves them whole."""
    validation: float = 0.0
    """Training images held out: a fraction, or a count."""
    data_dir: str | None = None
    """Folder of data sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets."""

    def __post_init__(self):
        check_positive("image_size", self.image_size)
        check_positive("number of classes", len(self.class_names))
        check_validation(self.validation)
        check_count("num_test", self.num_test)
        check_count("patch", self.patch)
        if self.values and len(self.values) != len(self.class_names):
            raise ValueError(f"Expected {len(self.class_names)} values, one a class, got values={self.values!r}.")
        if self.patch is not None and self.image_size % self.patch:
            raise ValueError(f"Expected patch to divide image_size={self.image_size}, got patch={self.patch!r}.")
        if ("{split}" in self.images) == (self.num_test is not None):
            raise ValueError(
                "Expected {split} in images, or num_test, and not both, "
                f"got images={self.images!r} and num_test={self.num_test!r}."
            )

    def load(self, split: str) -> Source:
        """Return one split: train, validation or test.

        Masks of the test split are looked for and measured with those of training.

        Raises:
            FileNotFoundError: if the folder or a mask is missing, or there are no images.
            ValueError: naming the files, if a mask has another size than its image; when read, if a file is no image
                or a mask holds a number that is no class.
        """
        check_split(split)
        root = Path(self.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
        existing_folder(root)
        pairs = self._pairs(existing_folder(root / self.name))
        for image, mask in (pair for part in pairs.values() for pair in part):
            _check_size(image, mask)
        part = pairs["test" if split == "test" else "train"]
        size = self.image_size
        source = Source(
            name=self.name,
            split=split,
            class_names=self.class_names,
            image_shape=(size, size, 3),
            read=_MaskReader(self, tuple(part), size),
            ids=np.arange(len(part)),
            pixelwise="classes",
        )
        if split == "test":
            return source
        source = hold_out(source, split, self.validation)
        if split == "validation" or self.patch is None:
            return source
        reader = _MaskReader(self, tuple(part), self.patch)
        ids = (source.ids[:, None] * reader.num_patches + np.arange(reader.num_patches)).ravel()
        shape = (self.patch, self.patch, 3)
        return dataclasses.replace(source, image_shape=shape, read=reader, read_many=reader.read_many, ids=ids)

    def _pairs(self, folder: Path) -> dict[str, list[tuple[Path, Path]]]:
        """Images and masks of the splits train and test, in alphabetical order."""
        found = {}
        for split in ("train", "test"):
            images = sorted(folder.glob(self.images.replace("{split}", split)))
            if self.num_test is not None:
                count = len(images) - self.num_test
                if images and count <= 0:
                    raise ValueError(f"Expected num_test < {len(images)} images in {folder}, got {self.num_test}.")
                images = images[:count] if split == "train" else images[count:]
            if not images:
                raise FileNotFoundError(f"{folder} holds no images {self.images.replace('{split}', split)}.")
            names = {image: self.masks.replace("{split}", split).replace("{stem}", image.stem) for image in images}
            found[split] = [(image, folder / name) for image, name in names.items()]
        return found

    def classes(self, numbers: Int[np.ndarray, "h w"], mask: Path) -> Int[np.ndarray, "h w"]:
        """Return the class of every number of a mask.

        Raises:
            ValueError: naming the file, if a number is neither that of a class nor ignored.
        """
        values = self.values or tuple(range(len(self.class_names)))
        found = np.full(numbers.shape, IGNORED, np.int32)
        known = numbers == self.ignored if self.ignored is not None else np.zeros(numbers.shape, bool)
        for index, value in enumerate(values):
            found[numbers == value] = index
            known |= numbers == value
        if not known.all():
            valid = ", ".join(map(str, values)) + ("" if self.ignored is None else f" and {self.ignored} (ignored)")
            raise ValueError(f"Expected a mask of the numbers {valid}, got {numbers[~known][0]} in {mask}.")
        return found


def _check_size(image: Path, mask: Path) -> None:
    if not mask.is_file():
        raise FileNotFoundError(f"No mask {mask} of image {image}.")
    sizes = []
    for file in (image, mask):
        try:
            with Image.open(file) as opened:
                sizes.append("×".join(map(str, reversed(opened.size))))
        except OSError as error:
            raise ValueError(f"Cannot read image {file}: {error}") from error
    if sizes[0] != sizes[1]:
        raise ValueError(f"Expected a label map of its image's size, {sizes[0]} in {image}, got {sizes[1]} in {mask}.")


@dataclasses.dataclass(frozen=True)
class _MaskReader:
    """Reads squares of ``side`` pixels: image by image, and in each row by row."""

    folder: MaskFolder
    files: tuple[tuple[Path, Path], ...]
    side: int

    @property
    def num_patches(self) -> int:
        return (self.folder.image_size // self.side) ** 2

    def __call__(self, index: int) -> Example:
        return self.read_many([index])[0]

    def read_many(self, indices: Sequence[int]) -> list[Example]:
        """Decode each image once for all its patches."""
        decoded: dict[int, Example] = {}
        found = []
        for index in indices:
            number, patch = divmod(index, self.num_patches)
            if number not in decoded:
                decoded[number] = self._decode(*self.files[number])
            row, column = divmod(patch, self.folder.image_size // self.side)
            part = np.s_[row * self.side : (row + 1) * self.side, column * self.side : (column + 1) * self.side]
            image, label_map = decoded[number]
            found.append((image[part], np.asarray(label_map)[part]))
        return found

    def _decode(self, image_file: Path, mask_file: Path) -> Example:
        size = self.folder.image_size
        try:
            with Image.open(image_file) as image:
                pixels = fit_image(image, size)
            with Image.open(mask_file) as mask:
                if mask.mode not in ONE_CHANNEL:
                    raise ValueError(f"Expected a mask of one channel, got mode {mask.mode} in {mask_file}.")
                mode = "L" if mask.mode == "1" else mask.mode
                numbers = fit_image(mask, size, mode, resample=Image.Resampling.NEAREST)[..., 0]
        except OSError as error:
            raise ValueError(f"Cannot read image {image_file} or its mask: {error}") from error
        return pixels, self.folder.classes(numbers, mask_file)
