"""Gradients without NaN and infinity."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def finite_gradient(gradient: PyTree) -> tuple[PyTree, Bool[Array, "b"]]:
    """Replace entries that are NaN or infinite by zero.

    Args:
        gradient: arrays with one row per example.

    Returns:
        The gradient, and for each example whether an entry was not finite.
    """
    leaves = jax.tree.leaves(gradient)
    bad = [~jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in leaves]
    replaced = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0), gradient)
    return replaced, jnp.any(jnp.stack(bad), axis=0)


def zero_throughout(gradient: PyTree) -> Bool[Array, "b"]:
    """Whether all entries of an example's gradient are zero."""
    largest = [jnp.max(jnp.abs(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(gradient)]
    return jnp.max(jnp.stack(largest), axis=0) == 0
