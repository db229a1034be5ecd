"""Eight bits, as files hold them, with gradients that pass straight through."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice

MODES = ("float", "trunc_u8", "round_u8")


def quantise(image: Float[Array, "..."], mode: str = "round_u8") -> Float[Array, "..."]:
    """Clips to [0, 1] and keeps what eight bits can hold: a multiple of 1/255.

    The gradient is that of the clipping alone (straight-through; Bengio, Léonard & Courville, arXiv 1308.3432).

    Args:
        image: nominally in [0, 1].
        mode: ``round_u8``, to the nearest; ``trunc_u8``, downwards, as a cast to uint8 does; ``float``, only clipped.

    Raises:
        ValueError: if the mode is unknown.
    """
    check_choice("mode", mode, MODES)
    clipped = jnp.clip(image, 0, 1)
    if mode == "float":
        return clipped
    # A grey level that was a whole number in double precision may lie just below it in single precision.
    grey = jnp.floor(clipped * 255 + (0.5 if mode == "round_u8" else 1e-4)) * jnp.float32(1 / 255)
    return straight_through(clipped, grey)


@jax.custom_jvp
def straight_through(value: Array, rounded: Array) -> Array:
    """``rounded``, with the derivative of ``value``."""
    del value
    return rounded


@straight_through.defjvp
def _straight_through_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return straight_through(*primals), tangents[0]
