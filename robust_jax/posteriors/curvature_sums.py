"""Sums over data that curvatures are made of: on each device in as many examples at once as memory allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from robust_jax.core.mesh import DATA_AXIS, mesh_of, replicate, shard_batch, to_host
from robust_jax.core.shapes import image_shape
from robust_jax.models import linear_layers, predictor
from robust_jax.posteriors import curvatures
from robust_jax.posteriors.blocks import (
    Block,
    Matrix,
    block_values,
    chunk_size,
    derivatives,
    precise,
    with_values,
)
from robust_jax.posteriors.likelihoods import Fisher, Likelihood, curvature_roots, log_likelihoods
from robust_jax.predictors import apply_network
from robust_jax.types import Batch, Model

Logits = Float[Array, "b k"]


@dataclasses.dataclass(frozen=True)
class Loss:
    """The negative log-likelihood whose curvature is looked for, in some weights of a network."""

    model: Model
    """The network."""
    blocks: tuple[Block, ...]
    """The weights."""
    fisher: Fisher
    """The generalised Gauss–Newton or the empirical Fisher matrix."""
    likelihood: Likelihood
    """Of labels."""
    sigma: float
    """Standard deviation of normal errors."""

    def roots(self, logits: Logits, batch: Batch) -> Float[Array, "b c k"]:
        """Of the curvature in the logits; 0 where examples do not count."""
        found = curvature_roots(self.likelihood, self.fisher, self.sigma, logits, batch.label)
        return batch.mask[:, None, None] * found

    def log_likelihood(self, logits: Logits, batch: Batch) -> Float[Array, ""]:
        """Of a batch."""
        return jnp.sum(batch.mask * log_likelihoods(self.likelihood, self.sigma, logits, batch.label))


def curvature_sums(
    loss: Loss,
    kind: Literal["full", "kron", "diag"],
    variables: PyTree,
    chosen: Mapping[str, Array],
    batches: Iterable[Batch],
    *,
    byte_budget: int,
) -> tuple[PyTree, float, Float[Array, ""]]:
    """The curvature's sums, the number of examples, and their log-likelihood.

    Args:
        loss: of what.
        kind: form of the curvature.
        variables: the network's.
        chosen: of a full curvature, the weights' places in each block.
        batches: the data, one or more.
        byte_budget: memory for what is computed at once.

    Raises:
        ValueError: if no example counts, one example needs more memory than there is, or the sums are not finite.
    """
    total = None
    for batch in batches:
        if total is None:
            mesh = mesh_of(jnp.asarray(batch.image))
            if jax.process_count() == 1:  # Else they are on all devices already.
                variables = replicate(variables, mesh)
            num_classes = linear_layers(loss.model, variables, image_shape(batch.image))[1]
            num_sums = num_classes if loss.fisher == "ggn" else 1
            chunk = chunk_size(loss.blocks, num_sums, len(batch.image) // mesh.size, byte_budget, num_devices=1)
            total = _zeros(loss, kind, mesh, variables, chosen, batch)
        for part in range(-(-len(batch.image) // (mesh.size * chunk))):
            total = _added(loss, kind, mesh, chunk, total, variables, chosen, batch, part)
    sums, count, log_likelihood = jax.tree.map(lambda leaf: jnp.asarray(leaf.sum(axis=0)), to_host(total))
    if not count > 0:
        raise ValueError("Expected data to fit, got none.")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((sums, log_likelihood))):
        raise ValueError("The curvature is not finite: the network's outputs overflow.")
    return sums, float(count), log_likelihood


def _zeros(loss: Loss, kind: str, mesh: Mesh, variables: PyTree, chosen: Mapping[str, Array], batch: Batch) -> PyTree:
    """Sums of nothing, one on each device."""
    shapes = _sums.eval_shape(loss, kind, variables, chosen, batch)
    return shard_batch(jax.tree.map(lambda leaf: np.zeros((mesh.size, *leaf.shape), leaf.dtype), shapes), mesh)


# Every device adds up its own examples: none waits for another until all is summed.
@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def _added(
    loss: Loss,
    kind: str,
    mesh: Mesh,
    chunk: int,
    total: PyTree,
    variables: PyTree,
    chosen: Mapping[str, Array],
    batch: Batch,
    part: int,
) -> PyTree:
    """Adds a part of each device's examples, ``chunk`` of them, filled up with some that do not count."""

    def rows(leaf: Array, part: int | Array) -> Array:
        padded = jnp.pad(leaf, ((0, -len(leaf) % chunk), *((0, 0),) * (leaf.ndim - 1)))
        return jax.lax.dynamic_slice_in_dim(padded, part * chunk, chunk)

    def add(total: PyTree, variables: PyTree, chosen: Mapping[str, Array], batch: Batch, part: int | Array) -> PyTree:
        found = _sums(loss, kind, variables, chosen, jax.tree.map(lambda leaf: rows(leaf, part), batch))
        return jax.tree.map(lambda old, new: old + new[None], total, found)

    split, whole = PartitionSpec(DATA_AXIS), PartitionSpec()
    specs = (split, whole, whole, split, whole)
    added = jax.shard_map(add, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
    return added(total, variables, chosen, batch, part)


@partial(jax.jit, static_argnums=(0, 1))
def _sums(
    loss: Loss, kind: str, variables: PyTree, chosen: Mapping[str, Array], batch: Batch
) -> tuple[PyTree, Float[Array, ""], Float[Array, ""]]:

    def roots(logits: Float[Array, "k"], own: Batch) -> Float[Array, "c k"]:
        return loss.roots(logits[None], jax.tree.map(lambda leaf: leaf[None], own))[0]

    logits, given = derivatives(loss.model, loss.blocks, variables, batch.image, roots, batch)
    weights = batch.mask.astype(jnp.float32)
    if kind == "diag":
        found = curvatures.diag_sums(loss.blocks, given)
    elif kind == "kron":
        found = curvatures.kron_sums(loss.blocks, given, weights)
    else:
        found = curvatures.full_sums(loss.blocks, chosen, given)
    return found, jnp.sum(weights), loss.log_likelihood(logits, batch)


@partial(jax.jit, static_argnums=0)
def add_ggn_product(
    loss: Loss, total: dict[str, Matrix], variables: PyTree, vector: dict[str, Matrix], batch: Batch
) -> dict[str, Matrix]:
    """Adds the curvature of a batch times a vector; both are a matrix for each block."""
    values = block_values(loss.blocks, variables["params"])

    def logits_of(values: dict[str, Matrix]) -> Logits:
        params = with_values(variables["params"], loss.blocks, values)
        return apply_network(loss.model, {**variables, "params": params}, batch.image, train=False).prediction

    logits, pull = jax.vjp(logits_of, values)
    along = jax.jvp(logits_of, (values,), (vector,))[1]
    roots = loss.roots(logits, batch)
    product = pull(precise("bck,bc->bk", roots, precise("bck,bk->bc", roots, along)))[0]
    return jax.tree.map(jnp.add, total, product)


@partial(jax.jit, static_argnums=0)
def add_log_likelihood(loss: Loss, total: Float[Array, ""], variables: PyTree, batch: Batch) -> Float[Array, ""]:
    """Adds that of a batch, under the network."""
    return total + loss.log_likelihood(predictor(loss.model, variables)(batch.image), batch)
