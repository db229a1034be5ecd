"""Interference: a plane wave, rings, a plasma of folded waves."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.core.random_words import random_uniform
from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.images.size import image_size
from robust_jax.types import Image, PRNGKey

Scalar = Float[Array, ""]

# The longest sequence of folds of the plasma, and how each grows finer.
_MAX_FOLDS = 6
_FREQUENCY_GROWTH = 1.93
_TIME_GROWTH = 1.15


@dataclasses.dataclass(frozen=True)
class SingleFrequencyGreyscale(BenchmarkCorruption):
    r"""Adds one grey plane wave of random direction, frequency and phase.

    .. math:: x + \tfrac{196}{255} \tfrac{l}{10} \sin(\omega_r r + \omega_c c + \phi)

    at row r and column c; one :math:`\omega` uniform in ±π, the other within ± the first's modulus, in random order.
    l is 1, 1.5, 2, 4.5, 5.

    Source: ``single_frequency_greyscale`` of ImageNet-C-bar (Mintun, Kirillov & Xie, arXiv 2102.11273). Its quirk is
    truncation to eight bits, which ``clean`` leaves out.
    """

    variable: ClassVar[str] = "transmission"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        first, second, phase, order = random_uniform(key, (4,))
        larger = jnp.pi * (2 * first - 1)
        smaller = jnp.abs(larger) * (2 * second - 1)
        down, across = jnp.where(order < 0.5, larger, smaller), jnp.where(order < 0.5, smaller, larger)
        level = constants((1, 1.5, 2, 4.5, 5), severity)
        wave = plane_wave(image_size(image), down, across, 2 * jnp.pi * phase)
        return image + 196 / 255 / 10 * level * wave[..., None]


@dataclasses.dataclass(frozen=True)
class ConcentricSine(BenchmarkCorruption):
    r"""Adds grey rings about a random point: a sawtooth of the distance, itself modulated by a sine of the angle.

    .. math:: x + \tfrac{128}{255} \tfrac{l}{10}
        \Big(\tfrac{(d + a \sin f \theta) \bmod w}{w} - \tfrac12\Big)

    with d and θ distance and angle from a point uniform in the image, f in [0, 10], and a and w in [0, s/10], s the
    shorter side. l is 3, 5, 8, 9, 10.

    Source: ``cocentric_sine_waves`` (spelt so) of ImageNet-C-bar (arXiv 2102.11273). Its quirk is truncation to eight
    bits, which ``clean`` leaves out; a sawtooth it stays.
    """

    variable: ClassVar[str] = "transmission"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        height, width = image.shape[:2]
        row, column, frequency, amplitude, ring = random_uniform(key, (5,))
        largest = min(height, width) / 10
        # Rings of no width at all would divide by 0.
        ring = largest * jnp.maximum(ring, 1e-6)
        noise = rings((height, width), row * height, column * width, 10 * frequency, largest * amplitude, ring)
        level = constants((3, 5, 8, 9, 10), severity)
        return image + 128 / 255 / 10 * level * noise[..., None]


@dataclasses.dataclass(frozen=True)
class PlasmaNoise(BenchmarkCorruption):
    r"""Blends the image with a colourful plasma, waves folded by waves: ``(1 − a) x + a n``, n in [−1, 1].

    a is 64/255 · l/10 with l of 4.75, 7, 8.5, 9.25, 10. The plasma is :func:`folded_waves` of time in [0, 6π], 4 to 6
    folds, sharpness in [0.5, 1] and scale in [0.075, 0.2] times the shorter side. One channel gets the first of three.

    Source: ``plasma_noise`` of ImageNet-C-bar (arXiv 2102.11273). Its quirk is truncation to eight bits, which
    ``clean`` leaves out.
    """

    variable: ClassVar[str] = "transmission"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        time, folds, sharpness, scale = random_uniform(key, (4,))
        noise = folded_waves(
            image_size(image),
            6 * jnp.pi * time,
            4 + (3 * folds).astype(jnp.int32),
            0.5 + 0.5 * sharpness,
            (0.075 + 0.125 * scale) * min(image.shape[:2]),
        )
        amount = 64 / 255 / 10 * constants((4.75, 7, 8.5, 9.25, 10), severity)
        return (1 - amount) * image + amount * noise[..., : image.shape[2]]


def plane_wave(shape: tuple[int, int], down: Scalar, across: Scalar, phase: Scalar) -> Float[Array, "h w"]:
    """``sin(down · row + across · column + phase)``, as two outer products."""
    rows = down * jnp.arange(shape[0]) + phase
    columns = across * jnp.arange(shape[1])
    return jnp.outer(jnp.sin(rows), jnp.cos(columns)) + jnp.outer(jnp.cos(rows), jnp.sin(columns))


def rings(
    shape: tuple[int, int], row: Scalar, column: Scalar, frequency: Scalar, amplitude: Scalar, ring: Scalar
) -> Float[Array, "h w"]:
    """The sawtooth of :class:`ConcentricSine` about a point, in [−1/2, 1/2]; ``ring`` is the rings' width."""
    down, across = (np.arange(shape[0], dtype=np.float32)[:, None] - row), (np.arange(shape[1]) - column)[None]
    angle = jnp.arctan2(across, down) * frequency
    distance = jnp.sqrt(across**2 + down**2) + jnp.sin(angle) * amplitude
    turns = distance / ring
    return turns - jnp.floor(turns) - 0.5


def folded_waves(
    shape: tuple[int, int], time: Scalar, folds: Int[Array, ""], sharpness: Scalar, scale: Scalar
) -> Float[Array, "h w 3"]:
    """Three planes of waves in coordinates that ``folds`` times were moved by waves of themselves, each finer.

    ``folds`` is at most 6, and traced.
    """
    y = jnp.broadcast_to((jnp.arange(shape[0]) / scale)[:, None], shape)
    x = jnp.broadcast_to((jnp.arange(shape[1]) / scale)[None], shape)

    # A loop, for unrolled XLA would work out every fold again in each that follows.
    def fold(state: tuple, step: Array) -> tuple[tuple, None]:
        x, y, frequency, slowness, divisor = state
        across = jnp.cos(y * frequency + time / slowness) / divisor
        down = jnp.sin(x * frequency + time / slowness) / divisor
        active = (step < folds).astype(x.dtype)
        moved = x + active * (across - 0.3 * down), y + active * (down + 0.3 * across)
        return (*moved, frequency * _FREQUENCY_GROWTH, slowness * _TIME_GROWTH, divisor * (2.25 - sharpness)), None

    state = (x, y, *jnp.ones(3))
    (x, y, *_), _ = jax.lax.scan(fold, state, jnp.arange(_MAX_FOLDS))
    third = jnp.sin(y + time)
    second = jnp.sin((x + y + jnp.sin(time)) * 0.5)
    return jnp.stack([jnp.sin(x - time), second, third], axis=-1)
