"""Random access to the examples of one split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int, UInt8

from robust_jax.core.checks import check_choice

SPLITS = ("train", "validation", "test")
# Held-out examples are the same in every run, whatever its seed.
HOLD_OUT_SEED = 20230510
CHUNK = 256

Read = Callable[[int], tuple[UInt8[np.ndarray, "h w c"], int]]


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

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_bytes(self) -> int:
        """Size of all images, decoded."""
        return len(self) * int(np.prod(self.image_shape))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> tuple[UInt8[np.ndarray, "h w c"], int]:
        """Image and label.

        Raises:
            ValueError: naming the example, if its image has another shape or its label is outside the classes.
        """
        example = int(self.ids[position])
        image, label = self.read(example)
        where = f"{self.name}/{self.split} example {example}"
        if image.shape != self.image_shape or image.dtype != np.uint8:
            raise ValueError(
                f"Expected uint8 images of shape {self.image_shape}, got {image.dtype} {image.shape}: {where}."
            )
        if not 0 <= label < self.num_classes:
            raise ValueError(f"Expected labels in 0..{self.num_classes - 1}, got {label}: {where}.")
        return image, label

    def subset(self, positions: Int[np.ndarray, "m"]) -> Source:
        """The same examples, fewer or in another order."""
        return dataclasses.replace(self, ids=self.ids[positions])

    def decode(self) -> tuple[UInt8[np.ndarray, "n h w c"], Int[np.ndarray, "n"]]:
        """All images and labels, decoded by as many threads as there are cores."""
        images = np.empty((len(self), *self.image_shape), np.uint8)
        labels = np.empty(len(self), np.int32)

        def fill(start: int) -> None:
            for i in range(start, min(start + CHUNK, len(self))):
                images[i], labels[i] = self[i]

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(0, len(self), CHUNK)))
        return images, labels


def check_split(split: str) -> None:
    """Raises ``ValueError`` unless the split is one of train, validation, test."""
    check_choice("split", split, SPLITS)


def check_validation(validation: float) -> None:
    """Raises ``ValueError`` unless it is a fraction below 1, or a whole number of examples."""
    if validation < 0 or (validation >= 1 and validation != int(validation)):
        raise ValueError(f"Expected validation as a fraction in [0, 1) or a count, got validation={validation!r}.")


def hold_out(source: Source, split: str, validation: float) -> Source:
    """The training or the validation part of a training split.

    Args:
        source: the whole training split.
        split: ``"train"`` or ``"validation"``.
        validation: what is held out, a fraction below 1 or a count.

    Raises:
        ValueError: if nothing is left for the part asked for.
    """
    count = round(validation * len(source)) if validation < 1 else int(validation)
    order = np.random.Generator(np.random.PCG64(HOLD_OUT_SEED)).permutation(len(source))
    positions = np.sort(order[count:] if split == "train" else order[:count])
    if len(positions) == 0:
        raise ValueError(f"Expected examples in the {split} split of {source.name}, got validation={validation!r}.")
    return dataclasses.replace(source.subset(positions), split=split)


def limit(source: Source, count: int | None) -> Source:
    """The first ``count`` examples; all where it is None."""
    return source if count is None else source.subset(np.arange(min(count, len(source))))


def read_arrays(images: Sequence, labels: Sequence) -> Read:
    """A reader of arrays in memory."""
    return _ArrayReader(images, labels)


@dataclasses.dataclass(frozen=True, eq=False)
class _ArrayReader:
    images: Sequence
    labels: Sequence

    def __call__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.labels[index])
