"""Handwritten digits that come with scikit-learn: nothing to download."""

from __future__ import annotations

import dataclasses

import numpy as np

from robust_jax.data.source import Source, check_split, check_validation, hold_out, read_arrays


@dataclasses.dataclass(frozen=True)
class Digits:
    """1,797 digits of 8×8 grey pixels (Alpaydin & Kaynak, UCI 1998); every fifth is a test image."""

    validation: float = 0.0
    """Training examples held out: a fraction, or a count."""

    def __post_init__(self):
        check_validation(self.validation)

    @property
    def name(self) -> str:
        return "digits"

    def load(self, split: str) -> Source:
        """One split: train, validation or test."""
        check_split(split)
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        is_test = np.arange(len(images)) % 5 == 0
        source = Source(
            name=self.name,
            split=split,
            class_names=tuple(map(str, range(10))),
            image_shape=(8, 8, 1),
            read=read_arrays(images, labels),
            ids=np.flatnonzero(is_test if split == "test" else ~is_test),
        )
        return source if split == "test" else hold_out(source, split, self.validation)
