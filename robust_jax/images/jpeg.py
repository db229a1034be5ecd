"""JPEG compression and decompression in the manner of libjpeg, differentiable and with a traced quality."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice
from robust_jax.images.quantise import straight_through
from robust_jax.types import Image

SUBSAMPLINGS = ("4:2:0", "4:4:4")

# Annex K of the JPEG standard (ITU-T T.81), tables K.1 and K.2: rows are vertical frequencies.
LUMA_TABLE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
CHROMA_TABLE = np.full((8, 8), 99)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# JFIF's colours, less the offset of 128, in libjpeg's multiples of 2^-16: exact in single precision.
TO_YCBCR = np.array([[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]], np.float32) / 65536
# What a unit of the blue and of the red difference adds to red, green and blue.
FROM_DIFFERENCES = np.array([[0, -22554, 116130], [91881, -46802, 0]], np.float32) / 65536


def jpeg(image: Image, quality: float | Float[Array, ""], *, subsampling: str = "4:2:0") -> Image:
    """The image after being saved as a baseline JPEG and loaded again: values are multiples of 1/255.

    Follows libjpeg to each rounding of its integer arithmetic, so that images agree with Pillow's to the last bit, but
    for a rare coefficient that single precision rounds otherwise. Three channels are RGB and stored as YCbCr; one
    channel is stored as it is. The gradient passes straight through all rounding (cf. Shin & Song, "JPEG-resistant
    adversarial images", 2017).

    Args:
        image: in [0, 1]; clipped and rounded to eight bits first. Sides that are not whole blocks are extended by
            their last pixels, as libjpeg does.
        quality: libjpeg's, from 1 to 100; traced, and fractions are allowed.
        subsampling: of the colour differences: 4:2:0 halves both their sides, by averages, and doubles them with a
            triangle filter; 4:4:4 leaves them.

    Raises:
        ValueError: if the subsampling is unknown.
    """
    check_choice("subsampling", subsampling, SUBSAMPLINGS)
    levels = _round(jnp.clip(image, 0, 1) * 255)
    if image.shape[-1] == 1:
        plane = _code(levels[..., 0] - 128, quality_table(LUMA_TABLE, quality))
        return _clip(plane + 128)[..., None] / 255
    red, green, blue = (levels[..., channel] for channel in range(3))
    luma, *difference = (row[0] * red + row[1] * green + row[2] * blue for row in TO_YCBCR.tolist())
    luma = _round(luma)
    # libjpeg rounds halves of these down.
    difference = _ceil(jnp.stack(difference) - 0.5)
    luma = _clip(_code(luma - 128, quality_table(LUMA_TABLE, quality)) + 128)
    table = quality_table(CHROMA_TABLE, quality)
    if subsampling == "4:4:4":
        difference = jax.vmap(lambda plane: _clip(_code(plane, table), -128, 127))(difference)
    else:
        difference = jax.vmap(lambda plane: _code_halved(plane, table))(difference)
    blue_difference, red_difference = difference[..., None]
    of_blue, of_red = jnp.asarray(FROM_DIFFERENCES)[:, None, None]
    change = _round(blue_difference * of_blue + red_difference * of_red)
    return _clip(luma[..., None] + change) / 255


def quality_table(table: np.ndarray, quality: float | Float[Array, ""]) -> Float[Array, "8 8"]:
    """libjpeg's quantisation steps for a quality: the table in percent of 5000 / q below 50, of 200 − 2 q from there.

    Whole numbers from 1 to 255, as a baseline file holds.
    """
    quality = jnp.clip(jnp.asarray(quality, jnp.float32), 1, 100)
    percent = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)
    return jnp.clip(jnp.floor((jnp.asarray(table, jnp.float32) * percent + 50) / 100), 1, 255)


def dct_matrix() -> Float[np.ndarray, "8 8"]:
    """The discrete cosine transform (type II) of 8 samples, times √8: rows are frequencies.

    In multiples of 2⁻¹³, as the transform that libjpeg calls slow and exact has them (Loeffler, Ligtenberg & Moschytz
    1989): its constants are rounded before they are added, so that some are not the nearest.
    """
    even = [[8192, 8192, 8192, 8192], [10703, 4433, -4433, -10703], [8192, -8192, -8192, 8192]]
    even += [[4433, -10704, 10704, -4433]]
    odd = [[11363, 9633, 6437, 2260], [9633, -2259, -11362, -6436], [6437, -11362, 2261, 9633]]
    odd += [[2260, -6436, 9633, -11363]]
    matrix = np.empty((8, 8), np.float32)
    matrix[0::2] = np.concatenate([even, np.flip(even, 1)], axis=1)
    matrix[1::2] = np.concatenate([odd, -np.flip(odd, 1)], axis=1)
    return matrix / 2**13


def block_dct(plane: Float[Array, "h w"]) -> Float[Array, "h/8 8 w/8 8"]:
    """The orthonormal transform of every block of 8 × 8, in whole multiples of 1/8, as libjpeg rounds it.

    Indices are block row, vertical frequency, block column, horizontal frequency. The plane holds levels about 0.
    """
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8)
    matrix, precision = dct_matrix(), jax.lax.Precision.HIGHEST
    # Two small products cost less than a block's transposition to one of 64 x 64. Rows first, to a quarter.
    rows = _round(jnp.einsum("lk,ajbk->ajbl", 4 * matrix, blocks, precision=precision))
    return _round(jnp.einsum("ij,ajbl->aibl", matrix / 4, rows, precision=precision)) / 8


def block_idct(blocks: Float[Array, "a 8 b 8"]) -> Float[Array, "8*a 8*b"]:
    """The inverse of :func:`block_dct`, in whole numbers, as libjpeg rounds it."""
    matrix, precision = dct_matrix().T, jax.lax.Precision.HIGHEST
    columns = _round(jnp.einsum("ij,ajbl->aibl", 4 * matrix, blocks, precision=precision))
    plane = _round(jnp.einsum("lk,aibk->aibl", matrix / 32, columns, precision=precision))
    return plane.reshape(8 * blocks.shape[0], 8 * blocks.shape[2])


def _code(plane: Float[Array, "h w"], table: Float[Array, "8 8"]) -> Float[Array, "h w"]:
    """A plane of levels about 0, compressed and decompressed; not clipped."""
    height, width = plane.shape
    steps = table[None, :, None]
    quantised = _round_away(block_dct(_extend(plane, 8, 8)) / steps) * steps
    return block_idct(quantised)[:height, :width]


def _code_halved(plane: Float[Array, "h w"], table: Float[Array, "8 8"]) -> Float[Array, "h w"]:
    """As :func:`_code`, at half the height and width."""
    height, width = plane.shape
    # libjpeg extends rows before it averages them, to whole blocks, but columns (beyond evenness) afterwards.
    even = _extend(plane, 2, 16)
    total = even[0::2, 0::2] + even[0::2, 1::2] + even[1::2, 0::2] + even[1::2, 1::2]
    # libjpeg rounds halves down in even columns and up in odd ones, so that the average stays.
    bias = 1 + np.arange(total.shape[1]) % 2
    half = _clip(_code(_floor((total + bias[None].astype(np.float32)) / 4), table), -128, 127)
    return _double(half[:, : -(-width // 2)])[:height, :width]


def _double(plane: Float[Array, "h w"]) -> Float[Array, "2*h 2*w"]:
    """libjpeg's "fancy upsampling": 3/4 of the nearer sample and 1/4 of the further, along both axes.

    Planes of one or two columns it repeats instead.
    """
    height, width = plane.shape
    if width <= 2:
        return jnp.repeat(jnp.repeat(plane, 2, axis=0), 2, axis=1)
    above = jnp.concatenate([plane[:1], plane[:-1]])
    below = jnp.concatenate([plane[1:], plane[-1:]])
    # Rounding comes once, after both axes.
    rows = jnp.stack([3 * plane + above, 3 * plane + below], axis=1).reshape(2 * height, width)
    left = jnp.concatenate([rows[:, :1], rows[:, :-1]], axis=1)
    right = jnp.concatenate([rows[:, 1:], rows[:, -1:]], axis=1)
    columns = jnp.stack([_floor((3 * rows + left + 8) / 16), _floor((3 * rows + right + 7) / 16)], axis=2)
    return columns.reshape(2 * height, 2 * width)


def _extend(plane: Float[Array, "h w"], height: int, width: int) -> Float[Array, "H W"]:
    """The plane with its last row and column repeated until its sides are multiples of ``height`` and ``width``."""
    edges = [(0, -plane.shape[0] % height), (0, -plane.shape[1] % width)]
    return jnp.pad(plane, edges, mode="edge") if any(edge[1] for edge in edges) else plane


def _clip(levels: Array, low: int = 0, high: int = 255) -> Array:
    return jnp.clip(levels, low, high)


def _straight_through(rounding):
    """A rounding whose derivative is 1."""
    return lambda x: straight_through(x, rounding(x))


_round = _straight_through(lambda x: jnp.floor(x + 0.5))
# Halves away from 0, as libjpeg quantises; the margin is less than any other fraction of whole steps comes near.
_round_away = _straight_through(lambda x: jnp.sign(x) * jnp.floor(jnp.abs(x) + (0.5 + 1e-4)))
_floor = _straight_through(jnp.floor)
_ceil = _straight_through(jnp.ceil)
