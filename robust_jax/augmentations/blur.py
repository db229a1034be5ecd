"""Random blur."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from robust_jax.augmentations.maps import Photometric
from robust_jax.core.checks import check_fraction
from robust_jax.images.filters import gaussian_blur
from robust_jax.types import Image, PRNGKey

TRUNCATE = 4.0


@dataclasses.dataclass(frozen=True)
class GaussianBlur(Photometric):
    """A Gaussian with a random standard deviation; the border is mirrored.

    Raises:
        ValueError: if the range is not one, or the probability outside [0, 1].

    References:
        Chen, Kornblith, Norouzi & Hinton (arXiv 2002.05709), appendix A: half the images, σ in [0.1, 2] pixels.
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    """Least and greatest standard deviation in pixels, drawn evenly."""
    probability: float = 0.5
    """Of blurring at all."""

    def __post_init__(self):
        if not 0 <= self.sigma[0] <= self.sigma[1]:
            raise ValueError(f"Expected sigma as 0 <= least <= greatest, got sigma={self.sigma!r}.")
        check_fraction("probability", self.probability)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        chance_key, sigma_key = jax.random.split(key)
        sigma = jax.random.uniform(sigma_key, minval=self.sigma[0], maxval=self.sigma[1])
        radius = math.floor(TRUNCATE * self.sigma[1] + 0.5)
        blurred = gaussian_blur(image, sigma, radius=radius, truncate=TRUNCATE, mode="reflect")
        return jnp.where(jax.random.uniform(chance_key) < self.probability, blurred, image)
