"""Going on with the examples that are left, in batches of few sizes, so that few programs are compiled."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

LEAST = 8


def is_traced(*trees: PyTree) -> bool:
    """Whether values are unknown, as within ``jit``."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def rows_of(active: Bool[np.ndarray, "b"]) -> Int[np.ndarray, "s"]:
    """The rows that are active, the first of them again so often that their number is b, or 8, 16, 32, … below b.

    Empty if none is active.
    """
    rows = np.flatnonzero(active)
    if rows.size == 0:
        return rows
    size = LEAST
    while size < rows.size:
        size *= 2
    size = min(size, len(active))
    return np.concatenate([rows, np.repeat(rows[:1], size - rows.size)])


@jax.jit
def take(tree: PyTree, rows: Int[Array, "s"]) -> PyTree:
    """Rows of every array."""
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@jax.jit
def put(tree: PyTree, rows: Int[Array, "s"], part: PyTree) -> PyTree:
    """The tree with rows of every array replaced; of a row that is there twice, either."""
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), tree, part)
