"""NES: gradients from differences along random Gaussians, followed with momentum."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.black_box.gradient_estimates import EstimatedGradients
from robust_jax.attacks.losses import Loss
from robust_jax.attacks.problem import Problem
from robust_jax.attacks.threats import THREATS
from robust_jax.core.checks import check_fraction, check_positive
from robust_jax.core.random_words import random_normal
from robust_jax.types import Image, Images, PRNGKey

# The step is not halved below this share of the first.
LEAST = 1 / 200


class Memory(NamedTuple):
    """Accumulated gradients, the step size over the first, and the last losses, the oldest first."""

    momentum: Images
    share: Float[Array, "b"]
    losses: Float[Array, "b p"]


@dataclasses.dataclass(frozen=True)
class NES(EstimatedGradients):
    r"""Steepest ascent with momentum, by gradients of natural evolution strategies.

    .. math::
        g &\leftarrow \mu g + (1 - \mu)\, \frac{1}{n} \sum_{i=1}^{n}
        \frac{L(x + \sigma v_i) - L(x - \sigma v_i)}{2 \sigma}\, v_i, \quad v_i \sim N(0, I) \\
        x &\leftarrow \Pi(x + \eta\, d(g))

    with d the steepest direction in the threat: for Linf the sign. The step size η is halved, to no less than 1/200 of
    the first, when the mean of the losses evaluated has fallen within ``plateau`` steps.

    It starts at the image, and leaves an example alone once an iterate is misclassified. One step takes ``samples`` +
    1 evaluations of the network.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Ilyas et al., "Black-box adversarial attacks with limited queries and information" (arXiv 1804.08598),
        algorithm 1 and section 2.2; momentum, plateaus and all defaults are those of the published code. Points
        outside the box are clipped to it, see :func:`estimate_gradient`.
    """

    steps: int = 200
    samples: int = 50
    width: float = 0.001
    """σ, the standard deviation of the points evaluated."""
    loss: str | Loss = "cross_entropy"
    relative_step: float = 0.2
    """The first step size over eps."""
    momentum: float = 0.9
    """μ, the weight of the gradients before."""
    plateau: int = 5
    """Steps within which the loss must not fall."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("relative_step", self.relative_step)
        check_fraction("momentum", self.momentum)
        check_positive("plateau", self.plateau)

    def _direction(self, key: PRNGKey, shape: tuple[int, ...]) -> Image:
        return random_normal(key, shape)

    def _remember(self, problem: Problem) -> Memory:
        size = len(problem.images)
        return Memory(jnp.zeros_like(problem.images), jnp.ones(size), self._no_losses(size))

    def _change(
        self, problem: Problem, memory: Memory, value: Float[Array, "b"], gradient: Images
    ) -> tuple[Images, Memory]:
        momentum = self.momentum * memory.momentum + (1 - self.momentum) * gradient
        losses = jnp.concatenate([memory.losses[:, 1:], value[:, None]], axis=1)
        fallen = losses[:, -1] < losses[:, 0]
        share = jnp.where(fallen, jnp.maximum(memory.share / 2, LEAST), memory.share)
        losses = where_examples(fallen, self._no_losses(len(value)), losses)
        length = self.relative_step * problem.eps * share
        change = length.reshape(-1, 1, 1, 1) * jax.vmap(THREATS[self.norm].steepest)(momentum)
        return change, Memory(momentum, share, losses)

    def _no_losses(self, size: int) -> Float[Array, "b p"]:
        """Below any, so that nothing has fallen until there are as many as are compared."""
        return jnp.full((size, self.plateau), -jnp.inf)
