"""Random access to the examples of one split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.types import IGNORED

SPLITS = ("train", "validation", "test")
# Held-out examples are the same in every run, whatever its seed.
HOLD_OUT_SEED = 20230510
# Examples read together: few enough in each thread that a batch occupies every core.
CHUNK, THREADED_CHUNK = 128, 16

Pixels = UInt8[np.ndarray, "..."] | Float[np.ndarray, "..."]
"""Images as stored: uint8, or float32 that nothing rounds."""
Label = int | Float[np.ndarray, "d"] | Int[np.ndarray, "h w"] | Float[np.ndarray, "h w c"]
Example = tuple[Pixels, Label]
Read = Callable[[int], Example]
ReadMany = Callable[[Sequence[int]], Sequence[Example]]


class DataSet(Protocol):
    """A component that loads the splits of one data set."""

    @property
    def name(self) -> str:
        """Name of the data set in rows."""
        ...

    def load(self, split: str) -> Source:
        """Return one split: train, validation or test."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The examples of one split, by position; picklable, so that worker processes can read it.

    ``ids`` are the positions in the split as published: they name an example whatever subset it is seen in.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    read: Read
    ids: Int[np.ndarray, "n"]
    read_many: ReadMany | None = None
    """Reads several examples, where that is faster than one by one."""
    threaded: bool = True
    """Whether to decode in threads; for small images they contend for the interpreter's lock, and one is faster."""
    target_scale: tuple[float, ...] = ()
    """Unit of each real target in the data's units, where labels are standardised targets f32[d]; () for classes."""
    image_dtype: str = "uint8"
    """dtype of the images that ``read`` returns: uint8, or float32 of any range."""
    pixelwise: Literal["classes", "images"] | None = None
    """Labels of every pixel: int32 [h, w] classes, with ``types.IGNORED`` where there is none, or clean images
    float32 [h, w, c]; None where labels are of the whole image."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of one label: () for a class, (d,) for real targets, (h, w) for a label map, (h, w, c) for an image."""
        if self.pixelwise is not None:
            return self.image_shape[:2] if self.pixelwise == "classes" else self.image_shape
        return (len(self.target_scale),) if self.target_scale else ()

    @property
    def label_dtype(self) -> str:
        """dtype of labels: int32 for classes, float32 for real targets and images."""
        return "float32" if self.target_scale or self.pixelwise == "images" else "int32"

    @property
    def num_bytes(self) -> int:
        """Size of all images, decoded."""
        return len(self) * int(np.prod(self.image_shape)) * np.dtype(self.image_dtype).itemsize

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Example:
        """Image and label.

        Raises:
            ValueError: naming the example, if its image has another shape or its label is outside the classes.
        """
        example = int(self.ids[position])
        return self._checked(example, *self.read(example))

    def take(self, positions: Int[np.ndarray, "m"]) -> tuple[Pixels, Shaped[np.ndarray, "m ..."], Int[np.ndarray, "m"]]:
        """Images, labels and ids at several positions, stacked.

        Raises:
            ValueError: as indexing does.
        """
        ids = self.ids[positions]
        examples = ids.tolist()
        read = self.read_many(examples) if self.read_many is not None else map(self.read, examples)
        images, labels = self._empty(len(ids))
        for i, (example, (image, label)) in enumerate(zip(examples, read, strict=True)):
            images[i], labels[i] = self._checked(example, image, label)
        return images, labels, ids.astype(np.int32)

    def _empty(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        images = np.empty((size, *self.image_shape), self.image_dtype)
        return images, np.empty((size, *self.label_shape), self.label_dtype)

    def _checked(self, example: int, image: Pixels, label: Label) -> Example:
        where = f"{self.name}/{self.split} example {example}"
        if image.shape != self.image_shape or image.dtype != self.image_dtype:
            raise ValueError(
                f"Expected {self.image_dtype} images of shape {self.image_shape}, got {image.dtype} {image.shape}: "
                f"{where}."
            )
        if self.pixelwise is not None:
            self._check_pixelwise(where, label)
        elif self.target_scale:
            if np.shape(label) != (len(self.target_scale),) or not np.isfinite(label).all():
                raise ValueError(f"Expected {len(self.target_scale)} finite targets, got {label!r}: {where}.")
        elif not 0 <= label < self.num_classes:
            raise ValueError(f"Expected labels in 0..{self.num_classes - 1}, got {label}: {where}.")
        return image, label

    def _check_pixelwise(self, where: str, label: Label) -> None:
        (height, width), found = self.image_shape[:2], np.shape(label)
        if found != self.label_shape:
            size = "×".join(map(str, found))
            raise ValueError(f"Expected a label map of its image's size, {height}×{width}, got {size}: {where}.")
        if self.pixelwise == "images":
            if not np.isfinite(label).all():
                raise ValueError(f"Expected clean images that are finite, got NaN or infinity: {where}.")
        elif np.min(label) < IGNORED or np.max(label) >= self.num_classes:
            wrong = np.max(label) if np.max(label) >= self.num_classes else np.min(label)
            raise ValueError(
                f"Expected label maps of classes 0..{self.num_classes - 1}, or {IGNORED} to ignore a pixel, "
                f"got {wrong}: {where}."
            )

    def subset(self, positions: Int[np.ndarray, "m"]) -> Source:
        """The same examples, fewer or in another order."""
        return dataclasses.replace(self, ids=self.ids[positions])

    def decode(self) -> tuple[Pixels, Shaped[np.ndarray, "n ..."]]:
        """All images, and labels: int32 [n], targets float32 [n, d], or labels of every pixel."""
        images, labels = self._empty(len(self))
        chunk = THREADED_CHUNK if self.threaded else CHUNK

        def fill(start: int) -> None:
            part = slice(start, start + chunk)
            images[part], labels[part], _ = self.take(np.arange(len(self))[part])

        with ThreadPoolExecutor(None if self.threaded else 1) as pool:
            list(pool.map(fill, range(0, len(self), chunk)))
        return images, labels


def check_whole_labels(source: Source, component: str) -> None:
    """Raise ``ValueError`` unless labels are of the whole image, for a component that takes no others."""
    if source.pixelwise is not None:
        raise ValueError(f"Expected a label for each image in {component}, got {source.name} with labels of pixels.")


def check_split(split: str) -> None:
    """Raises ``ValueError`` unless the split is one of train, validation, test."""
    check_choice("split", split, SPLITS)


def check_validation(validation: float) -> None:
    """Raises ``ValueError`` unless it is a fraction below 1, or a whole number of examples."""
    if not validation >= 0 or (validation >= 1 and validation != int(validation)):
        raise ValueError(f"Expected validation as a fraction in [0, 1) or a count, got validation={validation!r}.")


def hold_out(source: Source, split: str, validation: float) -> Source:
    """The training or the validation part of a training split, drawn at random but the same in every run.

    Args:
        source: the whole training split.
        split: ``"train"`` or ``"validation"``.
        validation: what is held out, a fraction below 1 or a count.

    Raises:
        ValueError: if nothing is left for the part asked for, or for training.
    """
    count = round(validation * len(source)) if validation < 1 else int(validation)
    if count >= len(source):
        raise ValueError(f"Expected validation < {len(source)} examples of {source.name}, got {validation!r}.")
    order = np.random.Generator(np.random.PCG64(HOLD_OUT_SEED)).permutation(len(source))
    positions = np.sort(order[count:] if split == "train" else order[:count])
    if len(positions) == 0:
        raise ValueError(f"Expected examples in the {split} split of {source.name}, got validation={validation!r}.")
    return dataclasses.replace(source.subset(positions), split=split)


def check_count(argument: str, value: int | None) -> None:
    """Raises ``ValueError`` unless it is None or positive."""
    if value is not None:
        check_positive(argument, value)


def limit(source: Source, count: int | None) -> Source:
    """The first ``count`` examples; all where it is None or there are fewer."""
    return source if count is None else source.subset(np.arange(min(count, len(source))))


def thin(source: Source, count: int | None) -> Source:
    """As :func:`limit`, but evenly spaced examples: where they are sorted by class, some of every class."""
    if count is None or count >= len(source):
        return source
    return source.subset(np.arange(count) * len(source) // count)


def read_arrays(images: UInt8[np.ndarray, "n h w c"], labels: Int[np.ndarray, "n"]) -> Read:
    """A reader of arrays in memory."""
    return _ArrayReader(images, labels)


@dataclasses.dataclass(frozen=True, eq=False)
class _ArrayReader:
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, "n"]

    def __call__(self, index: int) -> Example:
        label = self.labels[index]
        return self.images[index], label if np.ndim(label) else int(label)
