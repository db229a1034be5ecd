"""Edges: Sobel's derivatives and Canny's detector."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from robust_jax.images.borders import pad

# Steps of growth between two looks at whether anything still grows.
_STEPS_PER_CHECK = 4


def sobel(plane: Float[Array, "h w"], *, mode: str = "mirror") -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Derivatives along rows and along columns, not scaled: ``cv2.Sobel`` of order 1 with a kernel of 3.

    Args:
        plane: the plane.
        mode: of the border, see :data:`robust_jax.images.borders.MODES`.
    """
    padded = pad(plane, 1, 1, mode)
    height, width = plane.shape
    at = lambda row, column: padded[row : row + height, column : column + width]  # noqa: E731
    rising, falling = at(2, 2) - at(0, 0), at(0, 2) - at(2, 0)
    return rising + falling + 2 * (at(1, 2) - at(1, 0)), rising - falling + 2 * (at(2, 1) - at(0, 1))


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
    dx, dy = sobel(jax.lax.stop_gradient(plane), mode="nearest")
    size = jnp.abs(dx) + jnp.abs(dy)
    thin = _largest_across(size, dx, dy)
    weak = thin & (size > jnp.floor(low))
    strong = thin & (size > jnp.floor(jnp.maximum(low, high)))
    return _connected(weak, strong)


def _largest_across(size: Float[Array, "h w"], dx: Float[Array, "h w"], dy: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    height, width = size.shape
    padded = jnp.pad(size, 1)
    at = lambda row, column: padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]  # noqa: E731
    across, along = jnp.abs(dx), jnp.abs(dy)
    # No ratio of whole numbers up to 1020 lies between these tangents of 22.5° and 67.5° and OpenCV's, of 15 bits.
    horizontal = along < across * (math.sqrt(2) - 1 + 7e-7)
    vertical = along > across * (math.sqrt(2) + 1 + 7e-7)
    falling = (dx < 0) != (dy < 0)
    # Ties go to the pixel on the left or above, but in diagonals to none.
    before = jnp.where(falling, at(-1, 1), at(-1, -1))
    after = jnp.where(falling, at(1, -1), at(1, 1))
    diagonal = (size > before) & (size > after)
    return jnp.where(
        horizontal,
        (size > at(0, -1)) & (size >= at(0, 1)),
        jnp.where(vertical, (size > at(-1, 0)) & (size >= at(1, 0)), diagonal),
    )


def _connected(weak: Bool[Array, "h w"], strong: Bool[Array, "h w"]) -> Bool[Array, "h w"]:
    """The strong pixels and all weak ones that a path of weak ones, to any of 8 neighbours, joins to them."""

    def grow(grown: Bool[Array, "h w"]) -> Bool[Array, "h w"]:
        rows = jnp.pad(grown, ((1, 1), (0, 0)))
        rows = rows[2:] | rows[:-2] | grown
        columns = jnp.pad(rows, ((0, 0), (1, 1)))
        return (columns[:, 2:] | columns[:, :-2] | rows) & weak

    def step(state):
        grown, _ = state
        new = grown
        for _ in range(_STEPS_PER_CHECK):
            new = grow(new)
        return new, jnp.any(new != grown)

    return jax.lax.while_loop(lambda state: state[1], step, (strong, jnp.any(strong)))[0]
