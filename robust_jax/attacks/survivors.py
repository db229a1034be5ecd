"""Going on with a part of the examples, in batches of few sizes, so that few programs are compiled."""

from __future__ import annotations

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Int, PyTree

from robust_jax.core.platform import on_cpu

LEAST = 8
CPU_ROWS = 32
"""Examples at once on each CPU device, beyond which activations leave its cache (on two cores, gradients of a ResNet-20
come 410 a second from a batch of 100, 540 from batches of 25)."""


def can_select(*trees: PyTree) -> bool:
    """Whether examples can be taken out: not within ``jit``, nor of arrays that other hosts hold parts of."""
    leaves = [leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array)]
    return all(not isinstance(leaf, Tracer) and leaf.is_fully_addressable for leaf in leaves)


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


def parts_of(predictor: PyTree, problem: PyTree, carry: PyTree) -> list[Int[np.ndarray, "s"]]:
    """Rows to go through one after the other: on a CPU few at once, elsewhere, and where rows cannot be taken, all.

    Parts are of one size, and together all rows; some rows may be in two.
    """
    images = problem.images
    num_rows = len(images)
    if not on_cpu(problem) or not can_select(predictor, problem, carry):
        return [np.arange(num_rows)]
    num_devices = images.sharding.num_devices
    num_parts = -(-num_rows // (CPU_ROWS * num_devices))
    size = -(-num_rows // (num_parts * num_devices)) * num_devices
    return [np.minimum(start, num_rows - size) + np.arange(size) for start in range(0, num_rows, size)]


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
