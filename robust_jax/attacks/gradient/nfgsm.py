"""N-FGSM: one unclipped step from strong noise, as single-step adversarial training uses it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from robust_jax.attacks.base import Attack
from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.losses import Loss, as_loss, attack_loss
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.randomised import draws_of, value_and_mean_gradient
from robust_jax.attacks.threats import Linf
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.types import Images, LogitsFn


class NFGSMState(NamedTuple):
    """The noisy images, after the step the adversarial ones."""

    images: Images
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class NFGSM(Attack):
    r"""One step of length α along the gradient's sign, from noise, without a projection on the ball.

    .. math::
        \eta \sim U(-k \epsilon, k \epsilon), \quad
        \delta = \eta + \alpha\, \mathrm{sign}(\nabla L(f(x + \eta), y)), \quad \alpha = \epsilon

    Unlike other attacks it leaves the ball of radius eps: the norm of δ may reach k eps + α, 3 eps by default, so it is
    for training, and not for measuring robustness within eps. Images stay in [0, 1]: the noise and the result are
    clipped to it, as in the published code.

    Raises:
        ValueError: if a number is out of range, or the loss unknown; when run, see :meth:`Attack.run`.

    References:
        de Jorge et al., "Make some noise: reliable and efficient single-step adversarial training" (arXiv 2202.01181).
    """

    soft_labels: ClassVar[bool] = True

    noise: float = 2.0
    """k: the largest noise over eps."""
    relative_step: float = 1.0
    """α over eps."""
    loss: str | Loss = "cross_entropy"
    """cross_entropy, margin, dlr, or a function of logits and classes that gives a value per example."""
    num_draws: int = 1
    """Draws of a :class:`Randomised` classifier that the gradient is the mean of."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_non_negative("noise", self.noise)
        check_positive("relative_step", self.relative_step)
        as_loss(self.loss)
        check_positive("num_draws", self.num_draws)

    @property
    def norm(self) -> str:
        """Linf."""
        return "Linf"

    @property
    def num_steps(self) -> int:
        return 1

    def init(self, predictor: LogitsFn, problem: Problem) -> NFGSMState:
        delta = jax.vmap(Linf().random)(problem.keys, problem.images, self.noise * problem.eps)
        none = jnp.zeros(len(problem.images), bool)
        return NFGSMState(problem.images + delta, none, none)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: NFGSMState) -> NFGSMState:
        def total(predictor: LogitsFn, images: Images):
            logits = predictor(images)
            return jnp.sum(attack_loss(as_loss(self.loss), logits, problem)), logits

        logits, gradient = value_and_mean_gradient(total, predictor, state.images, self.num_draws)
        gradient, not_finite = finite_gradient(gradient)
        length = (self.relative_step * problem.eps).reshape(-1, 1, 1, 1)
        moved = jnp.clip(state.images + length * jnp.sign(gradient), 0, 1)
        zero = zero_throughout(gradient) & ~succeeded(logits, problem)
        return NFGSMState(moved, zero, not_finite)

    def result(self, predictor: LogitsFn, problem: Problem, state: NFGSMState, steps: Int[Array, "b"]) -> AttackResult:
        logits = predictor(state.images)
        loss = attack_loss(as_loss(self.loss), logits, problem)
        norm = jax.vmap(Linf().norm)(state.images - problem.images)
        gradients = steps * draws_of(predictor, self.num_draws)
        success = succeeded(logits, problem)
        return AttackResult(
            state.images, success, norm, loss, gradients + 1, gradients, state.zero_gradient, state.nan_gradient
        )
