"""Gaussian noise in a part of the image."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from robust_jax.augmentations.maps import Photometric
from robust_jax.augmentations.rectangles import random_square
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.random_words import random_normal
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class PatchGaussian(Photometric):
    """Gaussian noise in a square about a random pixel, with a standard deviation uniform from 0.

    Raises:
        ValueError: if a number is negative.

    References:
        Lopes, Yin, Poole, Gilmer & Cubuk (arXiv 1906.02611), algorithm 1: 25 pixels with σ up to 1 on CIFAR-10, up to
        250 pixels with σ up to 1 on ImageNet.
    """

    size: int = 25
    """Pixels of a side, the most if they are random."""
    random_size: bool = False
    """Draw the side evenly from 1 up to ``size`` pixels."""
    sigma: float = 1.0
    """The most that the standard deviation may be."""

    def __post_init__(self):
        check_positive("size", self.size)
        check_non_negative("sigma", self.sigma)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        place_key, size_key, sigma_key, noise_key = jax.random.split(key, 4)
        size = jax.random.randint(size_key, (), 1, self.size + 1) if self.random_size else self.size
        sigma = self.sigma * jax.random.uniform(sigma_key)
        noisy = jnp.clip(image + sigma * random_normal(noise_key, image.shape), 0, 1)
        return jnp.where(random_square(place_key, image.shape, size), noisy, image)
