"""Random crops."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from robust_jax.core.checks import check_choice, check_non_negative
from robust_jax.types import Image, PRNGKey

MODES = ("constant", "edge", "reflect")


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Pads all sides and cuts out the original size at a random place: a shift by up to ``padding`` pixels.

    Raises:
        ValueError: if ``padding`` is negative or ``mode`` unknown.
    """

    padding: int = 4
    """Pixels added on every side."""
    mode: Literal["constant", "edge", "reflect"] = "constant"
    """What they hold: black, the border's colour, or the mirrored image."""

    def __post_init__(self):
        check_non_negative("padding", self.padding)
        check_choice("mode", self.mode, MODES)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        pad = self.padding
        padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=self.mode)
        row, column = jax.random.randint(key, (2,), 0, 2 * pad + 1)
        return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
