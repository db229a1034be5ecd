"""Random rotations and translations."""

from __future__ import annotations

import dataclasses

from jaxtyping import Array, Float

from robust_jax.augmentations.maps import Geometric
from robust_jax.core.checks import check_choice, check_non_negative
from robust_jax.core.random_words import random_uniform
from robust_jax.images.borders import MODES
from robust_jax.images.geometry import rotate_translate
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class RotateTranslate(Geometric):
    """Turns the image about its middle and moves it, by amounts uniform within limits; bilinear.

    Raises:
        ValueError: if a limit is negative, or the border unknown.

    References:
        Engstrom et al., "Exploring the landscape of spatial robustness" (arXiv 1712.02779), where networks
        are trained with random transforms of these limits, and of wider ones.
    """

    shift: float = 3 / 32
    """Largest translation along either axis, as a share of the image's side."""
    degrees: float = 30.0
    """Largest rotation, either way."""
    border: str = "constant"
    """What moves in from beyond the image, see :data:`robust_jax.images.borders.MODES`; constant is black."""

    def __post_init__(self):
        check_non_negative("shift", self.shift)
        check_non_negative("degrees", self.degrees)
        check_choice("border", self.border, MODES)

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """Draw pixels to the right, pixels down, and degrees."""
        height, width, *_ = shape
        dx, dy, turn = 2 * random_uniform(key, (3,)) - 1
        return self.shift * width * dx, self.shift * height * dy, self.degrees * turn

    def warp(self, drawn: tuple[Float[Array, ""], ...], image: Image, *, order: int = 1, beyond: float = 0.0) -> Image:
        """Rotate and translate."""
        return rotate_translate(image, *drawn, border=self.border, order=order, cval=beyond)
