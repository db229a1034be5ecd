"""Reading images between their pixels, and at other sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.loops import row_by_row
from robust_jax.images.borders import MODES, fold
from robust_jax.types import Image

OUTLINE = "outline"
"""A border mode: ``nearest`` up to the outer edges of the outer pixels, half a pixel beyond their centres, and a
constant from there on, as in Pillow."""


def map_coordinates(
    image: Float[Array, "h w c"],
    rows: Float[Array, "*n"],
    columns: Float[Array, "*n"],
    *,
    order: int = 1,
    mode: str = "nearest",
    cval: float | Float[Array, ""] = 0.0,
) -> Float[Array, "*n c"]:
    """The image at points between pixels, whose centres are whole numbers.

    Agrees with ``scipy.ndimage.map_coordinates`` (there ``constant`` with order 1 is called ``grid-constant``, and
    ``wrap`` ``grid-wrap``).

    Args:
        image: the image.
        rows: where, from the top.
        columns: where, from the left.
        order: 0, the nearest pixel; 1, bilinear.
        mode: of the border, see :data:`robust_jax.images.borders.MODES`, and :data:`OUTLINE`.
        cval: beyond the border, with modes ``constant`` and ``outline``.

    Raises:
        ValueError: if the order or the mode is unknown.
    """
    check_choice("mode", mode, (*MODES, OUTLINE))
    if order not in (0, 1):
        raise ValueError(f"Expected order 0 or 1, got order={order!r}.")
    height, width, _ = image.shape
    # Far outside nothing differs, and indices must not overflow.
    if mode in ("constant", "nearest", OUTLINE):
        rows, columns = jnp.clip(rows, -2, height + 1), jnp.clip(columns, -2, width + 1)
    positions = jnp.broadcast_arrays(rows, columns)
    whole = positions[0].ndim < 2
    if order == 0:
        pixels, shape = with_beyond(image, cval), (height, width)
        if whole:
            return _nearest(pixels, positions, shape=shape, mode=mode)
        return row_by_row(_nearest, pixels, positions, shape=shape, mode=mode)
    if whole:
        return _bilinear((image, cval), positions, mode=mode)
    return row_by_row(_bilinear, (image, cval), positions, mode=mode)


def with_beyond(image: Float[Array, "h w c"], cval: float | Float[Array, ""]) -> Float[Array, "hw+1 c"]:
    """The pixels, and one more of what lies beyond the border: to read that is cheaper than to choose afterwards."""
    channels = image.shape[-1]
    return jnp.concatenate([image.reshape(-1, channels), jnp.full((1, channels), cval, image.dtype)])


Given = tuple[Image, float | Float[Array, ""]]
"""An image, and what lies beyond it."""
Positions = Sequence[Float[Array, "*n"]]
"""Rows and columns."""


def _nearest(
    pixels: Float[Array, "hw+1 c"], positions: Positions, *, shape: tuple[int, int], mode: str
) -> Float[Array, "*n c"]:
    height, width = shape
    row, column = (jnp.floor(position + 0.5).astype(jnp.int32) for position in positions)
    if mode in ("constant", OUTLINE):
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        index = jnp.where(inside, row * width + column, height * width)
    else:
        index = fold(row, height, mode) * width + fold(column, width, mode)
    return pixels.at[index].get(mode="promise_in_bounds")


def _bilinear(given: Given, positions: Positions, *, mode: str) -> Float[Array, "*n c"]:
    rows, columns = positions
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    upper = _mix(_pixels(given, top, left, mode), _pixels(given, top, left + 1, mode), right)
    lower = _mix(_pixels(given, top + 1, left, mode), _pixels(given, top + 1, left + 1, mode), right)
    return _within(_mix(upper, lower, down), given, positions, mode)


def _pixels(given: Given, rows: Float[Array, "*n"], columns: Float[Array, "*n"], mode: str) -> Float[Array, "*n c"]:
    image, cval = given
    height, width, channels = image.shape
    rows, columns = rows.astype(jnp.int32), columns.astype(jnp.int32)
    folded = "nearest" if mode == OUTLINE else mode
    index = fold(rows, height, folded) * width + fold(columns, width, folded)
    values = jnp.asarray(image).reshape(-1, channels).at[index].get(mode="promise_in_bounds")
    if mode != "constant":
        return values
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return jnp.where(inside[..., None], values, cval)


def _within(values: Float[Array, "*n c"], given: Given, positions: Positions, mode: str) -> Float[Array, "*n c"]:
    """Values, and with mode ``outline`` the constant beyond."""
    if mode != OUTLINE:
        return values
    (image, cval), (rows, columns) = given, positions
    inside = inside_outline(rows, image.shape[0]) & inside_outline(columns, image.shape[1])
    return jnp.where(inside[..., None], values, cval)


def inside_outline(positions: Float[Array, "*n"], size: int) -> Bool[Array, "*n"]:
    """Whether positions along an axis of ``size`` pixels are on one of them, whose centres are whole numbers."""
    return (positions >= -0.5) & (positions < size - 0.5)


def _mix(first: Array, second: Array, weight: Array) -> Array:
    return first * (1 - weight) + second * weight


def sample_grid(
    image: Float[Array, "h w c"], rows: Float[Array, "H"], columns: Float[Array, "W"], *, order: int = 1
) -> Float[Array, "H W c"]:
    """The image at every pair of a row and a column, clipped to the image; bilinear, or of order 0 the nearest pixel.

    As :func:`map_coordinates` on their grid, but by whole rows and columns, several times faster.
    """
    return _sample_axis(_sample_axis(image, rows, 0, order), columns, 1, order)


def _sample_axis(image: Image, positions: Float[Array, "n"], axis: int, order: int) -> Array:
    last = image.shape[axis] - 1
    positions = jnp.clip(positions, 0, last)
    if order == 0:
        return jnp.take(image, jnp.floor(positions + 0.5).astype(jnp.int32), axis=axis, mode="clip")
    low = jnp.floor(positions).astype(jnp.int32)
    weight = (positions - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    read = lambda index: jnp.take(image, index, axis=axis, mode="clip")  # noqa: E731
    return _mix(read(low), read(jnp.minimum(low + 1, last)), weight)


def resize(image: Float[Array, "h w c"], shape: tuple[int, int], method: str = "bilinear") -> Float[Array, "H W c"]:
    """The image at another size, each axis by a matrix.

    Args:
        image: the image.
        shape: new height and width.
        method: ``box``, ``bilinear`` or ``bicubic`` (a = −1/2): antialiased as in Pillow, whose results these are but
            for its rounding; ``area``: each new pixel the mean of what it covers, partial pixels in proportion;
            ``nearest``.

    Raises:
        ValueError: if the method is unknown or a side not positive.
    """
    for side in shape:
        check_positive("side", side)
    rows, columns = (jnp.asarray(resize_matrix(old, new, method)) for old, new in zip(image.shape, shape, strict=False))
    return apply_matrices(image, rows, columns)


def apply_matrices(
    image: Float[Array, "h w c"], rows: Float[Array | np.ndarray, "H h"], columns: Float[Array | np.ndarray, "W w"]
) -> Float[Array, "H W c"]:
    """A linear map of each column and one of each row: ``rows @ image @ columns.T`` in every channel."""
    precision = jax.lax.Precision.HIGHEST
    image = jnp.einsum("ij,jwc->iwc", rows, image, precision=precision)
    return jnp.einsum("ij,hjc->hic", columns, image, precision=precision)


def resize_matrix(old: int, new: int, method: str) -> Float[np.ndarray, "new old"]:
    """The weights of old pixels in new ones, see :func:`resize`; rows sum to 1."""
    check_choice("method", method, ("nearest", "area", *_FILTERS))
    scale = old / new
    if method == "nearest":
        return np.eye(old, dtype=np.float32)[np.minimum(((np.arange(new) + 0.5) * scale).astype(int), old - 1)]
    if method == "area":
        start, stop = np.arange(new)[:, None] * scale, np.arange(1, new + 1)[:, None] * scale
        pixel = np.arange(old)
        weights = np.clip(np.minimum(stop, pixel + 1) - np.maximum(start, pixel), 0, None)
    else:
        filter_function, support = _FILTERS[method]
        stretch = max(scale, 1.0)
        centre = (np.arange(new)[:, None] + 0.5) * scale
        pixel = np.arange(old) + 0.5
        weights = filter_function((pixel - centre) / stretch)
        low, high = (np.trunc(centre + side * support * stretch + 0.5) for side in (-1, 1))
        weights = weights * ((pixel > low) & (pixel < high))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _box(x: np.ndarray) -> np.ndarray:
    return ((x > -0.5) & (x <= 0.5)).astype(float)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))


_FILTERS: dict[str, tuple[Callable, float]] = {"box": (_box, 0.5), "bilinear": (_triangle, 1), "bicubic": (_cubic, 2)}


def pixelate(
    image: Float[Array, "h w c"], height: Int[Array, ""], width: Int[Array, ""], *, max_height: int, max_width: int,
    min_height: int, min_width: int, rounding: Callable[[Array], Array] = lambda plane: plane,
) -> Image:  # fmt: skip
    """The image reduced to ``height`` × ``width`` pixels by Pillow's box filter and enlarged again, both traced.

    Args:
        image: the image.
        height: of the small image, traced.
        width: of the small image, traced.
        max_height: the most that height may be; it sets the cost, as do the others.
        max_width: the most that width may be.
        min_height: the least that height may be.
        min_width: the least that width may be.
        rounding: applied after either axis, as a library of 8-bit images does.
    """
    # Pillow reduces rows' lengths first.
    small = rounding(_reduce(image, width, max_width, min_width, axis=1))
    small = rounding(_reduce(small, height, max_height, min_height, axis=0))
    # In whole numbers: a centre that falls on a border must not fall beside it.
    rows, columns = (
        (2 * jnp.arange(old) + 1) * new // (2 * old) for old, new in zip(image.shape[:2], (height, width), strict=True)
    )
    return jnp.take(jnp.take(small, rows, axis=0, mode="clip"), columns, axis=1, mode="clip")


def _reduce(image: Image, size: Int[Array, ""], most: int, least: int, axis: int) -> Array:
    old = image.shape[axis]
    # The pixels whose centres lie in the new one; the filter is 1 on all of them.
    edges = (2 * jnp.arange(most + 1) * old + size) // (2 * size)
    first, last = edges[:-1], jnp.minimum(edges[1:], old)
    count = jnp.maximum(last - first, 1).astype(image.dtype)
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    total = jnp.zeros((), image.dtype)
    for tap in range(-(-old // least) + 1):
        weight = (first + tap < last) / count
        total = total + weight.reshape(shape) * jnp.take(image, first + tap, axis=axis, mode="clip")
    return total
