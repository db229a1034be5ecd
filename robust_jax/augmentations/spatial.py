"""Random rotations and translations."""

from __future__ import annotations

import dataclasses

from robust_jax.core.checks import check_choice, check_non_negative
from robust_jax.core.random_words import random_uniform
from robust_jax.images.borders import MODES
from robust_jax.images.geometry import rotate_translate
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class RotateTranslate:
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

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        height, width, _ = image.shape
        dx, dy, turn = 2 * random_uniform(key, (3,)) - 1
        shift, degrees = self.shift, self.degrees
        return rotate_translate(image, shift * width * dx, shift * height * dy, degrees * turn, border=self.border)
