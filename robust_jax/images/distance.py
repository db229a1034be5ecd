"""The distance to the nearest background, up to a limit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from robust_jax.core.checks import check_choice, check_positive

METRICS = ("euclidean", "chamfer")
# Costs of a step aside, of one to a diagonal neighbour and of a knight's move, in units of 2^-16 (Borgefors 1986, with
# the values of OpenCV's mask of 5 x 5).
_UNIT = 65536
_DIAGONAL, _KNIGHT = 91750, 143976


def distance_transform(mask: Bool[Array, "h w"], *, limit: int, metric: str = "euclidean") -> Float[Array, "h w"]:
    """From each pixel of the mask the distance to the nearest one outside of it, at most ``limit``; outside it is 0.

    ``euclidean`` agrees with ``scipy.ndimage.distance_transform_edt``. ``chamfer`` is the length of the shortest path
    of steps of 1, 1.4 and 2.1969 pixels to the 16 nearest neighbours, as ``cv2.distanceTransform`` with a mask of 5
    computes it. Cost grows with the limit. The result has no gradient.

    Raises:
        ValueError: if the limit is not positive or the metric unknown.

    References:
        Saito & Toriwaki, "New algorithms for Euclidean distance transformation of an n-dimensional digitized picture"
        (1994), for the separation into columns and rows; it holds for any distance that grows with both differences.
    """
    check_positive("limit", limit)
    check_choice("metric", metric, METRICS)
    columns = _column_distance(mask, limit)
    strips = jnp.pad(columns, ((0, len(columns) % 2), (limit, limit)), constant_values=limit)
    strips = strips.reshape(2, -1, strips.shape[1])
    # As a loop, of two steps, since XLA would merge so long an expression into whatever reads it, many times slower.
    nearest = jax.lax.map(lambda strip: _nearest_column(strip, limit, metric), strips)
    nearest = nearest.reshape(-1, mask.shape[1])[: len(columns)]
    distance = jnp.sqrt(nearest) if metric == "euclidean" else nearest / _UNIT
    return jnp.minimum(distance, limit)


def _nearest_column(columns: Float[Array, "h w+2*limit"], limit: int, metric: str) -> Float[Array, "h w"]:
    """The least cost of going to any column up to ``limit`` away and along it to the nearest pixel outside."""
    width = columns.shape[1] - 2 * limit
    shifted = lambda offset: columns[:, limit + offset : limit + offset + width]  # noqa: E731
    cost = _squared if metric == "euclidean" else _chamfer
    nearest = cost(0, shifted(0))
    for offset in range(1, limit):
        # Either side costs the same, so that of the two columns only the nearer matters.
        nearest = jnp.minimum(nearest, cost(offset, jnp.minimum(shifted(offset), shifted(-offset))))
    return nearest


def _column_distance(mask: Bool[Array, "h w"], limit: int) -> Float[Array, "h w"]:
    """To the nearest pixel outside of the mask in the same column, at most ``limit``."""
    distance = jnp.where(mask, float(limit), 0.0)
    steps, reach = [], 0
    while reach < limit:
        steps.append(min(reach + 1, limit - reach))
        reach += steps[-1]
    distance = jnp.pad(distance, ((limit, limit), (0, 0)), constant_values=limit)
    for step in steps:
        around = jnp.minimum(distance[2 * step :], distance[: -2 * step]) + step
        distance = jnp.minimum(distance[step:-step], around)
    return distance


def _squared(offset: int, columns: Float[Array, "h w"]) -> Float[Array, "h w"]:
    return columns * columns + offset**2


def _chamfer(offset: int, columns: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """The length of the shortest path across ``offset`` columns and a number of rows."""
    # A norm whose unit ball has 16 sides: the maximum of one linear function a side. Exact in single precision.
    first = np.array([_UNIT, _KNIGHT - 2 * _UNIT])
    second = np.array([_KNIGHT - _DIAGONAL, 2 * _DIAGONAL - _KNIGHT])
    sides = [first, second, second[::-1], first[::-1]]
    lengths = [float(offset * along) + columns * float(across) for along, across in sides]
    return jnp.maximum(jnp.maximum(lengths[0], lengths[1]), jnp.maximum(lengths[2], lengths[3]))
