"""Boundary attack: a random walk along the decision boundary, towards the image."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.black_box.decision_search import decide, random_start, step_over, to_boundary
from robust_jax.attacks.evaluations import redraw
from robust_jax.attacks.minimum_norm.base import MinimumNorm, Nearest
from robust_jax.attacks.problem import AttackResult, Problem
from robust_jax.attacks.threats import THREATS, Threat
from robust_jax.core.checks import check_positive
from robust_jax.core.random_words import random_normal
from robust_jax.mathematics.norms import norm_lp
from robust_jax.types import Image, LogitsFn, PRNGKey

# Of the bisection from noise: to 0.1 % of the distance.
START_HALVINGS = 10
# Steps between evaluations of an orthogonal step alone.
EVERY = 10
# How many outcomes are looked at, and between which shares of success steps are right.
ORTHOGONAL_WINDOW, ORTHOGONAL_SHARES = 30, (0.2, 0.5)
STEP_WINDOW, STEP_SHARES = 30, (0.1, 0.25)


class StepSize(NamedTuple):
    """A step relative to the distance; outcomes since it was last looked at, and how many of them were successes."""

    size: Float[Array, "b"]
    outcomes: Int[Array, "b"]
    successes: Int[Array, "b"]


class BoundaryState(NamedTuple):
    """The walk is at its nearest images."""

    nearest: Nearest
    orthogonal: StepSize
    source: StepSize
    queries: Int[Array, "b"]
    started: Bool[Array, "b"]
    """Whether there was anything adversarial to start from."""


@dataclasses.dataclass(frozen=True)
class BoundaryAttack(MinimumNorm):
    r"""Minimum-norm attack on decisions, for L2: keeps what is adversarial and nearer to the image.

    Of an adversarial image at distance r, a step takes a random direction orthogonal to that of the image, of length
    :math:`\delta r`, goes back to the sphere of radius r, and on it a step of length :math:`\epsilon r` towards the
    image. Step sizes adapt to each example: δ and ε grow by half where more than 50 % of the last orthogonal steps
    led to adversarial images, and shrink by as much where fewer than 20 % did; ε grows where more than 25 % of whole
    steps did, and shrinks where fewer than 10 % did. An example is left alone once ε is below 1e-7.

    The first step starts at noise, see :func:`random_start`, brought to the boundary by bisection; where none of it is
    adversarial, as may be in targeted attacks, the attack fails.

    Raises:
        ValueError: if a number is out of range; when run, see :meth:`Attack.run`.

    References:
        Brendel, Rauber & Bethge, "Decision-based adversarial attacks" (arXiv 1712.04248), algorithm 1 and section 2.3;
        shares are those of Foolbox 3. Step sizes are looked at after 30 outcomes, and then after 30 others; of
        orthogonal steps, evaluated alone every 10 steps, Foolbox looks at the last 100. The result is 0.01 % over the
        boundary, so that rounding does not undo it.
    """

    norm: ClassVar[str] = "L2"

    steps: int = 25_000
    """Steps proposed."""
    orthogonal_step: float = 0.01
    """The first δ."""
    source_step: float = 0.01
    """The first ε."""
    adaptation: float = 1.5
    """Factor by which steps grow and shrink."""
    start_tries: int = 100
    """The most noise images tried."""
    early_stop: bool = False
    """Leave an example alone once its perturbation is within eps."""

    check_every: ClassVar[int] = 100

    def __post_init__(self):
        super().__post_init__()
        for name in ("steps", "orthogonal_step", "source_step", "start_tries"):
            check_positive(name, getattr(self, name))
        if self.adaptation < 1:
            raise ValueError(f"Expected adaptation >= 1, got adaptation={self.adaptation!r}.")

    @property
    def threat(self) -> Threat:
        return THREATS[self.norm]

    @property
    def num_steps(self) -> int:
        return self.steps

    def init(self, predictor: LogitsFn, problem: Problem) -> BoundaryState:
        nearest = self.start(predictor, problem)
        wrong = nearest.norm == 0
        images, started, tries = random_start(predictor, problem, wrong, self.start_tries)
        images = to_boundary(predictor, problem, images, self.norm, START_HALVINGS)
        nearest = self.nearer(problem, nearest, images, started)
        none = jnp.zeros_like(tries)
        orthogonal, source = (
            StepSize(jnp.full(len(images), size), none, none) for size in (self.orthogonal_step, self.source_step)
        )
        queries = 1 + tries + jnp.where(started & ~wrong, START_HALVINGS, 0)
        return BoundaryState(nearest, orthogonal, source, queries, started)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: BoundaryState) -> BoundaryState:
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, i)
        sizes = state.orthogonal.size, state.source.size
        on_sphere, candidates = jax.vmap(_propose)(keys, state.nearest.images, problem.images, *sizes)
        success = decide(predictor, problem, 0, candidates)
        nearest = self.nearer(problem, state.nearest, candidates, success)
        source, _ = self._adapt(_count(state.source, success), STEP_WINDOW, STEP_SHARES)

        def look() -> tuple[StepSize, Array]:
            alone = decide(redraw(predictor, 1), problem, 0, on_sphere)
            return self._adapt(_count(state.orthogonal, alone), ORTHOGONAL_WINDOW, ORTHOGONAL_SHARES)

        is_due = i % EVERY == EVERY - 1
        orthogonal, factor = jax.lax.cond(is_due, look, lambda: (state.orthogonal, jnp.ones(len(success))))
        source = source._replace(size=source.size * factor)
        return BoundaryState(nearest, orthogonal, source, state.queries + 1 + is_due, state.started)

    def result(
        self, predictor: LogitsFn, problem: Problem, state: BoundaryState, steps: Int[Array, "b"]
    ) -> AttackResult:
        nearest = step_over(predictor, problem, state.nearest, self.threat)
        checked = jnp.isfinite(nearest.norm) & (nearest.norm > 0)
        queries = state.queries + checked
        return self.found(predictor, problem, nearest, queries=queries, gradients=jnp.zeros_like(queries))

    def finished(self, problem: Problem, state: BoundaryState) -> Bool[Array, "b"]:
        done = ~state.started | (state.nearest.norm == 0) | (state.source.size < 1e-7)
        return done | self.within_eps(problem, state.nearest) if self.early_stop else done

    def _adapt(self, step: StepSize, window: int, shares: tuple[float, float]) -> tuple[StepSize, Float[Array, "b"]]:
        """The step size once there are enough outcomes, and the factor it has changed by."""
        full = step.outcomes >= window
        share = step.successes / window
        grown = jnp.where(share > shares[1], self.adaptation, 1.0)
        factor = jnp.where(full, jnp.where(share < shares[0], 1 / self.adaptation, grown), 1.0)
        counts = (jnp.where(full, 0, count) for count in (step.outcomes, step.successes))
        return StepSize(step.size * factor, *counts), factor


def _count(step: StepSize, success: Bool[Array, "b"]) -> StepSize:
    return step._replace(outcomes=step.outcomes + 1, successes=step.successes + success)


def _propose(
    key: PRNGKey, x: Image, image: Image, orthogonal: Float[Array, ""], source: Float[Array, ""]
) -> tuple[Image, Image]:
    """The orthogonal step on the sphere, and from there the step towards the image."""
    towards = image - x
    distance = norm_lp(towards, 2)
    unit = towards / jnp.maximum(distance, 1e-12)
    noise = random_normal(key, x.shape)
    noise = noise - jnp.sum(noise * unit) * unit
    noise = noise * orthogonal * distance / norm_lp(noise, 2)
    on_sphere = jnp.clip(image + (noise - towards) / jnp.sqrt(1 + orthogonal**2), 0, 1)
    left = image - on_sphere
    length = norm_lp(left, 2)
    # Clipped, it is nearer than the sphere already.
    step = jnp.maximum(source * distance + length - distance, 0) / jnp.maximum(length, 1e-12)
    return on_sphere, jnp.clip(on_sphere + step * left, 0, 1)
