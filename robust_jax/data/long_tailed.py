"""Data sets of classes unequal in number, and classes made equal again by repetition."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from robust_jax.core.checks import check_positive
from robust_jax.data.source import DataSet, Example, Read, ReadMany, Source, check_whole_labels

REPETITION_SEED = 20211216


def long_tailed_counts(most: int, num_classes: int, imbalance: float) -> tuple[int, ...]:
    r"""How many examples each class keeps: :math:`\lfloor n\, r^{-c / (k - 1)} \rfloor` of class c = 0, …, k − 1.

    Args:
        most: n, of the first class.
        num_classes: k.
        imbalance: r, how many times fewer the last class has.

    References:
        Cui, Jia, Lin, Song & Belongie (arXiv 1901.05555), section 5.1.
    """
    return tuple(int(most * imbalance ** (-c / max(num_classes - 1, 1))) for c in range(num_classes))


@dataclasses.dataclass(frozen=True)
class LongTailed:
    """A data set whose training classes decline in number exponentially; the test set stays as it is.

    Of every class the first examples are kept.

    Raises:
        ValueError: if the imbalance is below 1, ``most`` not positive, or a class would be empty.
    """

    data: DataSet
    """The data set."""
    imbalance: float = 100.0
    """How many times fewer examples the last class has than the first."""
    most: int | None = None
    """Examples of the first class; None takes as many as every class has."""

    def __post_init__(self):
        if not self.imbalance >= 1:
            raise ValueError(f"Expected imbalance >= 1, got imbalance={self.imbalance!r}.")
        if self.most is not None:
            check_positive("most", self.most)

    @property
    def name(self) -> str:
        return f"{self.data.name}_lt{self.imbalance:g}"

    def load(self, split: str) -> Source:
        """One split."""
        source = dataclasses.replace(self.data.load(split), name=self.name)
        if split != "train":
            return source
        labels = labels_of(source)
        least = int(np.bincount(labels, minlength=source.num_classes).min())
        most = least if self.most is None else self.most
        counts = long_tailed_counts(most, source.num_classes, self.imbalance)
        if min(counts) < 1 or (counts[0] > least):
            raise ValueError(
                f"Expected between 1 and {least} examples of every class of {self.name}, got from {min(counts)} to "
                f"{counts[0]}."
            )
        kept = [np.flatnonzero(labels == label)[:count] for label, count in enumerate(counts)]
        return source.subset(np.sort(np.concatenate(kept)))


@dataclasses.dataclass(frozen=True)
class Oversampled:
    """A data set whose training examples are repeated until every class is as frequent as the most frequent one.

    Examples of a class are repeated equally often, up to one. A copy has an id, and so an augmentation, of its own.
    """

    data: DataSet
    """The data set."""

    @property
    def name(self) -> str:
        return self.data.name

    def load(self, split: str) -> Source:
        """One split; only the training split has copies."""
        source = self.data.load(split)
        if split != "train":
            return source
        labels = labels_of(source)
        most = int(np.bincount(labels).max())
        order = np.random.Generator(np.random.PCG64(REPETITION_SEED)).permutation(len(source))
        positions, copies = [], []
        for label in np.unique(labels):
            members = order[labels[order] == label]
            index = np.arange(most)
            positions.append(members[index % len(members)])
            copies.append(index // len(members))
        stride = int(source.ids.max()) + 1
        ids = source.ids[np.concatenate(positions)] + stride * np.concatenate(copies)
        if ids.max() >= 2**31:
            raise ValueError(f"Expected ids of copies below 2^31, got {ids.max()}: {source.name} is too imbalanced.")
        many = None if source.read_many is None else _RepeatedMany(source.read_many, stride)
        return dataclasses.replace(source, ids=ids, read=_Repeated(source.read, stride), read_many=many)


def labels_of(source: Source) -> Int[np.ndarray, "n"]:
    """Every label; reads the whole split, whose labels must be of the whole image."""
    check_whole_labels(source, "LongTailed, Oversampled and FewLabels")
    return source.decode()[1]


@dataclasses.dataclass(frozen=True, eq=False)
class _Repeated:
    read: Read
    stride: int

    def __call__(self, index: int) -> Example:
        return self.read(index % self.stride)


@dataclasses.dataclass(frozen=True, eq=False)
class _RepeatedMany:
    read_many: ReadMany
    stride: int

    def __call__(self, indices: Sequence[int]) -> Sequence[Example]:
        return self.read_many([index % self.stride for index in indices])
