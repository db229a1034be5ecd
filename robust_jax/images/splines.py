"""Cubic B-splines, as scipy.ndimage interpolates with at order 3; images go on as if mirrored at their outer pixels."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.images.borders import fold


def cubic_spline(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The cubic B-spline, 2/3 at 0, 1/6 at ±1 and 0 from ±2 on."""
    x = jnp.abs(x)
    near = 2 / 3 - x**2 * (1 - x / 2)
    return jnp.where(x < 1, near, jnp.maximum(2 - x, 0) ** 3 / 6)


def spline_matrix(positions: Float[Array, "*n"], size: int) -> Float[Array, "*n size"]:
    """Weights of an axis's ``size`` spline coefficients in the values at positions within it, by matrix."""
    grid = np.arange(size, dtype=np.float32).reshape((1,) * positions.ndim + (-1,))
    positions = positions[..., None]
    # Coefficients beyond either end are those of the mirrored axis, whose outer pixels are not doubled.
    low = jnp.where(grid > 0, cubic_spline(positions + grid), 0)
    high = jnp.where(grid < size - 1, cubic_spline(positions + grid - 2 * (size - 1)), 0)
    return cubic_spline(positions - grid) + low + high


def spline_taps(positions: Float[Array, "*n"], size: int) -> list[tuple[Int[Array, "*n"], Float[Array, "*n"]]]:
    """The four coefficients of an axis that the values at positions depend on: indices and weights."""
    first = jnp.floor(positions)
    return [
        (fold(first.astype(jnp.int32) + tap, size, "mirror"), cubic_spline(positions - (first + tap)))
        for tap in (-1, 0, 1, 2)
    ]


def prefilter_matrix(size: int) -> Float[np.ndarray, "size size"]:
    """What makes spline coefficients of values: the inverse of the spline at whole positions."""
    if size == 1:
        return np.ones((1, 1), np.float32)
    values = np.eye(size) * 2 / 3 + (np.eye(size, k=1) + np.eye(size, k=-1)) / 6
    values[0, 1] = values[-1, -2] = 1 / 3
    return np.linalg.inv(values).astype(np.float32)
