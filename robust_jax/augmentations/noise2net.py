"""Noise2Net: images through small networks of random weights, new ones for every image."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.augmentations.maps import Photometric
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.random_words import random_normal
from robust_jax.types import Image, PRNGKey

NUM_BLOCKS = 4
SCALES = 4
"""Parts of a block's channels, of which all but the last are convolved one after the other, as in Res2Net."""
MAX_DILATION = 3
NORM_EPSILON = 1e-5

Maps = Float[Array, "h w c"]


@dataclasses.dataclass(frozen=True)
class Noise2Net(Photometric):
    r"""Four residual blocks of random weights: :math:`x \leftarrow x + \epsilon\, B(x)` on normalised images.

    A block is a bottleneck of Res2Net with maps normalised over the image. Its three spatial convolutions are 1×1 or
    3×3, with a dilation of 1, 2 or 3, drawn for each. ε is uniform between half of ``epsilon`` and all of it.

    Weights, kernels and ε are drawn for each image by itself; in the published code kernels are drawn once an epoch and
    ε once a batch. The result is clipped to [0, 1].

    Raises:
        ValueError: if a number is out of range.

    References:
        Hendrycks et al., "The Many Faces of Robustness" (arXiv 2006.16241), the online form of DeepAugment.
    """

    epsilon: float = 0.75
    """The most that ε may be."""
    hidden: int = 16
    """Channels of each of a block's four parts."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from images before: one number, or one per channel."""
    std: tuple[float, ...] = (0.25,)
    """Divides images before: one number, or one per channel."""

    def __post_init__(self):
        check_non_negative("epsilon", self.epsilon)
        check_positive("hidden", self.hidden)
        for std in self.std:
            check_positive("std", std)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        epsilon_key, key = jax.random.split(key)
        epsilon = self.epsilon * jax.random.uniform(epsilon_key, minval=0.5)
        mean, std = jnp.asarray(self.mean)[None, None], jnp.asarray(self.std)[None, None]

        def step(x: Maps, block_key: PRNGKey) -> tuple[Maps, None]:
            return x + epsilon * random_block(block_key, x, self.hidden), None

        with jax.default_matmul_precision("float32"):
            x, _ = jax.lax.scan(step, (image - mean) / std, jax.random.split(key, NUM_BLOCKS))
        return jnp.clip(mean + std * x, 0, 1)


def random_block(key: PRNGKey, x: Maps, hidden: int) -> Maps:
    """A bottleneck of Res2Net with random weights; every channel of the result has mean 0 and variance 1."""
    first_key, last_key, *keys = jax.random.split(key, 1 + SCALES)
    channels = x.shape[-1]
    parts = jax.nn.relu(_normalised(x @ random_normal(first_key, (channels, SCALES * hidden))))
    *convolved, last = jnp.split(parts, SCALES, axis=-1)
    found, previous = [], jnp.zeros_like(last)
    for part, part_key in zip(convolved, keys, strict=True):
        previous = jax.nn.relu(_normalised(_random_convolution(part_key, previous + part)))
        found.append(previous)
    return _normalised(jnp.concatenate([*found, last], axis=-1) @ random_normal(last_key, (SCALES * hidden, channels)))


def _random_convolution(key: PRNGKey, x: Maps) -> Maps:
    """1×1 or 3×3 with a random dilation; a sum over taps, so that the dilation may be traced."""
    size_key, dilation_key, key = jax.random.split(key, 3)
    height, width, channels = x.shape
    dilation = jax.random.randint(dilation_key, (), 1, MAX_DILATION + 1)
    centre = np.zeros((3, 3), bool)
    centre[1, 1] = True
    used = jnp.where(jax.random.bernoulli(size_key), centre, True)
    kernel = used[..., None, None] * random_normal(key, (3, 3, channels, channels))
    padded = jnp.pad(x, ((MAX_DILATION, MAX_DILATION), (MAX_DILATION, MAX_DILATION), (0, 0)))
    total = jnp.zeros_like(x)
    for i, j in np.ndindex(3, 3):
        corner = (MAX_DILATION + (i - 1) * dilation, MAX_DILATION + (j - 1) * dilation, 0)
        total = total + jax.lax.dynamic_slice(padded, corner, (height, width, channels)) @ kernel[i, j]
    return total


def _normalised(x: Maps) -> Maps:
    mean = jnp.mean(x, axis=(0, 1), keepdims=True)
    variance = jnp.mean((x - mean) ** 2, axis=(0, 1), keepdims=True)
    return (x - mean) / jnp.sqrt(variance + NORM_EPSILON)
