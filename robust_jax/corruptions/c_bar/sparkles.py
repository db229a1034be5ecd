"""Glare: stars of light, and light everywhere but at a star."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.core.random_words import random_normal, random_uniform
from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.corruptions.c_bar.levels import levels
from robust_jax.types import Image, PRNGKey

Scalar = Float[Array, ""]

_LEVELS = levels((1, 2, 3, 5, 6), (0.7, 3.5, 5.6, 6.3, 7))
_INVERSE_LEVELS = levels((1, 2, 4, 9, 10), (1, 1.5, 2.5, 4.5, 5))
_NUM_SPARKLES = 5
_MAX_RAYS = 200
_RAY_DEVIATION = 0.25


@dataclasses.dataclass(frozen=True)
class Sparkles(BenchmarkCorruption):
    """Five white stars at uniform points, each of 50 to 199 rays, of mean radius s l/100, s the shorter side.

    A pixel goes to white by min(1, f²-law of :func:`sparkle`). l is 1, 2, 3, 5, 6; on CIFAR 0.7, 3.5, 5.6, 6.3, 7.
    Rays are at least a pixel long.

    Source: ``sparkles`` of ImageNet-C-bar and CIFAR-10-C-bar (Mintun, Kirillov & Xie, arXiv 2102.11273). Its quirk is
    truncation to eight bits, which ``clean`` leaves out.
    """

    variable: ClassVar[str] = "illumination"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        height, width = image.shape[:2]
        radius = 0.01 * min(height, width) * constants(self.table(_LEVELS, image), severity)
        position_key, ray_key = jax.random.split(key)
        row, column, count = random_uniform(position_key, (3, _NUM_SPARKLES))
        lengths = jnp.maximum(1, radius * (1 + _RAY_DEVIATION * random_normal(ray_key, (_NUM_SPARKLES, _MAX_RAYS))))
        # What is left of the image's own light after all five.
        rest = jnp.ones((height, width))
        for i in range(_NUM_SPARKLES):
            star = sparkle((height, width), row[i] * height, column[i] * width, _num_rays(count[i]), lengths[i], 1.0)
            rest = rest * (1 - star)
        return 1 - rest[..., None] * (1 - image)


@dataclasses.dataclass(frozen=True)
class InverseSparkles(BenchmarkCorruption):
    """White everywhere but at one star of 50 to 199 rays, of mean radius s/4, s the shorter side.

    Its centre is uniform in the middle half of the image. A pixel keeps min(1, the value of :func:`sparkle`) of its
    distance from white, with exponent 0.13 l; l is 1, 2, 4, 9, 10, on CIFAR 1, 1.5, 2.5, 4.5, 5.

    Source: ``inverse_sparkles`` of ImageNet-C-bar and CIFAR-10-C-bar (arXiv 2102.11273). Its quirk is truncation to
    eight bits, which ``clean`` leaves out.
    """

    variable: ClassVar[str] = "illumination"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        height, width = image.shape[:2]
        radius = 0.25 * min(height, width)
        position_key, ray_key = jax.random.split(key)
        row, column, count = random_uniform(position_key, (3,))
        lengths = radius * (1 + _RAY_DEVIATION * random_normal(ray_key, (_MAX_RAYS,)))
        exponent = 0.13 * constants(self.table(_INVERSE_LEVELS, image), severity)
        row, column = (0.25 + 0.5 * row) * height, (0.25 + 0.5 * column) * width
        star = sparkle((height, width), row, column, _num_rays(count), lengths, exponent)
        return 1 - star[..., None] * (1 - image)


def sparkle(
    shape: tuple[int, int],
    row: Scalar,
    column: Scalar,
    rays: Int[Array, ""],
    lengths: Float[Array, "m"],
    exponent: Scalar | float,
) -> Float[Array, "h w"]:
    r"""A star: :math:`\min\{1, (1 - (f - \tfrac12)^2) (\ell^2 / d^2)^e\}` with d the distance from its centre.

    The first ``rays`` of the lengths are spread evenly by angle; ℓ is interpolated between the two neighbours, and f
    in [0, 1) is where between them the pixel is.
    """
    down, across = jnp.arange(shape[0])[:, None] - row, jnp.arange(shape[1])[None] - column
    turn = (jnp.arctan2(across, down) + jnp.pi) / (2 * jnp.pi) * rays
    index = jnp.floor(turn).astype(jnp.int32)
    fraction = turn - index
    # Angles of exactly π are those of −π.
    first = jnp.where(index >= rays, 0, index)
    second = jnp.where(index + 1 >= rays, index + 1 - rays, index + 1)
    read = lambda i: lengths.at[i].get(mode="promise_in_bounds")  # noqa: E731
    length = read(first) * (1 - fraction) + read(second) * fraction
    reach = length**2 / (down**2 + across**2 + 1e-4)
    # A ray may have shrunk to nothing.
    powers = reach if isinstance(exponent, float) and exponent == 1 else jnp.exp(exponent * jnp.log(reach + 1e-30))
    return jnp.minimum((1 - (fraction - 0.5) ** 2) * powers, 1)


def _num_rays(uniform: Scalar) -> Int[Array, ""]:
    return 50 + (150 * uniform).astype(jnp.int32)
