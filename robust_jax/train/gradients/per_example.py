"""Gradients that are clipped example by example, with noise: the mechanism of DP-SGD."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.loops import scan_steps
from robust_jax.objectives import masked_mean
from robust_jax.train.gradients.base import Gradient, LossFn, mean_gradient
from robust_jax.types import Batch, Context, Loss, PRNGKey


@dataclasses.dataclass(frozen=True)
class PerExampleClipped(Gradient):
    r"""Mean of the clipped gradients of the examples, plus Gaussian noise.

    .. math:: \frac{1}{B} \Bigl( \sum_i g_i \min(1, C / \lVert g_i \rVert_2) + \sigma C z \Bigr),
        \quad g_i = \frac{1}{K} \sum_k \nabla L(x_i^{(k)}), \quad z \sim \mathcal N(0, I)

    over B unpadded examples, with K augmented copies of each. The norm is over all weights together.

    Raises:
        ValueError: if a number is out of range; before training, if the network has running statistics such as those
            of batch norm, which couple the examples of a batch.

    References:
        Abadi et al. (arXiv 1607.00133), algorithm 1; De et al. (arXiv 2204.13650) for K, section 3.
    """

    clip: float = 1.0
    """C, the largest L2 norm of an example's gradient."""
    noise: float = 0.0
    """σ, standard deviation of the noise over C; 0 gives no privacy."""
    augmentations: int = 1
    """K, augmented copies of an example whose mean gradient is clipped."""
    microbatch: int | None = None
    """Examples differentiated at once, which bounds the memory; None takes all of a batch."""

    def __post_init__(self):
        check_positive("clip", self.clip)
        check_non_negative("noise", self.noise)
        check_positive("augmentations", self.augmentations)
        if self.microbatch is not None:
            check_positive("microbatch", self.microbatch)

    def check(self, model_state: PyTree) -> None:
        """Raise ``ValueError`` if the network has running statistics."""
        if names := sorted(model_state):
            raise ValueError(
                f"Expected a network without state that couples examples, got collections {names}; replace batch norm "
                "by group norm to clip gradients per example."
            )

    def __call__(
        self, key: PRNGKey, loss_fn: LossFn, params: PyTree, batch: Batch, context: Context
    ) -> tuple[PyTree, Loss]:
        del context
        copies = self.augmentations
        size = len(batch.mask) // copies
        by_example = jax.tree.map(lambda leaf: leaf.reshape(size, copies, *leaf.shape[1:]), batch)
        at_once = size if self.microbatch is None else min(self.microbatch, size)
        if size % at_once:
            raise ValueError(f"Expected microbatch to divide the {size} examples of a batch, got {self.microbatch}.")

        def clipped(example: Batch) -> tuple[PyTree, Loss, Array]:
            gradient, loss = mean_gradient(loss_fn, params, example)
            norm = optax.tree.norm(gradient)
            # A mask of padding, which has no gradient to protect.
            scale = jnp.minimum(1.0, self.clip / jnp.where(norm > 0, norm, 1.0)) * example.mask[0]
            return jax.tree.map(lambda leaf: scale * leaf, gradient), loss, norm

        def add(total: PyTree, examples: Batch) -> tuple[PyTree, tuple[Loss, Array]]:
            gradients, losses, norms = jax.vmap(clipped)(examples)
            return jax.tree.map(lambda t, g: t + jnp.sum(g, axis=0), total, gradients), (losses, norms)

        parts = tuple(
            jax.tree.map(lambda leaf, start=start: leaf[start : start + at_once], by_example)
            for start in range(0, size, at_once)
        )
        total, (losses, norms) = scan_steps(add, jax.tree.map(jnp.zeros_like, params), parts)
        losses, norms = jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), (losses, norms))
        count = jnp.maximum(jnp.sum(by_example.mask[:, 0]), 1)
        leaves, structure = jax.tree.flatten(total)
        keys = jax.random.split(key, len(leaves))
        noisy = [
            (leaf + self.noise * self.clip * jax.random.normal(k, leaf.shape, leaf.dtype)) / count
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        first = jax.tree.map(lambda leaf: leaf[0], losses)
        mask = by_example.mask[:, 0]
        metrics = {name: masked_mean(value, mask) for name, value in losses.metrics.items()}
        metrics["clipped_fraction"] = masked_mean(norms > self.clip, mask)
        loss = first._replace(
            per_example=losses.per_example.reshape(-1), penalty=jnp.mean(losses.penalty), metrics=metrics
        )
        return jax.tree.unflatten(structure, noisy), loss
