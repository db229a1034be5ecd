"""What attacks share that look for the nearest adversarial image."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.losses import attack_loss, margin
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.threats import Threat
from robust_jax.core.checks import check_non_negative
from robust_jax.types import Images, LogitsFn


class Nearest(NamedTuple):
    """The nearest adversarial images so far; of an example that has none, its image and an infinite norm."""

    images: Images
    norm: Float[Array, "b"]


@dataclasses.dataclass(frozen=True)
class MinimumNorm(Attack):
    """An attack that looks for the nearest adversarial image, rather than for any within a radius.

    Only perturbations of norm at most ``eps`` count; of an example without one, the image itself is returned. An
    image that is misclassified as it is, is its own nearest.
    """

    eps: float = math.inf
    """The largest norm that counts."""

    @property
    def threat(self) -> Threat:
        """Whose norm is the distance."""
        raise NotImplementedError

    def __post_init__(self):
        check_non_negative("eps", self.eps)

    def start(self, predictor: LogitsFn, problem: Problem) -> Nearest:
        """What is known before the first step: whether the images are misclassified as they are."""
        done = succeeded(predictor(problem.images), problem)
        return Nearest(problem.images, jnp.where(done, 0, jnp.inf))

    def nearer(self, problem: Problem, nearest: Nearest, images: Images, success: Bool[Array, "b"]) -> Nearest:
        """With new candidates, of which some are adversarial."""
        norm = jax.vmap(self.threat.norm)(images - problem.images)
        return where_examples(success & (norm < nearest.norm), Nearest(images, norm), nearest)

    def within_eps(self, problem: Problem, nearest: Nearest) -> Bool[Array, "b"]:
        """Whether an adversarial image that counts is known. Without one the norm is infinite, as eps may be."""
        return jnp.isfinite(nearest.norm) & (nearest.norm <= problem.eps)

    def found(
        self,
        predictor: LogitsFn,
        problem: Problem,
        nearest: Nearest,
        *,
        queries: Array,
        gradients: Array,
        zero_gradient: Bool[Array, "b"] | None = None,
        nan_gradient: Bool[Array, "b"] | None = None,
    ) -> AttackResult:
        """The nearest as a result, whose loss is the margin of logits."""
        within = self.within_eps(problem, nearest)
        images = where_examples(within, nearest.images, problem.images)
        logits = predictor(images)
        loss = attack_loss(margin, logits, problem)
        none = jnp.zeros_like(within)
        zero_gradient = none if zero_gradient is None else zero_gradient
        nan_gradient = none if nan_gradient is None else nan_gradient
        norm = jnp.where(within, nearest.norm, 0)
        return AttackResult(images, within, norm, loss, queries, gradients, zero_gradient, nan_gradient)
