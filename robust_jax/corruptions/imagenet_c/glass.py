"""Glass blur (arXiv 1903.12261, section 3 and appendix B)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.core.random_words import random_words
from robust_jax.corruptions.base import BenchmarkCorruption, constants, counts
from robust_jax.images.filters import gaussian_blur
from robust_jax.images.quantise import quantise
from robust_jax.types import Image, PRNGKey

# Standard deviation of the blurs, reach of the moves, passes over the image.
GLASS = {
    "imagenet224": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "cifar32": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "tiny64": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
}


@dataclasses.dataclass(frozen=True)
class GlassBlur(BenchmarkCorruption):
    """Blur, local moves of pixels, blur: a scene behind frosted glass.

    The original means to swap each pixel with a neighbour but, for want of a copy, only overwrites it with the
    neighbour; offsets are from [−δ, δ − 1], so that the picture drifts; pixels near the border stay; the moves follow
    one another from the bottom right to the top left, so that later ones move what earlier ones left; and the first
    blur is truncated to eight bits. ``clean``: all pixels move at once, each pass, with offsets from [−δ, δ], and
    nothing is truncated.
    """

    variable: ClassVar[str] = "optics"
    by_image: ClassVar[bool] = True
    min_size: ClassVar[int] = 12

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        table = np.array(self.table(GLASS, image), np.float64)
        table[:, :2] *= self.scale(image)
        table[:, 1] = np.maximum(np.round(table[:, 1]), 1)
        sigma = constants(table[:, 0], severity)
        radius = math.ceil(4 * table[:, 0].max())
        reach, passes = counts(table[:, 1], severity), counts(table[:, 2], severity)
        image = gaussian_blur(image, sigma, radius=radius)
        if not self.clean:
            image = quantise(image, "trunc_u8")
        height, width, channels = image.shape
        source = jnp.arange(height * width, dtype=jnp.int32)
        move = _moved_at_once if self.clean else moved_in_turn
        for i, pass_key in enumerate(jax.random.split(key, int(table[:, 2].max()))):
            moved = source.at[move(pass_key, (height, width), reach)].get(mode="promise_in_bounds")
            source = jnp.where(i < passes, moved, source)
        image = image.reshape(-1, channels).at[source].get(mode="promise_in_bounds").reshape(image.shape)
        return gaussian_blur(image, sigma, radius=radius)


def moved_in_turn(key: PRNGKey, shape: tuple[int, int], reach: Int[Array, ""]) -> Int[Array, "h*w"]:
    """Which pixel each pixel holds after every one, from the last to the first, took the value of a random neighbour.

    The moves depend on each other only through chains: a pixel takes a neighbour's old value if the neighbour's turn
    comes later, else what the neighbour has taken. All chains are followed at once by pointer doubling, in a number of
    steps logarithmic in the longest, with the very outcome of the loop over pixels.

    Args:
        key: a key.
        shape: height and width.
        reach: offsets are uniform on [−reach, reach − 1] in either direction; pixels this near the border stay.
    """
    height, width = shape
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    down, right = offsets(key, shape, reach, 2 * reach)
    moves = (rows > reach) & (rows <= height - reach) & (columns > reach) & (columns <= width - reach)
    position = rows * width + columns
    pointer = jnp.where(moves, position + down * width + right, position).reshape(-1)
    moves = moves.reshape(-1)
    # A pointer to a pixel whose turn came before leads on; one that does not has arrived.
    arrived = ~(moves[pointer] & (pointer > position.reshape(-1)))
    # Both in one integer, to be read at once.
    _, chains = jax.lax.while_loop(
        lambda state: state[0],
        lambda state: _double(state[1]),
        (jnp.any(~arrived), 2 * pointer + arrived),
    )
    return chains // 2


def _double(chains: Int[Array, "n"]) -> tuple[Array, Array]:
    onward = chains.at[chains // 2].get(mode="promise_in_bounds")
    chains = jnp.where(chains % 2 == 1, chains, onward)
    return jnp.any(chains % 2 == 0), chains


def _moved_at_once(key: PRNGKey, shape: tuple[int, int], reach: Int[Array, ""]) -> Int[Array, "h*w"]:
    height, width = shape
    down, right = offsets(key, shape, reach, 2 * reach + 1)
    rows = jnp.clip(jnp.arange(height)[:, None] + down, 0, height - 1)
    columns = jnp.clip(jnp.arange(width)[None] + right, 0, width - 1)
    return (rows * width + columns).reshape(-1)


def offsets(key: PRNGKey, shape: tuple[int, int], reach: Array, count: Array) -> tuple[Array, Array]:
    """Integers uniform on [−reach, −reach + count − 1], two for each pixel, of one word's halves."""
    words = random_words(key, shape)
    count = count.astype(jnp.uint32)
    down, across = (((half * count) >> 16).astype(jnp.int32) - reach for half in (words >> 16, words & 0xFFFF))
    return down, across
