"""Noise of a given spectrum: blue, brown, Perlin's."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.corruptions.c_bar.levels import levels
from robust_jax.images.noise_fields import blue, brown
from robust_jax.images.perlin import turbulence
from robust_jax.images.size import image_size
from robust_jax.types import Image, PRNGKey

Scalar = Float[Array, ""]

_BLUE_LEVELS = levels((0.8, 1.6, 2.4, 4, 5.6), (0.7, 1.4, 2.1, 3.5, 4.2))
_BROWN_LEVELS = levels((1, 2, 3, 4, 5), (2.5, 4, 5.5, 6.5, 7))


@dataclasses.dataclass(frozen=True)
class BlueNoiseSample(BenchmarkCorruption):
    """Blackens pixels, evenly spread: those where blue noise of deviation 1 is at most 0.3 l − 2.5.

    l is 0.8, 1.6, 2.4, 4, 5.6; on CIFAR 0.7, 1.4, 2.1, 3.5, 4.2.

    Source: ``blue_noise_sample`` of ImageNet-C-bar and CIFAR-10-C-bar (Mintun, Kirillov & Xie, arXiv 2102.11273). Its
    quirks: the phases of the noise are mirrored a point off (:func:`robust_jax.images.noise_fields.mirrored_waves`),
    which doubles its variance at one corner, and the result is truncated to eight bits; ``clean`` thresholds a
    Gaussian field, and does not truncate.
    """

    variable: ClassVar[str] = "sensor"
    min_size: ClassVar[int] = 2

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        threshold = 0.3 * constants(self.table(_BLUE_LEVELS, image), severity) - 2.5
        noise = blue(key, image_size(image), mirrored=not self.clean)
        return jnp.where((noise > threshold)[..., None], image, 0.0)


@dataclasses.dataclass(frozen=True)
class BrownishNoise(BenchmarkCorruption):
    """Adds brown noise, smooth and with a random mean, independent in each channel: 64/255 · l/10 times deviation 1.

    l is 1 to 5; on CIFAR 2.5, 4, 5.5, 6.5, 7.

    Source: ``brownish_noise`` of ImageNet-C-bar and CIFAR-10-C-bar (arXiv 2102.11273). Its quirks: the phases are
    mirrored a point off (:func:`robust_jax.images.noise_fields.mirrored_waves`), which makes noise stronger near one
    corner, and the result is truncated to eight bits; ``clean`` adds a Gaussian field, and does not truncate.
    """

    variable: ClassVar[str] = "sensor"
    min_size: ClassVar[int] = 2

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        amount = 64 / 255 / 10 * constants(self.table(_BROWN_LEVELS, image), severity)
        keys = jax.random.split(key, image.shape[2])
        noise = jax.vmap(lambda key: brown(key, image_size(image), mirrored=not self.clean))(keys)
        return image + amount * jnp.moveaxis(noise, 0, -1)


@dataclasses.dataclass(frozen=True)
class PerlinNoise(BenchmarkCorruption):
    """Blends the image with grey clouds: ``(1 − a) x + a min(1/2 + t/2, 1)``, t Perlin's turbulence of 5 octaves.

    The largest cells are a seventh of the shorter side. a is l/20 with l of 4.6, 5.2, 5.8, 7.6, 8.8.

    Source: ``perlin_noise`` of ImageNet-C-bar (arXiv 2102.11273). Its quirk is truncation to eight bits, which
    ``clean`` leaves out; turbulence is positive, so that the clouds are bright, in both.
    """

    variable: ClassVar[str] = "weather"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        amount = 0.05 * constants((4.6, 5.2, 5.8, 7.6, 8.8), severity)
        field = turbulence(key, image_size(image), cell=min(image.shape[:2]) / 7, octaves=5)
        cloud = jnp.minimum(0.5 + 0.5 * field, 1)
        return (1 - amount) * image + amount * cloud[..., None]
