"""A few training examples of every class, as semi-supervised training is measured on."""

from __future__ import annotations

import dataclasses

import numpy as np

from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.data.long_tailed import DataSet, labels_of
from robust_jax.data.source import Source


@dataclasses.dataclass(frozen=True)
class FewLabels:
    """A data set with as many training examples in every class, drawn at random; the test set is whole.

    The examples drawn depend on ``draw`` alone, not on the seed of a run, so that runs compare on the same labels.

    Raises:
        ValueError: if ``per_class`` is not positive or ``draw`` negative; when loaded, if a class has fewer examples.
    """

    data: DataSet
    """Data set to draw from."""
    per_class: int = 10
    """Training examples in every class."""
    draw: int = 0
    """Number of the draw."""

    def __post_init__(self):
        check_positive("per_class", self.per_class)
        check_non_negative("draw", self.draw)

    @property
    def name(self) -> str:
        return f"{self.data.name}_{self.per_class}_per_class"

    def load(self, split: str) -> Source:
        """Load one split: train, validation or test."""
        source = dataclasses.replace(self.data.load(split), name=self.name)
        if split != "train":
            return source
        labels = labels_of(source)
        counts = np.bincount(labels, minlength=source.num_classes)
        if counts.min() < self.per_class:
            raise ValueError(
                f"Expected per_class <= {counts.min()}, the fewest examples of a class of {self.data.name}, got "
                f"{self.per_class}."
            )
        generator = np.random.Generator(np.random.PCG64(self.draw))
        drawn = [
            generator.choice(np.flatnonzero(labels == label), self.per_class, replace=False)
            for label in range(source.num_classes)
        ]
        return source.subset(np.sort(np.concatenate(drawn)))
