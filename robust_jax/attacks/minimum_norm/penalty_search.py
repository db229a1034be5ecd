r"""What attacks share that minimise a distance and a penalty, and search for the constant between them.

.. math:: \min_\delta\; \lVert \delta \rVert + c \max(\kappa - m(x + \delta), 0)

with m the margin of logits, which is positive on success. For each c there is a descent of its own.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.losses import attack_loss, margin
from robust_jax.attacks.minimum_norm.base import MinimumNorm, Nearest
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.randomised import value_and_mean_gradient
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.types import Images, LogitsFn

# A descent goes on while a tenth of the steps lowers its loss to this share.
PROGRESS = 0.9999


class Descended(NamedTuple):
    """One step of a descent: its state, an image to judge with its margin, and the loss there."""

    descent: PyTree
    images: Images
    adversarial: Bool[Array, "b"]
    loss: Float[Array, "b"]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


class PenaltySearchState(NamedTuple):
    """Each example's own place in the search, its descent under way, and what was found."""

    search: Int[Array, "b"]
    iteration: Int[Array, "b"]
    constant: Float[Array, "b"]
    lower: Float[Array, "b"]
    upper: Float[Array, "b"]
    reached: Bool[Array, "b"]
    """Whether the constant has led to an adversarial image."""
    last_loss: Float[Array, "b"]
    """At the last look at progress."""
    descent: PyTree
    nearest: Nearest
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class PenaltySearch(MinimumNorm):
    """A minimum-norm attack by descents with different constants, the least of which that succeeds is searched for.

    The constant is multiplied by 10 until a descent finds an adversarial image, and then found by bisection. Examples
    have their own constants, and go on to the next each in its own time. An attack of its own kind overrides
    :meth:`begin` and :meth:`descend`.
    """

    searches: int = 9
    """Constants tried."""
    steps: int = 1000
    """Of a descent, at most."""
    learning_rate: float = 0.01
    """Of the descent."""
    confidence: float = 0.0
    """Margin of logits that counts as adversarial, κ. An image that is misclassified as it is stays, whatever its
    margin."""
    first_constant: float = 1e-3
    """The constant tried first."""
    abort_early: bool = True
    """Give a constant up when, over a tenth of the steps, the loss of the example has fallen by less than 0.01 %. In
    the published codes that is the loss of the batch."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("searches", "steps", "learning_rate", "first_constant"):
            check_positive(name, getattr(self, name))
        check_non_negative("confidence", self.confidence)

    def begin(self, problem: Problem) -> PyTree:
        """A descent before its first step."""
        raise NotImplementedError

    def descend(
        self, predictor: LogitsFn, problem: Problem, constant: Array, iteration: Int[Array, "b"], descent: PyTree
    ) -> Descended:
        """A step of the descents."""
        raise NotImplementedError

    @property
    def num_steps(self) -> int:
        return self.searches * self.steps

    def init(self, predictor: LogitsFn, problem: Problem) -> PenaltySearchState:
        size = len(problem.images)
        zero, none, infinite = jnp.zeros(size, jnp.int32), jnp.zeros(size, bool), jnp.full(size, jnp.inf)
        constant = jnp.full(size, self.first_constant)
        nearest = self.start(predictor, problem)
        descent = self.begin(problem)
        return PenaltySearchState(
            zero, zero, constant, jnp.zeros(size), infinite, none, infinite, descent, nearest, none, none
        )

    def step(
        self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: PenaltySearchState
    ) -> PenaltySearchState:
        # The number i of the step is of no concern: every example counts its own.
        after = self.descend(predictor, problem, state.constant, state.iteration, state.descent)
        nearest = self.nearer(problem, state.nearest, after.images, after.adversarial)
        reached = state.reached | after.adversarial
        look = state.iteration % max(self.steps // 10, 1) == 0
        stalled = look & (after.loss > PROGRESS * state.last_loss) & self.abort_early
        over = stalled | (state.iteration == self.steps - 1)

        upper = jnp.where(over & reached, state.constant, state.upper)
        lower = jnp.where(over & ~reached, state.constant, state.lower)
        constant = jnp.where(jnp.isfinite(upper), (lower + upper) / 2, 10 * state.constant)
        return PenaltySearchState(
            search=state.search + over,
            iteration=jnp.where(over, 0, state.iteration + 1),
            constant=jnp.where(over, constant, state.constant),
            lower=lower,
            upper=upper,
            reached=reached & ~over,
            last_loss=jnp.where(over, jnp.inf, jnp.where(look, after.loss, state.last_loss)),
            descent=where_examples(over, self.begin(problem), after.descent),
            nearest=nearest,
            zero_gradient=state.zero_gradient | (after.zero_gradient & ~jnp.isfinite(nearest.norm)),
            nan_gradient=state.nan_gradient | after.nan_gradient,
        )

    def result(
        self, predictor: LogitsFn, problem: Problem, state: PenaltySearchState, steps: Int[Array, "b"]
    ) -> AttackResult:
        return self.found(
            predictor,
            problem,
            state.nearest,
            queries=steps * self.queries_per_step + 2,
            gradients=steps,
            zero_gradient=state.zero_gradient,
            nan_gradient=state.nan_gradient,
        )

    def finished(self, problem: Problem, state: PenaltySearchState) -> Bool[Array, "b"]:
        return (state.search == self.searches) | (state.nearest.norm == 0)

    @property
    def queries_per_step(self) -> int:
        """Evaluations of the network, that with its gradient among them."""
        return 1


class Margins(NamedTuple):
    """The margin of logits, its gradient, and whether it counts as adversarial."""

    value: Float[Array, "b"]
    gradient: Images
    adversarial: Bool[Array, "b"]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


def margins(predictor: LogitsFn, problem: Problem, images: Images, confidence: float) -> Margins:
    """Of images that may lie outside the box."""

    def total(predictor: LogitsFn, images: Images):
        logits = predictor(images)
        values = attack_loss(margin, logits, problem)
        return jnp.sum(values), (values, succeeded(logits, problem))

    (values, success), gradient = value_and_mean_gradient(total, predictor, images, 1)
    gradient, not_finite = finite_gradient(gradient)
    zero = zero_throughout(gradient) & ~success
    return Margins(values, gradient, success & (values >= confidence), zero, not_finite)
