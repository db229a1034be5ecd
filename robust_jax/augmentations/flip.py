"""Mirror images."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from robust_jax.core.checks import check_fraction
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class HorizontalFlip:
    """Swaps left and right at random."""

    probability: float = 0.5
    """Chance of a flip."""

    def __post_init__(self):
        check_fraction("probability", self.probability)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        return jnp.where(jax.random.bernoulli(key, self.probability), image[:, ::-1], image)
