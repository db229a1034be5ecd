"""Random planes in [0, 1]: the fractal clouds of the diamond-square algorithm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_uniform
from robust_jax.types import PRNGKey

Scalar = float | Float[Array, ""]
Plane = Float[Array, "h w"]


def plasma(key: PRNGKey, size: int, decay: Scalar) -> Float[Array, "size size"]:
    r"""Plasma, a fractal height map that wraps around: the diamond-square algorithm, scaled to range from 0 to 1.

    The map starts as a single 0. Each level doubles its side: a new point is the mean of its four nearest known
    neighbours, first the centres of squares, then those of edges, plus

    .. math:: d_l \sim U(-w_l^2, w_l^2), \quad w_l = 100\, \mathrm{decay}^{-l}.

    Args:
        key: random key.
        size: side of the map, a power of two.
        decay: what the amplitude's square root falls by at each level, at least 1: the larger, the smoother. Traced.

    Raises:
        ValueError: if ``size`` is not a power of two.

    References:
        Fournier, Fussell & Carpenter, "Computer rendering of stochastic models" (1982); the law, with the amplitude
        squared, is that of the code of ImageNet-C (arXiv 1903.12261).
    """
    if size < 1 or size & (size - 1):
        raise ValueError(f"Expected size to be a power of two, got size={size!r}.")
    displacement = 2 * random_uniform(key, (size * size,)) - 1
    height = jnp.zeros((1, 1))
    # Only the ratios of amplitudes matter, as the range is scaled in the end.
    amplitude = jnp.ones(())
    while height.shape[0] < size:
        side = height.shape[0]
        new = displacement[side * side : 4 * side * side].reshape(3, side, side) * amplitude
        height = _refine(height, new)
        amplitude = amplitude / decay**2
    return normalise(height)


def normalise(plane: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Shifts and scales a plane to range from 0 to 1; a constant plane becomes 0."""
    low, high = jnp.min(plane), jnp.max(plane)
    return (plane - low) / jnp.where(high > low, high - low, 1)


def _refine(height: Float[Array, "n n"], displacement: Float[Array, "3 n n"]) -> Float[Array, "2*n 2*n"]:
    """One level: square centres, then the middles of horizontal and of vertical edges, interleaved with the corners."""
    right, below = jnp.roll(height, -1, 1), jnp.roll(height, -1, 0)
    centre = (height + right + below + jnp.roll(right, -1, 0)) / 4 + displacement[0]
    horizontal = (height + right + centre + jnp.roll(centre, 1, 0)) / 4 + displacement[1]
    vertical = (height + below + centre + jnp.roll(centre, 1, 1)) / 4 + displacement[2]
    side = 2 * height.shape[0]
    even = jnp.stack([height, horizontal], -1)
    odd = jnp.stack([vertical, centre], -1)
    return jnp.stack([even, odd], 1).reshape(side, side)
