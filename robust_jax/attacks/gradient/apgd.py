"""Auto-PGD: projected gradient ascent that finds its step size as it goes."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.gradient.ascent import (
    THREATS,
    Ascent,
    begin,
    begin_within,
    check_windows,
    first_step_size,
    halving_check,
    momentum_move,
    random_start,
    sparse_move,
    sparsity_check,
    sparsity_windows,
    with_density_of_start,
)
from robust_jax.attacks.losses import TARGETED_LOSSES, Loss, as_loss, attack_loss
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.randomised import draws_of, value_and_mean_gradient
from robust_jax.core.checks import check_choice, check_fraction, check_non_negative, check_positive
from robust_jax.types import Images, LogitsFn


class APGDState(NamedTuple):
    """The ascent under way, and what all of them found."""

    ascent: Ascent
    success: Bool[Array, "b"]
    images: Images
    loss: Float[Array, "b"]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]
    ranking: Int[Array, "b k"]
    """Classes by the logits of the images as they are, the highest first."""


@dataclasses.dataclass(frozen=True)
class APGD(Attack):
    r"""Projected gradient ascent with momentum whose step size is halved when it makes no headway.

    .. math::
        z_i &= \Pi(x_i + \eta_i\, d(\nabla L(x_i))) \\
        x_{i+1} &= \Pi(x_i + 0.75\, (z_i - x_i) + 0.25\, (x_i - x_{i-1}))

    with d the steepest direction and :math:`\eta_0 = 2 \epsilon`. At checks, of 100 steps after 22, 41, 57, 70, 80,
    87, 93 and 99, the step is halved, and the ascent goes on from the best point, if at most rho of the steps since
    the last check increased the loss, or if the step was not halved there and the best loss is still the same.

    For L1, :math:`\eta_0 = \epsilon` and a step has no momentum. It moves the entries of largest gradient: of 20 %, and
    from the first check, every 4 % of the steps, of 2/3 of those that the best perturbation changes. Where that has
    got sparser by 5 %, the ascent goes on from it at :math:`\eta_0`; elsewhere steps shrink by 1.5, to a tenth.

    The images returned are the last that were misclassified, or where none was, those of the highest loss.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Croce & Hein, "Reliable evaluation of adversarial robustness" (arXiv 2003.01690), section 3; for L1 "Mind the
        box" (arXiv 2103.01208), section 4.
    """

    soft_labels: ClassVar[bool] = True

    norm: str = "Linf"
    """Linf, L2 or L1."""
    steps: int = 100
    """Gradients followed, in each run; one more is taken at the start."""
    restarts: int = 1
    """Runs from random starts."""
    loss: str | Loss = "cross_entropy"
    """cross_entropy, dlr, margin, or a function of logits and classes that gives a value per example."""
    rho: float = 0.75
    """Share of steps that must increase the loss for the step size to be kept."""
    parity: Literal["reference", "fixed"] = "reference"
    """Whether to do as the published code. It compares the first step's loss with zero, so that a positive loss
    always counts as an increase, and after going back to the best point it takes the momentum from the point it left.
    ``fixed`` compares with the loss at the start, and drops the momentum."""
    early_stop: bool = False
    """Leave an example alone once it is broken: the same examples are, sooner."""
    large_radii: bool = False
    """For L1: ascend in the balls of 3 eps and 2 eps first, for 30 % of the steps each, as AutoAttack does."""
    num_draws: int = 1
    """Draws of a :class:`Randomised` classifier that a gradient is the mean of."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_choice("norm", self.norm, THREATS)
        if self.large_radii and self.norm != "L1":
            raise ValueError(f"Expected norm='L1' with large_radii, got norm={self.norm!r}.")
        if self.large_radii and self.steps < 4:
            raise ValueError(f"Expected steps >= 4 with large_radii, got steps={self.steps!r}.")
        self._check_loss()
        check_positive("steps", self.steps)
        check_positive("restarts", self.restarts)
        check_positive("num_draws", self.num_draws)
        check_fraction("rho", self.rho)
        check_choice("parity", self.parity, ("reference", "fixed"))

    def _check_loss(self) -> None:
        as_loss(self.loss)

    @property
    def num_runs(self) -> int:
        """Ascents from new starts."""
        return self.restarts

    @property
    def phases(self) -> tuple[tuple[float, int], ...]:
        """Of each run: radii over eps, and the steps within them."""
        if not self.large_radii:
            return ((1.0, self.steps),)
        part = math.ceil(0.3 * self.steps)
        return ((3.0, part), (2.0, part), (1.0, self.steps - 2 * part))

    @property
    def steps_per_run(self) -> int:
        """One more in each phase, for the gradient at its start."""
        return sum(steps + 1 for _, steps in self.phases)

    @property
    def num_steps(self) -> int:
        return self.num_runs * self.steps_per_run

    def init(self, predictor: LogitsFn, problem: Problem) -> APGDState:
        size = len(problem.images)
        none, low = jnp.zeros(size, bool), jnp.full(size, -jnp.inf)
        ranking = jnp.argsort(-predictor(problem.images), axis=-1)
        return APGDState(self._start(problem, jnp.int32(0)), none, problem.images, low, none, none, ranking)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: APGDState) -> APGDState:
        run_index, place = i // self.steps_per_run, i % self.steps_per_run
        ascent = state.ascent
        if self.num_runs > 1:
            ascent = jax.lax.cond(place == 0, lambda: self._start(problem, run_index), lambda: ascent)
        radii, numbers, windows = self._schedule()
        eps, i = problem.eps * radii[place], numbers[place]
        if len(self.phases) > 1:
            shrink = (i == 0) & (place > 0)
            begin_phase = partial(begin_within, self.norm, ascent.best[0], problem.images, eps)
            ascent = jax.lax.cond(shrink, begin_phase, lambda: ascent)
        (losses, logits), gradient = self._gradient(predictor, problem, state.ranking, run_index, ascent.images)
        gradient, not_finite = finite_gradient(gradient)

        # An example that an earlier run broke keeps what that run found.
        success = succeeded(logits, problem) & (radii[place] == 1)
        take = success | (~state.success & (losses > state.loss) & (radii[place] == 1))
        images, loss = where_examples(take, (ascent.images, losses), (state.images, state.loss))
        zero = state.zero_gradient | (zero_throughout(gradient) & ~succeeded(logits, problem))
        best = where_examples(losses > ascent.best[2], (ascent.images, gradient, losses), ascent.best)
        first_loss = losses if self.parity == "fixed" else jnp.zeros_like(losses)
        ascent = ascent._replace(
            best=best,
            increases=ascent.increases + jnp.where(i > 0, losses > ascent.last_loss, False),
            last_loss=jnp.where(i > 0, losses, first_loss),
            best_at_check=jnp.where(i > 0, ascent.best_at_check, losses),
        )
        if self.norm == "L1":
            first_step = first_step_size("L1", eps)
            ascent, gradient = sparsity_check(ascent, gradient, windows[place], problem.images, first_step)
            ascent = sparse_move(ascent, gradient, problem.images, eps)
        else:
            drop = self.parity == "fixed"
            ascent, gradient = halving_check(ascent, gradient, windows[place], rho=self.rho, drop_momentum=drop)
            ascent = momentum_move(ascent, gradient, self.norm, problem.images, eps, i == 0)
        nan = state.nan_gradient | not_finite
        return APGDState(ascent, state.success | success, images, loss, zero, nan, state.ranking)

    def result(self, predictor: LogitsFn, problem: Problem, state: APGDState, steps: Int[Array, "b"]) -> AttackResult:
        norm = jax.vmap(THREATS[self.norm].norm)(state.images - problem.images)
        gradients = steps * draws_of(predictor, self.num_draws)
        return AttackResult(
            state.images,
            state.success,
            norm,
            state.loss,
            gradients + 1,
            gradients,
            state.zero_gradient,
            state.nan_gradient,
        )

    def finished(self, problem: Problem, state: APGDState) -> Bool[Array, "b"] | None:
        return state.success if self.early_stop else None

    def _schedule(self) -> tuple[Float[Array, "s"], Int[Array, "s"], Int[Array, "s"]]:
        """Of each step in a run: the radius over eps, its number in the phase, and the window of a check there."""
        windows_of = sparsity_windows if self.norm == "L1" else check_windows
        radii = [np.full(steps + 1, radius, np.float32) for radius, steps in self.phases]
        numbers = [np.arange(steps + 1) for _, steps in self.phases]
        windows = [windows_of(steps) for _, steps in self.phases]
        in_order = lambda parts: jnp.asarray(np.concatenate(parts))  # noqa: E731
        return in_order(radii), in_order(numbers), in_order(windows)

    def _start(self, problem: Problem, run_index: Int[Array, ""]) -> Ascent:
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, run_index)
        eps = problem.eps * self.phases[0][0]
        start = random_start(keys, self.norm, problem.images, eps)
        ascent = begin(self.norm, start, eps)
        return with_density_of_start(ascent, problem.images) if self.large_radii else ascent

    def _loss(
        self, logits: Float[Array, "b k"], problem: Problem, ranking: Int[Array, "b k"], run_index: Int[Array, ""]
    ) -> Float[Array, "b"]:
        return attack_loss(as_loss(self.loss), logits, problem)

    def _gradient(self, predictor: LogitsFn, problem: Problem, ranking, run_index, images: Images):
        def total(predictor: LogitsFn, images: Images):
            logits = predictor(images)
            losses = self._loss(logits, problem, ranking, run_index)
            return jnp.sum(losses), (losses, logits)

        return value_and_mean_gradient(total, predictor, images, self.num_draws)


@dataclasses.dataclass(frozen=True)
class APGDT(APGD):
    """A run of :class:`APGD` towards each of the classes that come next after the first, on the targeted DLR loss.

    Success is any misclassification. Not for problems with targets of their own.

    Raises:
        ValueError: if there are fewer than ``num_targets`` + 1 classes, or fewer than 4.

    References:
        Croce & Hein (arXiv 2003.01690), section 5; equation 7.
    """

    soft_labels: ClassVar[bool] = False

    loss: str = "targeted_dlr"
    """targeted_dlr, or difference: of the target's logit and the label's, for fewer than 4 classes."""
    num_targets: int = 9
    """Classes, by the logits of the image as it is."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("num_targets", self.num_targets)

    def _check_loss(self) -> None:
        check_choice("loss", self.loss, TARGETED_LOSSES)

    @property
    def num_runs(self) -> int:
        return self.num_targets * self.restarts

    def init(self, predictor: LogitsFn, problem: Problem) -> APGDState:
        if problem.targets is not None:
            raise ValueError("Expected no targets: APGDT chooses its own; a targeted APGD takes them.")
        state = super().init(predictor, problem)
        classes = state.ranking.shape[1]
        if classes <= self.num_targets:
            raise ValueError(f"Expected more classes than targets, got num_targets={self.num_targets} of {classes}.")
        return state

    def _loss(
        self, logits: Float[Array, "b k"], problem: Problem, ranking: Int[Array, "b k"], run_index: Int[Array, ""]
    ) -> Float[Array, "b"]:
        target = ranking[:, 1 + run_index // self.restarts]
        # Of an example that was misclassified to begin with, the label may be one of them.
        target = jnp.where(target == problem.labels, ranking[:, 0], target)
        return TARGETED_LOSSES[self.loss](logits, problem.labels, target)
