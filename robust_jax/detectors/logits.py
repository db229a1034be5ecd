"""Scores of the logits, which need no fitting.

The energy and the largest logit of a predictor with members are means over the members, since its own logits are
log-probabilities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.detectors.base import Detector, Score
from robust_jax.predictors import HasMembers
from robust_jax.types import Batch, Images, LogitsFn


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _LogitScore(Detector):
    """A detector that is its own score."""

    def fit(self, predictor: LogitsFn, batches: Iterable[Batch]) -> Score:
        """Return the score itself; no example is read."""
        del predictor, batches
        return self

    def __call__(self, predictor: LogitsFn, images: Images) -> Float[Array, "b"]:
        """Return the score of each image."""
        raise NotImplementedError


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class MaxProbability(_LogitScore):
    r"""Negative largest probability, :math:`-\max_k p_k`.

    References:
        Hendrycks & Gimpel (arXiv 1610.02136).
    """

    name: ClassVar[str] = "max_probability"

    def __call__(self, predictor: LogitsFn, images: Images) -> Float[Array, "b"]:
        return -metrics.confidence(predictor(images))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Entropy(_LogitScore):
    r"""Entropy of the prediction in nats, :math:`-\sum_k p_k \log p_k`."""

    name: ClassVar[str] = "entropy"

    def __call__(self, predictor: LogitsFn, images: Images) -> Float[Array, "b"]:
        return metrics.entropy(predictor(images))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Energy(_LogitScore):
    r"""Free energy of the logits, :math:`-\log \sum_k e^{z_k}`.

    References:
        Liu, Wang, Owens & Li (arXiv 2010.03759), equation 4 at temperature 1.
    """

    name: ClassVar[str] = "energy"

    def __call__(self, predictor: LogitsFn, images: Images) -> Float[Array, "b"]:
        return -jnp.mean(jax.nn.logsumexp(_member_logits(predictor, images), axis=-1), axis=0)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class MaxLogit(_LogitScore):
    r"""Negative largest logit, :math:`-\max_k z_k`.

    References:
        Hendrycks et al. (arXiv 1911.11132), section 3.
    """

    name: ClassVar[str] = "max_logit"

    def __call__(self, predictor: LogitsFn, images: Images) -> Float[Array, "b"]:
        return -jnp.mean(jnp.max(_member_logits(predictor, images), axis=-1), axis=0)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class MutualInformation(_LogitScore):
    r"""Mutual information of class and member in nats, :math:`H(\bar p) - \frac{1}{M} \sum_m H(p_m)`.

    Defined for predictors with members alone.
    """

    name: ClassVar[str] = "mutual_information"

    def applies(self, predictor: LogitsFn) -> bool:
        """Return whether the predictor has members."""
        return isinstance(predictor, HasMembers)

    def __call__(self, predictor: LogitsFn, images: Images) -> Float[Array, "b"]:
        if not isinstance(predictor, HasMembers):
            raise ValueError(f"Expected a predictor with members, got {type(predictor).__name__}.")
        return metrics.mutual_information(predictor.members(images))


def _member_logits(predictor: LogitsFn, images: Images) -> Float[Array, "m b k"]:
    return predictor.members(images) if isinstance(predictor, HasMembers) else predictor(images)[None]
