"""What lies beyond the border of an image, under the names scipy.ndimage uses."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.core.checks import check_choice

MODES: dict[str, Literal["symmetric", "reflect", "edge", "wrap", "constant"]] = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
    "constant": "constant",
}
"""Names of scipy.ndimage to those of ``numpy.pad``: reflect ``b a | a b``, mirror ``c b | a b``, nearest ``a a | a b``,
wrap ``y z | a b``, constant ``0 0 | a b``."""


def pad(image: Float[Array, "h w ..."], height: int, width: int, mode: str = "nearest") -> Float[Array, "H W ..."]:
    """The image with ``height`` rows and ``width`` columns more on each side; any width, also beyond the image's."""
    check_choice("mode", mode, MODES)
    edges = [(height, height), (width, width)] + [(0, 0)] * (image.ndim - 2)
    return jnp.pad(image, edges, mode=MODES[mode])


def source_positions(size: int, before: int, after: int, mode: str) -> Int[np.ndarray, "n"]:
    """Where in an axis of ``size`` each position from ``-before`` to ``size + after - 1`` reads; −1 for a constant."""
    check_choice("mode", mode, MODES)
    if mode == "constant":
        return np.pad(np.arange(size), (before, after), constant_values=-1)
    return np.pad(np.arange(size), (before, after), mode=MODES[mode])


def fold(index: Int[Array, "..."], size: int, mode: str) -> Int[Array, "..."]:
    """Indices beyond an axis of ``size`` moved to where they read; for a constant, the nearest (mask them yourself)."""
    check_choice("mode", mode, MODES)
    if mode == "wrap":
        return index % size
    if mode == "reflect":
        index = index % (2 * size)
        return jnp.minimum(index, 2 * size - 1 - index)
    if mode == "mirror":
        period = max(2 * size - 2, 1)
        index = index % period
        return jnp.minimum(index, (period - index) % (2 * size)) if size > 1 else jnp.zeros_like(index)
    return jnp.clip(index, 0, size - 1)
