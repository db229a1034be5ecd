"""Auto-PGD: projected gradient ascent that finds its step size as it goes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.losses import TARGETED_LOSSES, Loss, as_loss, attack_loss
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.randomised import value_and_mean_gradient
from robust_jax.attacks.threats import L2, Linf, Threat
from robust_jax.core.checks import check_choice, check_fraction, check_non_negative, check_positive
from robust_jax.core.norms import norm_lp
from robust_jax.core.random_words import random_normal, random_uniform
from robust_jax.types import Image, Images, PRNGKey

# Ball, then box: the projection of the original.
THREATS: dict[str, Threat] = {"Linf": Linf(), "L2": L2(exact=False)}
MOMENTUM = 0.25


class Run(NamedTuple):
    """One ascent: where it is, the best it has seen, and what its step size depends on."""

    images: Images
    previous: Images
    step_size: Float[Array, "b"]
    best: tuple[Images, Images, Float[Array, "b"]]
    """Images of the highest loss, their gradient, the loss."""
    last_loss: Float[Array, "b"]
    increases: Int[Array, "b"]
    """Steps since the last check that increased the loss."""
    halved: Bool[Array, "b"]
    """At the last check."""
    best_at_check: Float[Array, "b"]


class APGDState(NamedTuple):
    """The run under way, and what all of them found."""

    run: Run
    success: Bool[Array, "b"]
    images: Images
    loss: Float[Array, "b"]
    zero_gradient: Bool[Array, "b"]
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

    The images returned are the last that were misclassified, or where none was, those of the highest loss.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Croce & Hein, "Reliable evaluation of adversarial robustness" (arXiv 2003.01690), section 3.
    """

    norm: str = "Linf"
    """Linf or L2."""
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

    default_step: ClassVar[float] = 2.0
    """The first step size over eps."""
    num_draws: int = 1
    """Draws of a :class:`Randomised` classifier that a gradient is the mean of."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_choice("norm", self.norm, THREATS)
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
    def num_steps(self) -> int:
        return self.num_runs * (self.steps + 1)

    def init(self, predictor: Partial, problem: Problem) -> APGDState:
        size = len(problem.images)
        none, low = jnp.zeros(size, bool), jnp.full(size, -jnp.inf)
        ranking = jnp.argsort(-predictor(problem.images), axis=-1)
        return APGDState(self._start(problem, jnp.int32(0)), none, problem.images, low, none, ranking)

    def step(self, i: Int[Array, ""], predictor: Partial, problem: Problem, state: APGDState) -> APGDState:
        run_index, i = i // (self.steps + 1), i % (self.steps + 1)
        run = state.run
        if self.num_runs > 1:
            started = jax.lax.cond(i == 0, lambda: self._start(problem, run_index), lambda: run)
            run = started
        (losses, logits), gradient = self._gradient(predictor, problem, state.ranking, run_index, run.images)

        # An example that an earlier run broke keeps what that run found.
        success = succeeded(logits, problem)
        take = success | (~state.success & (losses > state.loss))
        images, loss = where_examples(take, (run.images, losses), (state.images, state.loss))
        zero = (jnp.max(jnp.abs(gradient), axis=(1, 2, 3)) == 0) & ~success
        best = where_examples(losses > run.best[2], (run.images, gradient, losses), run.best)
        first_loss = losses if self.parity == "fixed" else jnp.zeros_like(losses)
        run = run._replace(
            best=best,
            increases=run.increases + jnp.where(i > 0, losses > run.last_loss, False),
            last_loss=jnp.where(i > 0, losses, first_loss),
            best_at_check=jnp.where(i > 0, run.best_at_check, losses),
        )
        run, gradient = self._check(i, run, gradient)
        run = self._move(i, problem, run, gradient)
        return APGDState(run, state.success | success, images, loss, state.zero_gradient | zero, state.ranking)

    def result(self, predictor: Partial, problem: Problem, state: APGDState, steps: Int[Array, "b"]) -> AttackResult:
        norm = jax.vmap(THREATS[self.norm].norm)(state.images - problem.images)
        return AttackResult(
            state.images,
            state.success,
            norm,
            state.loss,
            self.num_draws * steps + 1,
            self.num_draws * steps,
            state.zero_gradient,
        )

    def finished(self, problem: Problem, state: APGDState) -> Bool[Array, "b"] | None:
        return state.success if self.early_stop else None

    def _start(self, problem: Problem, run_index: Int[Array, ""]) -> Run:
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, run_index)
        images = jax.vmap(self._random)(keys, problem.images, problem.eps)
        zero = jnp.zeros(len(images))
        best = (images, jnp.zeros_like(images), zero - jnp.inf)
        count = jnp.zeros(len(images), jnp.int32)
        return Run(images, images, self.default_step * problem.eps, best, zero, count, count == 0, zero)

    def _random(self, key: PRNGKey, image: Image, eps: Float[Array, ""]) -> Image:
        """On the sphere, then into the box."""
        uniform = self.norm == "Linf"
        noise = 2 * random_uniform(key, image.shape) - 1 if uniform else random_normal(key, image.shape)
        return jnp.clip(image + eps * noise / norm_lp(noise, THREATS[self.norm].order), 0, 1)

    def _loss(
        self, logits: Float[Array, "b k"], problem: Problem, ranking: Int[Array, "b k"], run_index: Int[Array, ""]
    ) -> Float[Array, "b"]:
        return attack_loss(as_loss(self.loss), logits, problem)

    def _gradient(self, predictor: Partial, problem: Problem, ranking, run_index, images: Images):
        def total(predictor: Partial, images: Images):
            logits = predictor(images)
            losses = self._loss(logits, problem, ranking, run_index)
            return jnp.sum(losses), (losses, logits)

        return value_and_mean_gradient(total, predictor, images, self.num_draws)

    def _check(self, i: Int[Array, ""], run: Run, gradient: Images) -> tuple[Run, Images]:
        """Halves step sizes and goes back to the best points, where it is time to and called for."""
        windows = jnp.asarray(check_windows(self.steps))
        window = windows[i]
        stalled = ~run.halved & (run.best_at_check >= run.best[2])
        halve = (window > 0) & ((run.increases <= self.rho * window) | stalled)
        best_images, best_gradient, best_loss = run.best
        images, gradient = where_examples(halve, (best_images, best_gradient), (run.images, gradient))
        previous = where_examples(halve, best_images, run.previous) if self.parity == "fixed" else run.previous
        run = run._replace(
            images=images,
            previous=previous,
            step_size=jnp.where(halve, run.step_size / 2, run.step_size),
            increases=jnp.where(window > 0, 0, run.increases),
            halved=jnp.where(window > 0, halve, run.halved),
            best_at_check=jnp.where(window > 0, best_loss, run.best_at_check),
        )
        return run, gradient

    def _move(self, i: Int[Array, ""], problem: Problem, run: Run, gradient: Images) -> Run:
        threat = THREATS[self.norm]
        weight = jnp.where(i > 0, 1 - MOMENTUM, 1.0)

        def move(image: Image, x: Image, previous: Image, gradient: Image, size: Array, eps: Array) -> Image:
            z = image + threat.project(x + size * threat.steepest(gradient) - image, image, eps)
            mixed = x + weight * (z - x) + (1 - weight) * (x - previous)
            return image + threat.project(mixed - image, image, eps)

        arguments = (problem.images, run.images, run.previous, gradient, run.step_size, problem.eps)
        return run._replace(images=jax.vmap(move)(*arguments), previous=run.images)


@dataclasses.dataclass(frozen=True)
class APGDT(APGD):
    """A run of :class:`APGD` towards each of the classes that come next after the first, on the targeted DLR loss.

    Success is any misclassification. Not for problems with targets of their own.

    Raises:
        ValueError: if there are fewer than ``num_targets`` + 1 classes, or fewer than 4.

    References:
        Croce & Hein (arXiv 2003.01690), section 5; equation 7.
    """

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

    def init(self, predictor: Partial, problem: Problem) -> APGDState:
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


def check_windows(steps: int) -> Int[np.ndarray, "steps+1"]:
    """After each number of steps, how many steps a check there looks back on; 0 where there is none."""
    windows = np.zeros(steps + 1, np.int32)
    window, least, shorter = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    step = window
    while step <= steps:
        windows[step] = window
        window = max(window - shorter, least)
        step += window
    return windows
