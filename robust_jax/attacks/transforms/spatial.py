"""Rotations and translations of an image, for attacks to look for the worst of."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Array, Float

from robust_jax.attacks.transforms.threats_parameters import ParameterBox
from robust_jax.core.checks import check_choice, check_non_negative
from robust_jax.images.borders import MODES
from robust_jax.images.geometry import rotate_translate
from robust_jax.types import Image


@dataclasses.dataclass(frozen=True)
class Spatial(ParameterBox):
    """Rotation and translation within limits: the parameters are dx over the width, dy over the height, and degrees.

    With :class:`ParameterSearch` it is the published attack: ``grid=(5, 5, 31)``, or the worst of 10 draws.

    Raises:
        ValueError: if a limit is negative or infinite, or the border unknown.

    References:
        Engstrom, Tran, Tsipras, Schmidt & Madry, "Exploring the landscape of spatial robustness" (arXiv 1712.02779).
        Its code interpolates twice, after the rotation and after the translation; here it is done once.
    """

    shift: float = 3 / 32
    """Largest translation along either axis, as a share of the image's side: 3 pixels of CIFAR-10's 32."""
    degrees: float = 30.0
    """Largest rotation, either way."""
    border: str = "constant"
    """What moves in from beyond the image, see :data:`robust_jax.images.borders.MODES`; constant is black."""

    def __post_init__(self):
        for name in ("shift", "degrees"):
            check_non_negative(name, getattr(self, name))
            if math.isinf(getattr(self, name)):
                raise ValueError(f"Expected a finite {name}, got {name}={getattr(self, name)!r}.")
        check_choice("border", self.border, MODES)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        limits = np.asarray([self.shift, self.shift, self.degrees], np.float32)
        return -limits, limits, np.zeros(3, np.float32)

    def apply(self, point: Float[Array, "3"], image: Image) -> Image:
        height, width, _ = image.shape
        return rotate_translate(image, point[0] * width, point[1] * height, point[2], border=self.border)
