"""Projected gradient ascent on the parameters of a transform."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.losses import Loss, as_loss, attack_loss
from robust_jax.attacks.problem import Problem, succeeded
from robust_jax.attacks.randomised import draws_of, value_and_mean_gradient
from robust_jax.attacks.transforms.parameter_search import Found, ParameterResult, better, judge, result_of
from robust_jax.attacks.transforms.spatial import Spatial
from robust_jax.attacks.transforms.threats_parameters import Point, TransformThreat
from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.types import LogitsFn


class ParameterPGDState(NamedTuple):
    """Where the ascent is, and the worst it has seen."""

    point: Point
    best: Found
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class ParameterPGD(Attack):
    r"""Gradient ascent on the parameters of a transform, by steps of their signs within their limits.

    .. math:: p \leftarrow \Pi(p + \eta\, \ell \odot \mathrm{sign}(\nabla_p L(f(T_p(x)), y)))

    with ℓ the limits. Of a :class:`Joint` threat the perturbation takes its steps at the same time. ``eps`` is the
    share of the threat's limits, and so is the norm. The image as it is counts among what has been seen.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Engstrom et al. (arXiv 1712.02779): the first-order method, which they find weaker than a grid.
    """

    soft_labels: ClassVar[bool] = True

    reach: ClassVar[float] = 2.5
    """All steps together, in units of eps: by default, enough to cross the limits and turn."""

    eps: float = 1.0
    """Share of the threat's limits."""
    threat: TransformThreat = Spatial()
    """What to search: :class:`Spatial`, :class:`Parameters`, :class:`Joint`, …"""
    steps: int = 20
    """Gradients followed, in each restart."""
    relative_step: float | None = None
    """Length of a step, as a share of the limits within eps. By default ``reach`` / steps."""
    restarts: int = 1
    """Starts, the best of which is kept."""
    start: Literal["uniform", "zero"] = "uniform"
    """Start at a random point, or at the image."""
    loss: str | Loss = "cross_entropy"
    """cross_entropy, margin, dlr, or a function of logits and classes that gives a value per example."""
    keep: Literal["best", "last"] = "best"
    """Return the best of what was seen, a success before a failure and then the highest loss; or the last of each
    restart, the best of those."""
    early_stop: bool = False
    """Leave an example alone once it is broken."""
    num_draws: int = 1
    """Draws of a :class:`Randomised` classifier that a gradient is the mean of."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        as_loss(self.loss)
        for name in ("steps", "restarts", "num_draws"):
            check_positive(name, getattr(self, name))
        if self.relative_step is not None:
            check_positive("relative_step", self.relative_step)
        check_choice("start", self.start, ("uniform", "zero"))
        check_choice("keep", self.keep, ("best", "last"))
        if self.early_stop and self.keep == "last":
            raise ValueError("Expected keep='best' with early_stop, got keep='last': what breaks first is kept.")

    @property
    def norm(self) -> TransformThreat:
        """The threat."""
        return self.threat

    @property
    def num_steps(self) -> int:
        # One more in each restart, which looks at its last point.
        return self.restarts * (self.steps + 1)

    def init(self, predictor: LogitsFn, problem: Problem) -> ParameterPGDState:
        neutral = jax.vmap(self.threat.neutral)(problem.images)
        none = jnp.zeros(len(problem.images), bool)
        best = Found(neutral, none, jnp.full(len(problem.images), -jnp.inf))
        if self.keep == "best":
            best = judge(self.threat, self.loss, predictor, problem, neutral)
        return ParameterPGDState(neutral, best, none, none)

    def step(
        self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: ParameterPGDState
    ) -> ParameterPGDState:
        restart, place = i // (self.steps + 1), i % (self.steps + 1)
        point = jax.lax.cond(place == 0, lambda: self._start(problem, restart), lambda: state.point)
        logits, gradient = self._gradient(predictor, problem, point)
        gradient, not_finite = finite_gradient(gradient)
        success = succeeded(logits, problem)
        judged = jnp.bool_(True) if self.keep == "best" else place == self.steps
        found = better(Found(point, success, attack_loss(as_loss(self.loss), logits, problem)), state.best)
        best = where_examples(jnp.broadcast_to(judged, success.shape), found, state.best)
        zero = zero_throughout(gradient) & ~success
        length = (self.relative_step or self.reach / self.steps) * problem.eps
        moved = jax.vmap(self.threat.move)(point, gradient, length, problem.images, problem.eps)
        return ParameterPGDState(moved, best, state.zero_gradient | zero, state.nan_gradient | not_finite)

    def result(
        self, predictor: LogitsFn, problem: Problem, state: ParameterPGDState, steps: Int[Array, "b"]
    ) -> ParameterResult:
        gradients = steps * draws_of(predictor, self.num_draws)
        queries = gradients + (self.keep == "best")
        return result_of(
            self.threat,
            problem,
            state.best,
            queries=queries,
            gradients=gradients,
            zero_gradient=state.zero_gradient,
            nan_gradient=state.nan_gradient,
        )

    def finished(self, problem: Problem, state: ParameterPGDState) -> Bool[Array, "b"] | None:
        return state.best.success if self.early_stop else None

    def _start(self, problem: Problem, restart: Int[Array, ""]) -> Point:
        if self.start == "zero":
            return jax.vmap(self.threat.neutral)(problem.images)
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, restart)
        return jax.vmap(self.threat.random)(keys, problem.images, problem.eps)

    def _loss(self, logits: Float[Array, "b k"], problem: Problem) -> Float[Array, "b"]:
        """What is ascended."""
        return attack_loss(as_loss(self.loss), logits, problem)

    def _gradient(self, predictor: LogitsFn, problem: Problem, point: Point):
        def total(predictor: LogitsFn, point: Point):
            logits = predictor(jax.vmap(self.threat.apply)(point, problem.images))
            return jnp.sum(self._loss(logits, problem)), logits

        return value_and_mean_gradient(total, predictor, point, self.num_draws)
