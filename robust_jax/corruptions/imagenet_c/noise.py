"""Noise of the sensor: Gaussian, shot, impulse and speckle (arXiv 1903.12261, section 3 and appendix B)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_normal, random_words
from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.mathematics.poisson import random_poisson
from robust_jax.types import Image, PRNGKey

GAUSSIAN_SIGMA = {
    "imagenet224": (0.08, 0.12, 0.18, 0.26, 0.38),
    "cifar32": (0.04, 0.06, 0.08, 0.09, 0.10),
    "tiny64": (0.04, 0.08, 0.12, 0.15, 0.18),
}
SHOT_PHOTONS = {
    "imagenet224": (60, 25, 12, 5, 3),
    "cifar32": (500, 250, 100, 75, 50),
    "tiny64": (250, 100, 50, 30, 15),
}
IMPULSE_AMOUNT = {
    "imagenet224": (0.03, 0.06, 0.09, 0.17, 0.27),
    "cifar32": (0.01, 0.02, 0.03, 0.05, 0.07),
    "tiny64": (0.01, 0.02, 0.05, 0.08, 0.14),
}
SPECKLE_SIGMA = {
    "imagenet224": (0.15, 0.2, 0.35, 0.45, 0.6),
    "cifar32": (0.06, 0.1, 0.12, 0.16, 0.2),
    "tiny64": (0.15, 0.2, 0.25, 0.3, 0.35),
}


@dataclasses.dataclass(frozen=True)
class GaussianNoise(BenchmarkCorruption):
    """Independent normal noise of one standard deviation on every sub-pixel."""

    variable: ClassVar[str] = "sensor"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        return image + constants(self.table(GAUSSIAN_SIGMA, image), severity) * random_normal(key, image.shape)


@dataclasses.dataclass(frozen=True)
class ShotNoise(BenchmarkCorruption):
    r"""Photons counted: :math:`\mathrm{Poisson}(c x) / c` of every sub-pixel, c photons at full white.

    Its gradient is that of the mean, which is the image.
    """

    variable: ClassVar[str] = "sensor"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        photons = constants(self.table(SHOT_PHOTONS, image), severity)
        return shot_noise(key, image, photons)


@dataclasses.dataclass(frozen=True)
class ImpulseNoise(BenchmarkCorruption):
    """Salt and pepper: a share of all sub-pixels becomes 0 or 1, either as likely; channels are independent."""

    variable: ClassVar[str] = "sensor"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        return impulse_noise(key, image, constants(self.table(IMPULSE_AMOUNT, image), severity))


@dataclasses.dataclass(frozen=True)
class SpeckleNoise(BenchmarkCorruption):
    """Multiplicative noise: x + x z, z normal, independent for every sub-pixel."""

    variable: ClassVar[str] = "sensor"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        sigma = constants(self.table(SPECKLE_SIGMA, image), severity)
        return image + image * sigma * random_normal(key, image.shape)


def shot_noise(key: PRNGKey, image: Image, photons: float | Float[Array, ""]) -> Image:
    """Every sub-pixel as counted with so many photons at full white; the gradient passes straight through."""
    counted = random_poisson(key, jax.lax.stop_gradient(jnp.maximum(image, 0)) * photons) / photons
    return image + jax.lax.stop_gradient(counted - image)


def impulse_noise(key: PRNGKey, image: Image, amount: float | Float[Array, ""]) -> Image:
    """The share ``amount`` of sub-pixels replaced by 0 or 1."""
    words = random_words(key, image.shape)
    hit = (words >> 8).astype(jnp.float32) * 2.0**-24 < amount
    # The lowest bit is not among those compared.
    return jnp.where(hit, (words & 1).astype(image.dtype), image)
