"""Which weights of a network are uncertain, the others being fixed (Daxberger et al., arXiv 2010.14689)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.core.checks import check_positive
from robust_jax.posteriors.blocks import Block, Matrix
from robust_jax.posteriors.swag import Swag
from robust_jax.types import PRNGKey


@dataclasses.dataclass(frozen=True)
class _SomeWeights:
    num_weights: int
    """How many."""

    def __post_init__(self):
        check_positive("num_weights", self.num_weights)


@dataclasses.dataclass(frozen=True)
class LargestVariance(_SomeWeights):
    """The weights whose variances are largest, section 4 of the paper.

    Under a diagonal Laplace approximation with one prior precision these are the weights of least curvature, of which
    many may do nothing at all. Along a path of SGD such weights stand still, so that the variances of SWAG, by which
    the authors choose in large networks, leave them out.

    Raises:
        ValueError: if the number is not positive.
    """

    swag: Swag | None = None
    """Path of SGD whose variances count; None takes those of the Laplace approximation."""


@dataclasses.dataclass(frozen=True)
class LargestMagnitude(_SomeWeights):
    """The weights that are farthest from 0.

    Raises:
        ValueError: if the number is not positive.
    """


@dataclasses.dataclass(frozen=True)
class RandomWeights(_SomeWeights):
    """Random weights, the baseline of the others.

    Raises:
        ValueError: if the number is not positive.
    """


Subnetwork = LargestVariance | LargestMagnitude | RandomWeights


def is_random(subnetwork: Subnetwork) -> bool:
    """Whether the choice needs a key."""
    if isinstance(subnetwork, LargestVariance):
        return subnetwork.swag is not None
    return isinstance(subnetwork, RandomWeights)


def subnetwork_scores(
    key: PRNGKey | None,
    subnetwork: Subnetwork,
    values: dict[str, Matrix],
    variances: dict[str, Matrix] | None = None,
) -> dict[str, Matrix]:
    """By which weights are chosen, the greatest first.

    Args:
        key: of :class:`RandomWeights`.
        subnetwork: the rule.
        values: the weights, by block.
        variances: of :class:`LargestVariance`, or what grows with them.
    """
    if isinstance(subnetwork, LargestVariance):
        if variances is None:
            raise ValueError("Expected the variances of the weights to choose by, got variances=None.")
        return variances
    if isinstance(subnetwork, LargestMagnitude):
        return {name: jnp.abs(matrix) for name, matrix in values.items()}
    if key is None:
        raise ValueError(f"Expected a key to choose {subnetwork!r} by, got key=None.")
    keys = jax.random.split(key, len(values))
    return {name: jax.random.uniform(k, m.shape) for k, (name, m) in zip(keys, values.items(), strict=True)}


def greatest(
    blocks: tuple[Block, ...], scores: dict[str, Float[Array, "i o"]], num_weights: int
) -> dict[str, Int[Array, "..."]]:
    """The places of the greatest scores in each block's matrix as one row, in ascending order.

    Raises:
        ValueError: if there are fewer weights than asked for.
    """
    size = sum(block.size for block in blocks)
    if num_weights > size:
        raise ValueError(f"Expected num_weights of at most the {size} there are, got num_weights={num_weights}.")
    flat = jnp.concatenate([scores[block.name].reshape(-1) for block in blocks])
    places = jnp.sort(jax.lax.top_k(flat, num_weights)[1])
    found, start = {}, 0
    for block in blocks:
        inside = (places >= start) & (places < start + block.size)
        found[block.name] = places[inside] - start
        start += block.size
    return found
