"""DDN: the direction of the gradient, with a norm that shrinks on success and grows on failure."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.losses import attack_loss, cross_entropy
from robust_jax.attacks.minimum_norm.base import MinimumNorm, Nearest
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.randomised import value_and_mean_gradient
from robust_jax.attacks.threats import THREATS, Threat
from robust_jax.core.checks import check_fraction, check_positive
from robust_jax.core.random_words import random_normal
from robust_jax.types import Image, Images, LogitsFn, PRNGKey

# Where the length of steps, 1 at first, ends.
LAST_STEP = 0.01


class DDNState(NamedTuple):
    """Where it is, the norm the perturbation is to have, and what was found."""

    images: Images
    radius: Float[Array, "b"]
    nearest: Nearest
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class DDN(MinimumNorm):
    r"""Minimum-norm attack in L2: ascends the cross-entropy with the norm of the perturbation set apart.

    .. math::
        \delta' = \delta_i + \alpha_i \frac{\nabla L}{\lVert \nabla L \rVert_2}, \quad
        \epsilon_{i+1} = (1 \mp \gamma)\, \epsilon_i, \quad
        x_{i+1} = \Pi_{[0,1]}\big(x_0 + \epsilon_{i+1} \frac{\delta'}{\lVert \delta' \rVert_2}\big)

    The norm shrinks if :math:`x_i` is adversarial and grows if not, up to that of the farthest corner of the box.
    :math:`\alpha_i` goes from 1 to 0.01 along a cosine. A zero gradient is replaced by a random direction. The least
    norm in reach is :math:`(1 - \gamma)^{steps}` times the first, by default 0.006.

    The nearest of all iterates is returned, the last among them, which the published code leaves out.

    Raises:
        ValueError: if a number is out of range; when run, see :meth:`Attack.run`.

    References:
        Rony et al., "Decoupling direction and norm" (arXiv 1811.09600), algorithm 1.
    """

    norm: ClassVar[str] = "L2"

    steps: int = 100
    """Gradients followed."""
    gamma: float = 0.05
    """Share by which the norm changes in a step."""
    first_radius: float = 1.0
    """Norm of the perturbation before the first step changes it."""
    levels: int | None = None
    """Values that an entry of the image can have, such as 256: iterates are rounded to multiples of
    1 / (levels - 1), as in the paper. By default they are not, so that results compare with other attacks'."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("steps", self.steps)
        check_fraction("gamma", self.gamma)
        check_positive("first_radius", self.first_radius)
        if self.levels is not None:
            check_positive("levels - 1", self.levels - 1)

    @property
    def threat(self) -> Threat:
        return THREATS["L2"]

    @property
    def num_steps(self) -> int:
        return self.steps

    def init(self, predictor: LogitsFn, problem: Problem) -> DDNState:
        size = len(problem.images)
        radius, none = jnp.full(size, self.first_radius), jnp.zeros(size, bool)
        return DDNState(problem.images, radius, self.start(predictor, problem), none, none)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: DDNState) -> DDNState:
        def total(predictor: LogitsFn, images: Images):
            logits = predictor(images)
            return jnp.sum(attack_loss(cross_entropy, logits, problem)), logits

        logits, gradient = value_and_mean_gradient(total, predictor, state.images, 1)
        gradient, not_finite = finite_gradient(gradient)
        success = succeeded(logits, problem)
        nearest = self.nearer(problem, state.nearest, state.images, success)
        radius = state.radius * jnp.where(success, 1 - self.gamma, 1 + self.gamma)
        radius = jnp.minimum(radius, jax.vmap(self.threat.norm)(jnp.maximum(problem.images, 1 - problem.images)))
        length = LAST_STEP + (1 - LAST_STEP) * (1 + jnp.cos(jnp.pi * i / self.steps)) / 2
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, i)
        move = jax.vmap(self._move, (0, 0, 0, 0, 0, None))
        images = move(keys, problem.images, state.images, gradient, radius, length)
        zero = zero_throughout(gradient) & ~jnp.isfinite(nearest.norm)
        return DDNState(images, radius, nearest, state.zero_gradient | zero, state.nan_gradient | not_finite)

    def result(self, predictor: LogitsFn, problem: Problem, state: DDNState, steps: Int[Array, "b"]) -> AttackResult:
        success = succeeded(predictor(state.images), problem)
        nearest = self.nearer(problem, state.nearest, state.images, success)
        return self.found(
            predictor,
            problem,
            nearest,
            queries=steps + 3,
            gradients=steps,
            zero_gradient=state.zero_gradient,
            nan_gradient=state.nan_gradient,
        )

    def _move(
        self, key: PRNGKey, image: Image, x: Image, gradient: Image, radius: Float[Array, ""], length: Array
    ) -> Image:
        blind = jnp.all(gradient == 0)
        gradient = jnp.where(blind, random_normal(key, gradient.shape), gradient)
        direction = self.threat.steepest(x - image + length * self.threat.steepest(gradient))
        moved = jnp.clip(image + radius * direction, 0, 1)
        if self.levels is not None:
            moved = jnp.round(moved * (self.levels - 1)) / (self.levels - 1)
        return moved
