"""Projected gradient ascent, and the attacks that are special cases of it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.engine import REACH, LossFn, Maximum, Point, ProjectedAscent, maximise
from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.losses import Loss, as_loss, attack_loss
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.randomised import draws_of, value_and_mean_gradient
from robust_jax.attacks.starts import Start, check_start, start_perturbations
from robust_jax.attacks.threats import Threat, as_threat
from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.types import Images, LogitsFn, PRNGKeys


class PGDState(NamedTuple):
    """The ascent under way; ``best`` holds the images, success and loss of the best iterate so far."""

    point: Point
    best: tuple[Images, Bool[Array, "b"], Float[Array, "b"]]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class PGD(Attack):
    r"""Projected gradient ascent on the loss.

    .. math:: \delta \leftarrow \Pi(\delta + \eta\, d(\nabla_\delta L(f(x + \delta), y)))

    with d the steepest direction in the threat and Π the projection on it. A targeted attack descends the loss of
    the target class.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Madry et al., arXiv 1706.06083; momentum: Dong et al., arXiv 1710.06081, where the gradient is divided by its
        L1 norm; nesterov: Lin et al., arXiv 1908.06281.
    """

    soft_labels: ClassVar[bool] = True

    reach: ClassVar[float] = REACH
    """Sum of the step sizes over eps: by default, enough to cross the ball and turn (Madry et al.)."""

    norm: str | Threat = "Linf"
    """Threat: Linf, L2, L1, or one of :mod:`~robust_jax.attacks.threats`."""
    steps: int = 40
    """Gradients followed, in each restart."""
    step_size: float | None = None
    """Length of a step, in the norm."""
    relative_step: float | None = None
    """The same over eps, used without ``step_size``. Without both, ``reach`` / steps."""
    restarts: int = 1
    """Starts, the best of which is kept."""
    start: Start = "uniform"
    """Start of the ascent: "uniform" in the threat, "zero" for the image itself, or
    :class:`~robust_jax.attacks.Gaussian` noise."""
    momentum: float = 0.0
    """Decay of accumulated gradients."""
    nesterov: bool = False
    """Take the gradient where the momentum leads."""
    optimiser: optax.GradientTransformation | None = None
    """Of the gradient descent, in place of steepest steps; one state for each example."""
    loss: str | Loss = "cross_entropy"
    """cross_entropy, margin, dlr, or a function of logits and classes that gives a value per example."""
    keep: Literal["best", "last"] = "best"
    """Return the best iterate, a success before a failure and then the highest loss; or the last of each restart, the
    best of those."""
    early_stop: bool = False
    """Leave an example alone once it is broken, whatever the loss beyond; faster where one only counts."""
    num_draws: int = 1
    """Draws of a :class:`Randomised` classifier that a gradient is the mean of."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        as_threat(self.norm)
        as_loss(self.loss)
        check_start(self.start)
        for name in ("steps", "restarts", "num_draws"):
            check_positive(name, getattr(self, name))
        for name in ("step_size", "relative_step"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_non_negative("momentum", self.momentum)
        check_choice("keep", self.keep, ("best", "last"))
        if self.early_stop and self.keep == "last":
            raise ValueError("Expected keep='best' with early_stop, got keep='last': what breaks first is kept.")

    @property
    def num_steps(self) -> int:
        # One more between two restarts, which looks at the last iterate of the former.
        return self.restarts * (self.steps + 1) - 1

    @property
    def ascent(self) -> ProjectedAscent:
        """The steps taken."""
        return ProjectedAscent(as_threat(self.norm), self.momentum, self.nesterov, self.optimiser)

    def init(self, predictor: LogitsFn, problem: Problem) -> PGDState:
        none = jnp.zeros(len(problem.images), bool)
        best = (problem.images, none, jnp.full(len(problem.images), -jnp.inf))
        return PGDState(self._start(problem, jnp.int32(0)), best, none, none)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: PGDState) -> PGDState:
        length = self._step_length(problem)
        delta = self.ascent.ahead(state.point, length)
        (losses, logits), gradient = self._gradient(predictor, problem, delta)
        gradient, not_finite = finite_gradient(gradient)
        is_last = i % (self.steps + 1) == self.steps
        success = succeeded(logits, problem)
        best = state.best
        if self.keep == "best" or self.restarts > 1:
            # With Nesterov's momentum the gradient is not of the iterate, which then is judged when it is the last.
            judged = is_last if self.keep == "last" or self.nesterov else jnp.ones_like(is_last)
            best = self._better(best, (problem.images + delta, success, losses), judged)
        point = self.ascent.move(state.point, gradient, length, problem.images, problem.eps)
        if self.restarts > 1:
            point = jax.lax.cond(is_last, lambda: self._start(problem, i // (self.steps + 1) + 1), lambda: point)
        # Zero gradients of misclassified examples are no cause for concern: dlr is flat where the label comes third.
        zero = zero_throughout(gradient) & ~success
        return PGDState(point, best, state.zero_gradient | zero, state.nan_gradient | not_finite)

    def result(self, predictor: LogitsFn, problem: Problem, state: PGDState, steps: Int[Array, "b"]) -> AttackResult:
        images = problem.images + state.point.delta
        logits = predictor(images)
        last = (images, succeeded(logits, problem), attack_loss(as_loss(self.loss), logits, problem))
        # A single last iterate is not compared, so that in a training step, which reads images alone, its loss is not
        # computed.
        alone = self.keep == "last" and self.restarts == 1
        images, success, loss = last if alone else self._better(state.best, last, jnp.bool_(True))
        norm = jax.vmap(as_threat(self.norm).norm)(images - problem.images)
        gradients = steps * draws_of(predictor, self.num_draws)
        return AttackResult(
            images, success, norm, loss, gradients + 1, gradients, state.zero_gradient, state.nan_gradient
        )

    def finished(self, problem: Problem, state: PGDState) -> Bool[Array, "b"] | None:
        return state.best[1] if self.early_stop else None

    def maximise(
        self,
        keys: PRNGKeys,
        loss_fn: LossFn,
        images: Images,
        *,
        eps: float | Float[Array, ""] | Float[Array, "b"] | None = None,
        state: PyTree = None,
    ) -> Maximum:
        """Maximise any other loss by the same steps, see :func:`~robust_jax.attacks.maximise`.

        The field ``loss`` is not used, and ``keep="best"`` goes by the loss alone.

        Args:
            keys: one for each example.
            loss_fn: images to a loss ``[b]``, or to that and an auxiliary value.
            images: in [0, 1].
            eps: in place of the attack's radius; may be traced.
            state: what every step passes to the next.

        Raises:
            ValueError: with several restarts or draws, or ``early_stop``, which need logits and labels.
        """
        if self.restarts > 1 or self.num_draws > 1 or self.early_stop:
            raise ValueError(
                "Expected restarts=1, num_draws=1 and early_stop=False where a loss is given, got "
                f"restarts={self.restarts}, num_draws={self.num_draws} and early_stop={self.early_stop}."
            )
        return maximise(
            jax.vmap(jax.random.fold_in, (0, None))(keys, 0),
            loss_fn,
            images,
            self.eps if eps is None else eps,
            self.norm,
            steps=self.steps,
            step_size=self.step_size,
            relative_step=self.relative_step or self.reach / self.steps,
            start=self.start,
            momentum=self.momentum,
            nesterov=self.nesterov,
            optimiser=self.optimiser,
            keep=self.keep,
            state=state,
        )

    def _start(self, problem: Problem, restart: Int[Array, ""]) -> Point:
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, restart)
        threat, feasible = as_threat(self.norm), self.keep == "best"
        return self.ascent.begin(
            start_perturbations(keys, self.start, threat, problem.images, problem.eps, feasible=feasible)
        )

    def _step_length(self, problem: Problem) -> Float[Array, "b 1 1 1"]:
        relative = self.relative_step or self.reach / self.steps
        eps = problem.eps
        length = relative * eps if self.step_size is None else jnp.full_like(eps, self.step_size)
        return length.reshape(-1, 1, 1, 1)

    def _gradient(self, predictor: LogitsFn, problem: Problem, delta: Images):
        def total(predictor: LogitsFn, delta: Images):
            logits = predictor(problem.images + delta)
            losses = attack_loss(as_loss(self.loss), logits, problem)
            return jnp.sum(losses), (losses, logits)

        return value_and_mean_gradient(total, predictor, delta, self.num_draws)

    def _better(self, best, found, judged: Bool[Array, ""]):
        _, best_success, best_loss = best
        _, success, loss = found
        better = (success & ~best_success) | ((success == best_success) & (loss > best_loss))
        return where_examples(judged & better, found, best)


@dataclasses.dataclass(frozen=True)
class FGSM(PGD):
    """One step of length eps from the image (Goodfellow et al., arXiv 1412.6572)."""

    reach: ClassVar[float] = 1.0

    steps: int = 1
    start: Start = "zero"
    keep: Literal["best", "last"] = "last"


@dataclasses.dataclass(frozen=True)
class RFGSM(FGSM):
    """One step of length 1.25 eps from a random start, projected (Wong et al., arXiv 2001.03994)."""

    reach: ClassVar[float] = 1.25

    start: Start = "uniform"


@dataclasses.dataclass(frozen=True)
class BIM(PGD):
    """Steps of eps / steps from the image, the last iterate (Kurakin et al., arXiv 1607.02533)."""

    reach: ClassVar[float] = 1.0

    steps: int = 10
    start: Start = "zero"
    keep: Literal["best", "last"] = "last"


@dataclasses.dataclass(frozen=True)
class MIFGSM(BIM):
    """BIM along accumulated gradients (Dong et al., arXiv 1710.06081)."""

    momentum: float = 1.0


@dataclasses.dataclass(frozen=True)
class NIFGSM(MIFGSM):
    """MI-FGSM that looks ahead (Lin et al., arXiv 1908.06281)."""

    nesterov: bool = True
