"""Edges: Sobel's derivatives and Canny's detector."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from robust_jax.images.borders import pad

# Steps of growth between two looks at whether anything still grows.
_STEPS_PER_CHECK = 2


def sobel(plane: Float[Array, "h w"], *, mode: str = "mirror") -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Derivatives along rows and along columns, not scaled: ``cv2.Sobel`` of order 1 with a kernel of 3.

    Args:
        plane: the plane.
        mode: of the border, see :data:`robust_jax.images.borders.MODES`.
    """
    return _inner_sobel(pad(plane, 1, 1, mode))


def canny(
    plane: Float[Array, "h w"], low: float | Float[Array, ""], high: float | Float[Array, ""]
) -> Bool[Array, "h w"]:
    """Where Canny's detector finds an edge: as ``cv2.Canny`` with an aperture of 3, on a plane of whole levels 0–255.

    The gradient's size is |dx| + |dy| after Sobel, with the border repeated. Of pixels above ``low``, only those stay
    that are largest across the edge, in one of four directions; of these, those connected to one above ``high``.

    Args:
        plane: grey levels, whole numbers, which makes the result exact. It does not pass a gradient on.
        low: what an edge pixel's gradient exceeds, rounded down to a whole number.
        high: what some pixel of each edge exceeds, likewise.

    References:
        Canny, "A computational approach to edge detection" (1986).
    """
    # A pixel more on each side, where sizes are needed too; they count as 0.
    dx, dy = _inner_sobel(pad(jax.lax.stop_gradient(plane), 2, 2, "nearest"))
    inside = np.pad(np.ones(plane.shape, np.float32), 1)
    size = (jnp.abs(dx) + jnp.abs(dy)) * inside
    thin = _largest_across(size, dx[1:-1, 1:-1], dy[1:-1, 1:-1])
    size = size[1:-1, 1:-1]
    above = [(size > jnp.floor(limit)).astype(jnp.uint8) for limit in (low, jnp.maximum(low, high))]
    return _connected(jnp.where(thin, above[0] + above[1], 0))


def _inner_sobel(padded: Float[Array, "h+2 w+2"]) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    at = lambda row, column: _window(padded, row, column)  # noqa: E731
    rising, falling = at(1, 1) - at(-1, -1), at(-1, 1) - at(1, -1)
    return rising + falling + 2 * (at(0, 1) - at(0, -1)), rising - falling + 2 * (at(1, 0) - at(-1, 0))


def _window(padded: Float[Array, "h+2 w+2"], row: int, column: int) -> Float[Array, "h w"]:
    """What lies ``row`` below and ``column`` to the right of each pixel of a plane padded by one."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    return padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]


def _largest_across(
    size: Float[Array, "h+2 w+2"], dx: Float[Array, "h w"], dy: Float[Array, "h w"]
) -> Bool[Array, "h w"]:
    at = lambda row, column: _window(size, row, column)  # noqa: E731
    centre, across, along = at(0, 0), jnp.abs(dx), jnp.abs(dy)
    # No ratio of whole numbers up to 1020 lies between these tangents of 22.5° and 67.5° and OpenCV's, of 15 bits.
    horizontal = along < across * (math.sqrt(2) - 1 + 7e-7)
    vertical = along > across * (math.sqrt(2) + 1 + 7e-7)
    falling = (dx < 0) != (dy < 0)
    # Ties go to the pixel on the left or above, but in diagonals to none.
    before = jnp.where(falling, at(-1, 1), at(-1, -1))
    after = jnp.where(falling, at(1, -1), at(1, 1))
    diagonal = (centre > before) & (centre > after)
    return jnp.where(
        horizontal,
        (centre > at(0, -1)) & (centre >= at(0, 1)),
        jnp.where(vertical, (centre > at(-1, 0)) & (centre >= at(1, 0)), diagonal),
    )


def _connected(strength: UInt8[Array, "h w"]) -> Bool[Array, "h w"]:
    """Pixels of strength 2 and those of 1 that a path through others of 1, to any of 8 neighbours, joins to them."""

    def grow(strength: UInt8[Array, "h w"]) -> UInt8[Array, "h w"]:
        rows = jnp.pad(strength, ((1, 1), (0, 0)))
        rows = jnp.maximum(jnp.maximum(rows[2:], rows[:-2]), strength)
        columns = jnp.pad(rows, ((0, 0), (1, 1)))
        largest = jnp.maximum(jnp.maximum(columns[:, 2:], columns[:, :-2]), rows)
        # Nothing stays nothing; a weak pixel beside a strong one becomes strong.
        return jnp.minimum(2 * strength, largest)

    def step(state):
        old, _ = state
        new = old
        for _ in range(_STEPS_PER_CHECK):
            new = grow(new)
        return new, jnp.any(new != old)

    return jax.lax.while_loop(lambda state: state[1], step, (strength, jnp.any(strength == 1)))[0] == 2
