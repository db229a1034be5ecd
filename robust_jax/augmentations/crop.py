"""Random crops."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from robust_jax.augmentations.maps import Geometric
from robust_jax.core.checks import check_choice, check_non_negative
from robust_jax.types import Image, PRNGKey

MODES = ("constant", "edge", "reflect")


@dataclasses.dataclass(frozen=True)
class RandomCrop(Geometric):
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

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> Int[Array, "2"]:
        """Draw the top row and left column in the padded image."""
        del shape
        return jax.random.randint(key, (2,), 0, 2 * self.padding + 1)

    def warp(self, drawn: Int[Array, "2"], image: Image, *, order: int = 1, beyond: float = 0.0) -> Image:
        """Cut out."""
        del order
        pad = self.padding
        filled = {"constant_values": beyond} if self.mode == "constant" else {}
        padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=self.mode, **filled)
        row, column = drawn
        return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
