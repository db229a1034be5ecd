"""Sequences of noise: every frame but the first is a draw of its own (arXiv 1903.12261, section 3 and appendix)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from robust_jax.core.random_words import random_normal
from robust_jax.corruptions.imagenet_c.noise import shot_noise
from robust_jax.corruptions.imagenet_p.base import PerturbationSequence
from robust_jax.types import Image, PRNGKey

GAUSSIAN_SIGMA = {"imagenet224": 0.03, "cifar32": 0.02, "tiny64": 0.025}
SHOT_PHOTONS = {"imagenet224": 300, "cifar32": 700, "tiny64": 500}
SPECKLE_SIGMA = {"imagenet224": 0.05, "cifar32": 0.05, "tiny64": 0.05}


@dataclasses.dataclass(frozen=True)
class _NoiseSequence(PerturbationSequence):
    variable: ClassVar[str] = "sensor"
    is_noise: ClassVar[bool] = True

    def prepare(self, key: PRNGKey, image: Image) -> tuple[PRNGKey, Image]:
        return key, image

    def picture(self, state: tuple[PRNGKey, Image], frame: Int[Array, ""]) -> Image:
        key, image = state
        return jnp.where(frame == 0, image, self.noisy(jax.random.fold_in(key, frame), image))

    def noisy(self, key: PRNGKey, image: Image) -> Image:
        """One draw."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class GaussianNoiseSequence(_NoiseSequence):
    """The image, then independent draws of it with normal noise of one standard deviation.

    ``clean`` differs by the truncation to eight bits alone.
    """

    def noisy(self, key: PRNGKey, image: Image) -> Image:
        return image + self.table(GAUSSIAN_SIGMA, image.shape) * random_normal(key, image.shape)


@dataclasses.dataclass(frozen=True)
class ShotNoiseSequence(_NoiseSequence):
    """The image, then independent draws of it as counted in photons.

    ``clean`` differs by the truncation to eight bits alone.
    """

    def noisy(self, key: PRNGKey, image: Image) -> Image:
        return shot_noise(key, image, self.table(SHOT_PHOTONS, image.shape))


@dataclasses.dataclass(frozen=True)
class SpeckleNoiseSequence(_NoiseSequence):
    """The image, then independent draws of x + x z with z normal; for validation.

    ``clean`` differs by the truncation to eight bits alone.
    """

    def noisy(self, key: PRNGKey, image: Image) -> Image:
        return image + image * self.table(SPECKLE_SIGMA, image.shape) * random_normal(key, image.shape)
