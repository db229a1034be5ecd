"""Affine and perspective warps.

Matrices act on points (x, y, 1), x to the right and y down, with pixels' centres at whole numbers. They say where each
pixel of the result reads in the image. Warping by A and the result by B is warping by A B.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.core.checks import check_choice
from robust_jax.core.loops import row_by_row
from robust_jax.images.borders import MODES
from robust_jax.images.resample import OUTLINE, inside_outline, map_coordinates, with_beyond
from robust_jax.images.size import image_size

Matrix = Float[Array, "3 3"]
Scalar = float | Float[Array, ""]
Point = tuple[Scalar, Scalar]


def warp(
    image: Float[Array, "h w c"],
    matrix: Matrix,
    *,
    shape: tuple[int, int] | None = None,
    order: int = 1,
    mode: str = "constant",
    cval: Scalar = 0.0,
) -> Float[Array, "H W c"]:
    """The image as seen through a matrix from pixels of the result to the image.

    A perspective's points behind the viewer read beyond the border, too.

    Args:
        image: the image.
        matrix: where result pixels read, see the module.
        shape: height and width of the result; by default the image's.
        order: 0, the nearest pixel; 1, bilinear.
        mode: of the border, as of :func:`~robust_jax.images.resample.map_coordinates`.
        cval: beyond the border, with modes ``constant`` and ``outline``.

    Raises:
        ValueError: if the order or the mode is unknown.
    """
    check_choice("mode", mode, (*MODES, OUTLINE))
    rows, columns = source_points(matrix, image_size(image) if shape is None else shape)
    return map_coordinates(image, rows, columns, order=order, mode=mode, cval=cval)


def rotate_translate(
    image: Float[Array, "h w c"],
    dx: Scalar,
    dy: Scalar,
    degrees: Scalar,
    *,
    border: str = "constant",
    order: int = 1,
    cval: Scalar = 0.0,
) -> Float[Array, "h w c"]:
    """The image turned about its middle, then moved; of order 1 differentiable in all three numbers.

    Args:
        image: the image.
        dx: pixels to the right.
        dy: pixels down.
        degrees: clockwise, as it is seen.
        border: mode of what lies beyond the image, see :func:`warp`.
        order: 0, the nearest pixel; 1, bilinear.
        cval: beyond the border, with the mode ``constant``.

    Raises:
        ValueError: if the border is unknown; the nearest is named.
    """
    turn = rotation(degrees, centre=image_centre(image.shape))
    return warp(image, compose(turn, translation(dx, dy)), order=order, mode=border, cval=cval)


def slide(
    image: Float[Array, "h w c"], shifts: Float[Array, "n"], *, axis: int, order: int = 1, cval: Scalar = 0.0
) -> Float[Array, "h w c"]:
    """Each row (axis 1) or column (axis 0) read along itself from further on, as :func:`warp` with mode ``outline``.

    Several times faster than a warp, which interpolates in both directions.

    Args:
        image: the image.
        shifts: how many pixels further each row or column reads.
        axis: along which they move.
        order: 0, the nearest pixel; 1, linear.
        cval: beyond the border.
    """
    if axis == 1:
        rows = (jnp.arange(image.shape[0]), shifts)
        if order == 0:
            moved = row_by_row(_cut_row, (_with_room(image), cval), rows, channels=image.shape[2])
            return moved.reshape(image.shape)
        return row_by_row(_read_row, (image, cval), rows)
    rows = jnp.arange(image.shape[0], dtype=jnp.float32)
    if order == 0:
        return row_by_row(_nearest_of_columns, (with_beyond(image, cval), shifts), rows, height=image.shape[0])
    return row_by_row(_read_columns, (image, cval, shifts), rows)


def move_rows(
    image: Float[Array, "h w c"], shift: Scalar, *, order: int = 1, cval: Scalar = 0.0
) -> Float[Array, "h w c"]:
    """The rows of an image from further down: :func:`slide` along axis 0, with one shift for all."""
    rows = jnp.arange(image.shape[0], dtype=jnp.float32) + shift
    return row_by_row(_read_whole_row, (image, cval), rows, order=order)


def _with_room(image: Float[Array, "h w c"]) -> Float[Array, "h+2 wc"]:
    """With a row above and one below, channels side by side."""
    height, width, channels = image.shape
    return jnp.pad(image.reshape(height, width * channels), ((1, 1), (0, 0)))


def _cut_row(
    given: tuple[Float[Array, "h+2 wc"], Scalar], row: tuple[Int[Array, ""], Float[Array, ""]], *, channels: int
) -> Float[Array, "wc"]:
    """A row from further along itself, by whole pixels: a piece of memory, without what is of its neighbours."""
    (room, cval), (index, shift) = given, row
    size = room.shape[1]
    width = size // channels
    whole = jnp.clip(jnp.floor(shift + 0.5), -width, width).astype(jnp.int32)
    piece = jax.lax.dynamic_slice(room.reshape(-1), ((index + 1) * size + whole * channels,), (size,))
    column = np.arange(width, dtype=np.int32).repeat(channels) + whole
    return jnp.where((column >= 0) & (column < width), piece, cval)


def _read_row(
    given: tuple[Float[Array, "h w c"], Scalar], row: tuple[Int[Array, ""], Float[Array, ""]]
) -> Float[Array, "w c"]:
    """A row from further along itself, between pixels."""
    (image, cval), (index, shift) = given, row
    _, width, channels = image.shape
    positions = jnp.arange(width, dtype=jnp.float32) + shift
    inside, positions = inside_outline(positions, width), jnp.clip(positions, -1, width)
    pixels = image.reshape(-1, channels)

    def read(position: Float[Array, "w"]) -> Float[Array, "w c"]:
        along = jnp.clip(position, 0, width - 1).astype(jnp.int32)
        return pixels.at[index * width + along].get(mode="promise_in_bounds")

    first = jnp.floor(positions)
    weight = (positions - first)[:, None]
    return jnp.where(inside[:, None], read(first) * (1 - weight) + read(first + 1) * weight, cval)


def _read_whole_row(given: tuple[Array, Scalar], row: Float[Array, ""], *, order: int) -> Float[Array, "w c"]:
    """A row of the image, or one between two."""
    image, cval = given
    height = len(image)
    read = lambda row: image[jnp.clip(row, 0, height - 1).astype(jnp.int32)]  # noqa: E731
    values = read(jnp.floor(row + 0.5) if order == 0 else jnp.floor(row))
    if order == 1:
        weight = row - jnp.floor(row)
        values = values * (1 - weight) + read(jnp.floor(row) + 1) * weight
    return jnp.where(inside_outline(row, height), values, cval)


def _nearest_of_columns(
    given: tuple[Float[Array, "hw+1 c"], Float[Array, "w"]], row: Float[Array, ""], *, height: int
) -> Float[Array, "w c"]:
    """A row of the result, of which every pixel is the one nearest to a place further down in its column."""
    pixels, shifts = given
    width = len(shifts)
    source = jnp.floor(row + shifts + 0.5).astype(jnp.int32)
    index = jnp.where((source >= 0) & (source < height), source * width + jnp.arange(width), height * width)
    return pixels.at[index].get(mode="promise_in_bounds")


def _read_columns(given: tuple[Array, Scalar, Float[Array, "w"]], row: Float[Array, ""]) -> Float[Array, "w c"]:
    """A row of the result, of which every pixel is read further down in its column, between pixels."""
    image, cval, shifts = given
    height, width, channels = image.shape
    positions = jnp.clip(row + shifts, -1, height)
    pixels = image.reshape(-1, channels)

    def read(position: Float[Array, "w"]) -> Float[Array, "w c"]:
        index = jnp.clip(position, 0, height - 1).astype(jnp.int32) * width + jnp.arange(width)
        return pixels.at[index].get(mode="promise_in_bounds")

    first = jnp.floor(positions)
    weight = (positions - first)[:, None]
    values = read(first) * (1 - weight) + read(first + 1) * weight
    return jnp.where(inside_outline(row + shifts, height)[:, None], values, cval)


def source_points(matrix: Matrix, shape: tuple[int, int]) -> tuple[Float[Array, "H W"], Float[Array, "H W"]]:
    """Rows and columns of the image that a result of ``shape`` reads."""
    y = jnp.arange(shape[0], dtype=jnp.float32)[:, None]
    x = jnp.arange(shape[1], dtype=jnp.float32)[None]
    columns, rows, depth = (matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] for i in range(3))
    ahead = depth > 1e-6
    depth = jnp.where(ahead, depth, 1)
    return jnp.where(ahead, rows / depth, -1e6), jnp.where(ahead, columns / depth, -1e6)


def image_centre(shape: Sequence[int]) -> tuple[float, float]:
    """(x, y) of the middle of an image of ``shape`` [h, w, ...]."""
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def translation(right: Scalar, down: Scalar) -> Matrix:
    """Moves the picture by so many pixels."""
    return _matrix((1, 0, -right), (0, 1, -down), (0, 0, 1))


def rotation(degrees: Scalar, *, centre: Point) -> Matrix:
    """Turns the picture clockwise, as it is seen, about a point."""
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return linear((cos, sin), (-sin, cos), centre=centre)


def scaling(factor: Scalar, *, centre: Point) -> Matrix:
    """Enlarges the picture by a factor, with a point that stays."""
    return linear((1 / factor, 0), (0, 1 / factor), centre=centre)


def shearing(degrees: Scalar, *, centre: Point) -> Matrix:
    """Tips the picture's verticals to the left at the top, or for negative angles to the right; rows stay rows."""
    slope = jnp.tan(jnp.deg2rad(jnp.asarray(degrees, jnp.float32)))
    return linear((1, -slope), (0, 1), centre=centre)


def tilting(down: Scalar, right: Scalar, *, centre: Point, focal: Scalar, offset: Scalar = 0.0) -> Matrix:
    r"""Turns the picture in space, about a horizontal and a vertical axis, and looks at it in perspective.

    A point (x, y) about the centre lies at :math:`R_x R_y (x, y, z_0)^T`, is moved away by the focal length f, and is
    seen at f (X, Y) / (Z + f).

    Args:
        down: degrees about the horizontal axis; positive ones move the lower edge away.
        right: degrees about the vertical axis; positive ones move the right edge away.
        centre: (x, y) of the axis of view.
        focal: focal length in pixels, also the distance to the picture.
        offset: z₀, how far behind the axes the picture lies.
    """
    down, right = (jnp.deg2rad(jnp.asarray(angle, jnp.float32)) for angle in (down, right))
    cos_d, sin_d, cos_r, sin_r = jnp.cos(down), jnp.sin(down), jnp.cos(right), jnp.sin(right)
    about_x = _matrix((1, 0, 0), (0, cos_d, -sin_d), (0, sin_d, cos_d))
    about_y = _matrix((cos_r, 0, -sin_r), (0, 1, 0), (sin_r, 0, cos_r))
    turn = _product(about_x, about_y)
    # Columns are where x, y and the constant go.
    turn = turn * jnp.array([[1.0, 1.0, 0.0]]) + jnp.array([[0.0, 0.0, 1.0]]) * turn[:, 2:] * offset
    away = jnp.zeros((3, 3)).at[2, 2].set(focal)
    seen = jnp.array([[1.0], [1.0], [0.0]]) * (turn * focal) + jnp.array([[0.0], [0.0], [1.0]]) * (turn + away)
    return about(inverse(seen), centre)


def linear(x: tuple[Scalar, Scalar], y: tuple[Scalar, Scalar], *, centre: Point) -> Matrix:
    """Reads x and y, from a point, at these combinations of the result's x and y."""
    return about(_matrix((*x, 0), (*y, 0), (0, 0, 1)), centre)


def about(matrix: Matrix, centre: Point) -> Matrix:
    """The same with ``centre`` as the origin."""
    x, y = centre
    return _product(_product(translation(-x, -y), matrix), translation(x, y))


def inverse(matrix: Matrix) -> Matrix:
    """The inverse, up to a factor, which no warp sees."""
    a, b, c = matrix
    columns = (jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b))
    adjugate = jnp.stack(columns, axis=1)
    return adjugate / jnp.dot(a, columns[0], precision=jax.lax.Precision.HIGHEST)


def compose(first: Matrix, *others: Matrix) -> Matrix:
    """Warping by the first, the result by the second, and so on."""
    for other in others:
        first = _product(first, other)
    return first


def _product(first: Matrix, second: Matrix) -> Matrix:
    return jnp.matmul(first, second, precision=jax.lax.Precision.HIGHEST)


def _matrix(*rows: tuple[Scalar, Scalar, Scalar]) -> Matrix:
    return jnp.stack([jnp.stack([jnp.asarray(entry, jnp.float32) for entry in row]) for row in rows])
