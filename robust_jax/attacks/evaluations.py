"""Many evaluations of the network on a batch, a bounded number of images at once."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from robust_jax.core.platform import on_cpu
from robust_jax.predictors import Randomised, draw
from robust_jax.types import LogitsFn

# Fills an accelerator; of a CIFAR-10 network a gigabyte of activations or so. On a CPU fewer stay in the caches: on a
# ResNet-20, SPSA takes three quarters of the time.
IMAGES_AT_ONCE = 1024
IMAGES_AT_ONCE_ON_CPU = 128


def batches_at_once(size: int, most: int) -> int:
    """How many batches of so many images to evaluate at once, of ``most`` there are."""
    images = IMAGES_AT_ONCE_ON_CPU if on_cpu() else IMAGES_AT_ONCE
    return max(1, min(images // size, most))


def sum_over(fn: Callable[[Int[Array, ""]], PyTree], count: int | Int[Array, ""], *, at_once: int) -> PyTree:
    """The sum of ``fn(number)`` over the numbers 0, …, count − 1, so many of them at once; the count may be traced."""

    def add(part: Int[Array, ""], total: PyTree) -> PyTree:
        numbers = part * at_once + jnp.arange(at_once)
        terms = jax.vmap(fn)(numbers)

        def add_leaf(total: Array, terms: Array) -> Array:
            counts = (numbers < count).reshape(-1, *(1,) * total.ndim)
            return total + jnp.sum(jnp.where(counts, terms, 0), axis=0)

        return jax.tree.map(add_leaf, total, terms)

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(fn, jnp.int32(0)))
    return jax.lax.fori_loop(0, -(-count // at_once), add, zeros)


def redraw(predictor: LogitsFn, number: int | Int[Array, ""]) -> LogitsFn:
    """Another draw of a randomised classifier, by its number; any other predictor stays what it is.

    Whoever reads nothing but outputs cannot have the same draw twice.
    """
    return draw(predictor.keys, predictor, number) if isinstance(predictor, Randomised) else predictor
