"""Grey over parts of the image: squares of a tilted chess board, thin lines."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.core.random_words import random_uniform
from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.corruptions.c_bar.levels import levels
from robust_jax.images.size import image_size
from robust_jax.types import Image, PRNGKey

Scalar = Float[Array, ""]

_GREY = 128 / 255
_CHECKER_LEVELS = levels((2, 3, 4, 5, 6), (1, 2, 3, 4, 5))
# Squares are at least a tenth of the shorter side.
_LEAST_SQUARE = 0.1
_LINE_LEVELS = (0.5, 1, 1.5, 2, 2.5)
_LINES_PER_STEP = 32
_FAR = 1e9


@dataclasses.dataclass(frozen=True)
class CheckerboardCutout(BenchmarkCorruption):
    """Greys, each with chance l/10, the black squares of a tilted chess board.

    The board turns by any angle about the image's first pixel; its squares' side is 0.1 to 0.25 times the shorter
    side. l is 2 to 6, on CIFAR 1 to 5.

    Source: ``checkerboard_cutout`` of ImageNet-C-bar and CIFAR-10-C-bar (Mintun, Kirillov & Xie, arXiv 2102.11273).
    It has no quirk but eight bits, which ``clean`` leaves out. Grey is 128/255.
    """

    variable: ClassVar[str] = "transmission"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        place_key, square_key = jax.random.split(key)
        angle, side = random_uniform(place_key, (2,))
        shorter = min(image.shape[:2])
        side = jnp.maximum((_LEAST_SQUARE + 0.15 * side) * shorter, 1)
        # A power of two of squares each way, enough that none is met twice.
        squares = 2 ** math.ceil(math.log2(2 + 1.5 * max(image.shape[:2]) / min(_LEAST_SQUARE * shorter, shorter)))
        chance = 0.1 * constants(self.table(_CHECKER_LEVELS, image), severity)
        cut = random_uniform(square_key, (squares, squares)) < chance
        hidden = chess_squares(image_size(image), 2 * jnp.pi * angle, side, cut)
        return jnp.where(hidden[..., None], _GREY, image)


@dataclasses.dataclass(frozen=True)
class Lines(BenchmarkCorruption):
    """Grey antialiased lines through uniform points: ⌊s l/10⌋ of them, s the shorter side, each s long either way.

    Their angles are spread by 10 % to 100 % of a turn about a uniform angle. l is 0.5, 1, 1.5, 2, 2.5.

    Source: ``lines`` of CIFAR-10-C-bar (arXiv 2102.11273). Its quirk is truncation to eight bits after every line,
    the losses of all but a pixel's last line here by their mean; ``clean`` leaves it out. Grey is 128/255.
    """

    variable: ClassVar[str] = "transmission"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        height, width = image.shape[:2]
        side = min(height, width)
        most = max(math.floor(_LINE_LEVELS[-1] / 10 * side), 1)
        angle_key, line_key = jax.random.split(key)
        angle, spread = random_uniform(angle_key, (2,))
        row, column, turn = random_uniform(line_key, (3, most))
        angle = 2 * jnp.pi * (angle + (0.1 + 0.9 * spread) * (turn - 0.5))
        rise, run = side * jnp.sin(angle), side * jnp.cos(angle)
        row, column = row * height, column * width
        ends = jnp.stack([row - run, column - rise, row + run, column + rise], axis=-1)
        # A product that should be whole may fall just short of it.
        count = jnp.floor(constants(_LINE_LEVELS, severity) / 10 * side + 1e-4).astype(jnp.int32)
        return draw_lines(image, jnp.trunc(ends), count, _GREY, truncate=not self.clean)


def chess_squares(
    shape: tuple[int, int], angle: Scalar, side: Scalar, cut: Bool[Array, "n n"]
) -> Bool[Array, "h w"]:  # fmt: skip
    """Which pixels lie on a black square that is cut; ``cut`` repeats every n squares, n a power of two."""
    row, column = jnp.arange(shape[0])[:, None] / side, jnp.arange(shape[1])[None] / side
    first = jnp.floor(jnp.cos(angle) * row + jnp.sin(angle) * column).astype(jnp.int32)
    second = jnp.floor(jnp.cos(angle) * column - jnp.sin(angle) * row).astype(jnp.int32)
    size = cut.shape[0]
    index = (first & (size - 1)) * size + (second & (size - 1))
    return ((first ^ second) & 1 == 0) & cut.reshape(-1).at[index].get(mode="promise_in_bounds")


def draw_lines(
    image: Image, ends: Float[Array, "n 4"], count: Int[Array, ""], grey: float, *, truncate: bool
) -> Image:  # fmt: skip
    """The image with the first ``count`` lines drawn over one another in grey.

    A pixel nearer than 1 to a line is covered by 1 minus its distance, as long as it is between the ends along the
    axis that the line runs along: Zingl's antialiased lines (2012), as scikit-image draws them.

    Args:
        image: the image.
        ends: row and column of one end and of the other, whole numbers.
        count: how many, traced.
        grey: of the lines.
        truncate: what all but the last line at a pixel lose to truncation to eight bits, on average half a grey level
            each, is taken off.
    """
    # Few steps, for each passes through memory; not one, for compilation takes long.
    steps = -(-len(ends) // _LINES_PER_STEP)
    per_step = -(-len(ends) // steps)
    padding = jnp.zeros((steps * per_step - len(ends), 4), ends.dtype)
    down, across = jax.vmap(lambda line: _line_distance(image_size(image), line))(jnp.concatenate([ends, padding]))
    down = jnp.where((jnp.arange(len(down)) < count)[:, None], down, _FAR)

    def step(state: tuple, lines: tuple) -> tuple[tuple, None]:
        through, lost = state
        for row_part, column_part in zip(*lines, strict=True):
            cover = jnp.maximum(1 - jnp.abs(row_part[:, None] + column_part[None]), 0)
            through, lost = through * (1 - cover), lost * (1 - cover) + jnp.where(cover > 0, 0.5, 0)
        return (through, lost), None

    # What the lines let through is the same for all channels, and they are far quicker drawn on a plane.
    lines = tuple(part.reshape(steps, per_step, -1) for part in (down, across))
    (through, lost), _ = jax.lax.scan(step, (jnp.ones(image.shape[:2]), jnp.zeros(image.shape[:2])), lines)
    drawn = grey + through[..., None] * (image - grey)
    # The last line's own loss is that of eight bits in the end.
    return drawn - jnp.maximum(lost - 0.5, 0)[..., None] / 255 if truncate else drawn


def _line_distance(shape: tuple[int, int], ends: Float[Array, "4"]) -> tuple[Float[Array, "h"], Float[Array, "w"]]:
    """Of each row and each column a part; their sum is the signed distance from the line, far beyond its ends."""
    middle = (ends[:2] + ends[2:]) / 2
    down, across = ends[2] - ends[0], ends[3] - ends[1]
    length = jnp.sqrt(jnp.maximum(down**2 + across**2, 1))
    rows, columns = (jnp.arange(size) - middle[axis] for axis, size in enumerate(shape))
    vertical = jnp.abs(down) >= jnp.abs(across)
    beyond_rows = vertical & (jnp.abs(rows) > jnp.abs(down) / 2)
    beyond_columns = ~vertical & (jnp.abs(columns) > jnp.abs(across) / 2)
    down, across = -rows * across / length, columns * down / length
    return jnp.where(beyond_rows, _FAR, down), jnp.where(beyond_columns, _FAR, across)
