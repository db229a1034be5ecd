"""Batch statistics for weights that were not trained with any, such as averages and samples of weights."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from robust_jax.predictors import apply_network
from robust_jax.types import Images, Model, PRNGKey

STATISTICS = "batch_stats"


def recomputed_norms(key: PRNGKey, model: Model, variables: PyTree, images: Iterable[Images]) -> PyTree:
    r"""The variables with the running statistics of batch norms replaced by the means over batches of the data.

    A norm updates them as :math:`r \leftarrow m r + (1 - m)\, b`, b being those of the batch; so they are solved for by
    two updates, of 0 and of 1, whatever m. Variables without such statistics stay as they are.

    Args:
        key: of dropout.
        model: a network with ``apply(variables, images, train=True, mutable=...)``.
        variables: ``{"params": …, …}``.
        images: batches of equal size, such as the training data once.

    Raises:
        ValueError: if there are statistics and no batches.

    References:
        Izmailov et al. (arXiv 1803.05407), section 3.1.
    """
    if STATISTICS not in variables:
        return variables
    mean, count = variables[STATISTICS], 0
    for batch in images:
        mean = _mean(model, jax.random.fold_in(key, count), variables, batch, mean, count)
        count += 1
    if count == 0:
        raise ValueError("Expected images to recompute batch statistics with, got none.")
    return {**variables, STATISTICS: mean}


@partial(jax.jit, static_argnums=0)
def _mean(model: Model, key: PRNGKey, variables: PyTree, images: Images, mean: PyTree, count: int) -> PyTree:
    """The mean over batches with one more, after so many."""

    def updated(running: PyTree) -> PyTree:
        given = {**variables, STATISTICS: running}
        mutable = [name for name in given if name != "params"]
        _, new = apply_network(model, given, images, train=True, rngs={"dropout": key}, mutable=mutable)
        return new[STATISTICS]

    # In training nothing else depends on the running ones, so that XLA runs the network once.
    zeros = jax.tree.map(jnp.zeros_like, variables[STATISTICS])
    after_zeros, after_ones = updated(zeros), updated(jax.tree.map(jnp.ones_like, zeros))
    of_batch = jax.tree.map(lambda zero, one: zero / (1 - (one - zero)), after_zeros, after_ones)
    return jax.tree.map(lambda m, b: m + (b - m) / (count + 1), mean, of_batch)
