"""Perlin's gradient noise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_uniform
from robust_jax.types import PRNGKey


def turbulence(key: PRNGKey, shape: tuple[int, int], *, cell: float, octaves: int = 5) -> Float[Array, "h w"]:
    r"""Perlin's turbulence, at least 0 and mostly below 1:

    .. math:: \sum_{o=0}^{\mathrm{octaves} - 1} 2^{-o} \, |n(2^o x / \mathrm{cell})|

    with n gradient noise, 1.5 times the cubic interpolation of :math:`g_i \cdot (x - i)` between the whole points i.
    The directions g are those of points uniform in a square. As in Perlin's own code all octaves read one lattice, so
    they agree at the origin; unlike there, lattice points are independent and never repeat.

    A point's weights are products of one factor per axis, so an octave is two products of matrices each way.

    Args:
        key: random key.
        shape: height and width.
        cell: side of a cell of the first octave, in pixels.
        octaves: how many, each with cells half as large.

    References:
        Perlin, "An image synthesizer" (1985).
    """
    points = [[np.arange(size) / cell * 2**octave for size in shape] for octave in range(octaves)]
    # Only lattice points that some octave reads are drawn.
    lattices = [_lattice(np.concatenate([octave[axis] for octave in points])) for axis in range(2)]
    gradient = 2 * random_uniform(key, (2, *map(len, lattices))) - 1
    gradient = gradient * jax.lax.rsqrt(jnp.maximum(jnp.sum(gradient**2, axis=0, keepdims=True), 1e-12))
    total = jnp.zeros(shape)
    for octave, axes in enumerate(points):
        used = [_lattice(axis) for axis in axes]
        lattice = gradient
        for axis in range(2):
            lattice = jnp.take(lattice, np.searchsorted(lattices[axis], used[axis]), axis=axis + 1)
        (row, row_slope), (column, column_slope) = (_weights(*pair) for pair in zip(axes, used, strict=True))
        with jax.default_matmul_precision("float32"):
            noise = row_slope @ lattice[0] @ column.T + row @ lattice[1] @ column_slope.T
        total = total + jnp.abs(noise) * (1.5 / 2**octave)
    return total


def _lattice(points: Float[np.ndarray, "n"]) -> np.ndarray:
    """The whole numbers on either side of the points."""
    low = np.floor(points).astype(int)
    return np.union1d(low, low + 1)


def _weights(points: np.ndarray, lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weight of each lattice point at each point, and that times the distance from it."""
    distance = points[:, None] - lattice
    near = np.clip(1 - np.abs(distance), 0, 1)
    weight = near**2 * (3 - 2 * near)
    return weight.astype(np.float32), (weight * distance).astype(np.float32)
