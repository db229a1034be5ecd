"""Going on with the examples that are left, in batches of few sizes, so that few programs are compiled."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

LEAST = 8


def can_select(*trees: PyTree) -> bool:
    """Whether examples can be taken out: not within ``jit``, nor of arrays that other hosts hold parts of."""
    leaves = [leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array)]
    return all(not isinstance(leaf, jax.core.Tracer) and leaf.is_fully_addressable for leaf in leaves)


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


def take(tree: PyTree, rows: Int[np.ndarray, "s"]) -> PyTree:
    """Rows of every array, laid out over devices as the array is where their number allows it."""

    def place(part: Array, whole: Array) -> Array:
        sharding = getattr(whole, "sharding", None)
        if sharding is None or sharding.num_devices == 1 or len(rows) % sharding.num_devices:
            return part
        return jax.device_put(part, sharding)

    return jax.tree.map(place, _take(tree, rows), tree)


@jax.jit
def put(tree: PyTree, rows: Int[Array, "s"], part: PyTree) -> PyTree:
    """The tree with rows of every array replaced; of a row that is there twice, either."""
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), tree, part)


@jax.jit
def _take(tree: PyTree, rows: Int[Array, "s"]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[rows], tree)
