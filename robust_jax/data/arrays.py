"""Data sets in memory and in NumPy files."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Literal

import numpy as np

from robust_jax.data.source import Source, check_split, check_validation, hold_out, read_arrays
from robust_jax.types import IGNORED

PIXELWISE: dict[int, Literal["classes", "images"]] = {3: "classes", 4: "images"}
"""Labels of every pixel, by the number of axes of the array of labels."""

Split = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Images and labels that the caller holds; compared by content, and saved as a fingerprint only.

    Labels are classes int [n]; real targets float [n, d] for regression; label maps int [n, h, w] for segmentation,
    with −1 where a pixel has no class; or clean images float [n, h, w, c] for denoising. Float images with classes are
    rounded to uint8; with real targets or clean images they stay float32 and may have any range, so that a table of n
    rows and d columns is images [n, 1, 1, d]. Inputs and targets are not standardised.

    Raises:
        ValueError: if images are not uint8 or in [0, 1], not [n, h, w, c], hold NaN, or differ in number from labels;
            if targets are not finite, label maps have another size than the images, or train and test differ in
            their kind of labels.
    """

    train: Split | None = None
    """Images [n, h, w, c], uint8 or float in [0, 1], and labels int [n] or int [n, h, w]; or images and targets
    float [n, d] or [n, h, w, c]."""
    test: Split | None = None
    """The same, for testing."""
    name: str = "arrays"
    """What rows call it."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes; by default their numbers, up to the largest label."""
    validation: float = 0.0
    """Training examples held out: a fraction, or a count."""

    def __post_init__(self):
        check_validation(self.validation)
        for split in ("train", "test"):
            if getattr(self, split) is not None:
                object.__setattr__(self, split, _check_pair(getattr(self, split), f"{self.name}/{split}"))
        if self.train is not None and self.test is not None:
            kinds = [(arrays[0].dtype, arrays[1].dtype, arrays[1].shape[1:]) for arrays in (self.train, self.test)]
            # Label maps are of the size of their images, which may differ.
            pixelwise = all(len(shape) > 1 for *_, shape in kinds)
            if kinds[0][: 2 if pixelwise else 3] != kinds[1][: 2 if pixelwise else 3]:
                (image, label, shape), (test_image, test_label, test_shape) = kinds
                raise ValueError(
                    f"Expected train and test arrays of one kind in {self.name}, got {image} images with {label} "
                    f"[n, {', '.join(map(str, shape))}] labels and {test_image} images with {test_label} "
                    f"[n, {', '.join(map(str, test_shape))}] labels."
                )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything in it."""
        digest = hashlib.sha256(repr((self.name, self.class_names, self.validation)).encode())
        for split in (self.train, self.test):
            for array in split or ():
                digest.update(repr((array.shape, array.dtype.str)).encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arrays) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def load(self, split: str) -> Source:
        """One split: train, validation or test."""
        check_split(split)
        arrays = self.test if split == "test" else self.train
        if arrays is None:
            raise ValueError(f"{self.name} has no {'test' if split == 'test' else 'train'} arrays.")
        images, labels = arrays
        num_targets = labels.shape[1] if labels.ndim == 2 else 0
        splits = [] if labels.dtype == np.float32 else [pair for pair in (self.train, self.test) if pair is not None]
        source = Source(
            name=self.name,
            split=split,
            class_names=self.class_names or _numbered(splits),
            image_shape=images.shape[1:],
            read=read_arrays(images, labels),
            ids=np.arange(len(labels)),
            target_scale=(1.0,) * num_targets,
            image_dtype=images.dtype.name,
            pixelwise=PIXELWISE.get(labels.ndim),
        )
        return source if split == "test" else hold_out(source, split, self.validation)


@dataclasses.dataclass(frozen=True)
class Npz:
    """A ``.npz`` file with ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``.

    The arrays are as in :class:`Arrays`: labels are classes or real targets.
    """

    path: str
    """The file."""
    validation: float = 0.0
    """Training examples held out: a fraction, or a count."""

    def __post_init__(self):
        check_validation(self.validation)

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def load(self, split: str) -> Source:
        """One split: train, validation or test.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if an array is missing or not as it should be.
        """
        check_split(split)
        if not Path(self.path).is_file():
            raise FileNotFoundError(f"No file {self.path}.")
        with np.load(self.path, allow_pickle=False) as file:
            try:
                arrays = {part: (file[f"{part}_images"], file[f"{part}_labels"]) for part in ("train", "test")}
            except KeyError as error:
                raise ValueError(f"{self.path} has no array {error}; it holds {', '.join(file.files)}.") from error
        return Arrays(**arrays, name=self.name, validation=self.validation).load(split)


def _check_pair(split: object, where: str) -> Split:
    if not isinstance(split, tuple | list) or len(split) != 2:
        raise TypeError(f"Expected (images, labels) in {where}, got {type(split).__name__}.")
    return check_arrays(*split, where=where)


def check_arrays(images: np.ndarray, labels: np.ndarray, *, where: str) -> Split:
    """Return images as uint8 and labels as int32; with real targets, float images and targets as float32.

    Raises:
        ValueError: naming ``where`` and what was expected.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4:
        raise ValueError(f"Expected images of shape [n, h, w, c] in {where}, got {images.shape}.")
    real = np.issubdtype(labels.dtype, np.floating)
    if labels.ndim > 2:
        _check_pixelwise(images, labels, where=where)
    elif real:
        if labels.ndim != 2 or len(labels) != len(images) or labels.shape[1] == 0:
            raise ValueError(
                f"Expected real targets of shape [{len(images)}, d] in {where}, got {labels.dtype} {labels.shape}."
            )
    elif labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected {len(images)} integer labels in {where}, got {labels.dtype} {labels.shape}.")
    if len(labels) == 0:
        raise ValueError(f"Expected at least one example in {where}, got none.")
    if real:
        check_finite("targets", labels, where=where)
        labels = labels.astype(np.float32)
    elif labels.min() < (least := 0 if labels.ndim == 1 else IGNORED):
        raise ValueError(f"Expected labels >= {least} in {where}, got {labels.min()}.")
    if np.issubdtype(images.dtype, np.floating):
        if real:
            check_finite("inputs", images, where=where)
            return images.astype(np.float32), labels
        if np.isnan(images).any():
            raise ValueError(
                f"Expected no NaN in {where}, got some in image {int(np.argwhere(np.isnan(images))[0, 0])}."
            )
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(f"Expected float images in [0, 1] in {where}, got [{images.min():g}, {images.max():g}].")
        images = np.round(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise ValueError(f"Expected images as uint8 or as floats in [0, 1] in {where}, got {images.dtype}.")
    return images, labels if real else labels.astype(np.int32)


def _check_pixelwise(images: np.ndarray, labels: np.ndarray, *, where: str) -> None:
    """Raise ``ValueError`` unless labels are label maps int [n, h, w] or clean images float [n, h, w, c]."""
    real = np.issubdtype(labels.dtype, np.floating)
    if labels.ndim != (4 if real else 3) or not (real or np.issubdtype(labels.dtype, np.integer)):
        raise ValueError(
            f"Expected label maps int [n, h, w] or clean images float [n, h, w, c] in {where}, "
            f"got {labels.dtype} {labels.shape}."
        )
    if labels.shape[1:3] != images.shape[1:3]:
        sizes = ["×".join(map(str, array.shape[1:3])) for array in (images, labels)]
        raise ValueError(f"Expected label maps of the images' size {sizes[0]} in {where}, got {sizes[1]}.")
    if labels.shape != images.shape[: labels.ndim]:
        shape = ", ".join(map(str, images.shape[: labels.ndim]))
        raise ValueError(f"Expected labels of pixels of shape [{shape}] in {where}, got {labels.shape}.")


def check_finite(kind: str, values: np.ndarray, *, where: str) -> None:
    """Raise ``ValueError``, naming the first row, unless all values are finite in float32."""
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(np.float32))
    if bad.any():
        row = int(np.argwhere(bad)[0, 0])
        raise ValueError(f"Expected regression {kind} that are finite in {where}, got {values[bad][0]} in row {row}.")


def _numbered(splits: list[Split]) -> tuple[str, ...]:
    return tuple(str(i) for i in range(max((int(labels.max()) + 1 for _, labels in splits), default=0)))
