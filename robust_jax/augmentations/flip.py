"""Mirror images."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from robust_jax.augmentations.maps import Geometric
from robust_jax.core.checks import check_fraction
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class HorizontalFlip(Geometric):
    """Swaps left and right at random."""

    probability: float = 0.5
    """Chance of a flip."""

    def __post_init__(self):
        check_fraction("probability", self.probability)

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> Bool[Array, ""]:
        """Draw whether to flip."""
        del shape
        return jax.random.bernoulli(key, self.probability)

    def warp(self, drawn: Bool[Array, ""], image: Image, *, order: int = 1, beyond: float = 0.0) -> Image:
        """Flip, or do not."""
        del order, beyond
        return jnp.where(drawn, image[:, ::-1], image)
