"""HopSkipJump: walks along the decision boundary by gradient directions that are estimated from decisions."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.black_box.decision_search import decide, random_start, step_over, to_boundary
from robust_jax.attacks.evaluations import batches_at_once, redraw, sum_over
from robust_jax.attacks.minimum_norm.base import MinimumNorm, Nearest
from robust_jax.attacks.problem import AttackResult, Problem
from robust_jax.attacks.threats import THREATS, Threat
from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.random_words import random_normal, random_uniform
from robust_jax.mathematics.norms import norm_lp
from robust_jax.types import Image, Images, LogitsFn, PRNGKey

NORMS = ("L2", "Linf")
# Of the width of differences in the first step, in units of the image.
FIRST_WIDTH = 0.1
# Finer is below the precision of float32.
MOST_HALVINGS = 24


class HopSkipJumpState(NamedTuple):
    """Images on the boundary, and how far away they were before they were brought there."""

    images: Images
    reach: Float[Array, "b"]
    started: Bool[Array, "b"]
    """Whether there was anything adversarial to start from."""
    nearest: Nearest
    queries: Int[Array, "b"]


@dataclasses.dataclass(frozen=True)
class HopSkipJump(MinimumNorm):
    r"""Minimum-norm attack on decisions: estimates the boundary's normal, steps along it, and searches it anew.

    Of an image :math:`x_t` on the boundary, with :math:`\phi = \pm 1` the decision, adversarial or not,

    .. math::
        v &= \frac{1}{B_t} \sum_{b=1}^{B_t} \big(\phi(x_t + \delta_t u_b) - \bar\phi\big)\, u_b, \quad
        B_t = \lfloor B_0 \sqrt{t} \rfloor \\
        \tilde x_{t+1} &= x_t + \xi\, d(v), \quad \xi = \frac{\lVert x_t - x \rVert}{\sqrt t\, 2^k}

    with u random and of length 1, d(v) the direction of v for L2 and its sign for Linf, and k the least number that
    gives an adversarial :math:`\tilde x`. From there a bisection leads back to the boundary: on the line to the image
    x for L2, by clipping the change for Linf. The first step starts at noise, see :func:`random_start`; where none of
    it is adversarial, as may be in targeted attacks, the attack fails.

    The numbers of evaluations are the same for all examples, but of tries at the start and of k; those of an example
    count its own. In a loop, :math:`B_t` need not be static.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Chen, Jordan & Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack" (arXiv 1904.02144),
        algorithm 2; the constants are those of the published code. Here noise at the start comes at several scales;
        the result is the nearest image of all steps, 0.01 % over the boundary, so that rounding does not undo it.
    """

    norm: str = "L2"
    """L2 or Linf."""
    steps: int = 40
    """Normals estimated."""
    initial_samples: int = 100
    """Evaluations for the first of them, B₀."""
    max_samples: int = 10_000
    """The most evaluations for one."""
    gamma: float = 1.0
    """Precision of the bisection, over :math:`d^{-3/2}` for L2 and :math:`d^{-2}` for Linf of d entries; differences
    are taken at gamma / d of the distance. Large images need 10 or more to stay above the precision of float32."""
    start_tries: int = 100
    """The most noise images tried."""
    early_stop: bool = False
    """Leave an example alone once its perturbation is within eps."""

    check_every: ClassVar[int] = 1

    def __post_init__(self):
        super().__post_init__()
        check_choice("norm", self.norm, NORMS)
        for name in ("steps", "initial_samples", "max_samples", "gamma", "start_tries"):
            check_positive(name, getattr(self, name))

    @property
    def threat(self) -> Threat:
        return THREATS[self.norm]

    @property
    def num_steps(self) -> int:
        return self.steps

    def init(self, predictor: LogitsFn, problem: Problem) -> HopSkipJumpState:
        nearest = self.start(predictor, problem)
        wrong = nearest.norm == 0
        images, started, tries = random_start(predictor, problem, wrong, self.start_tries)
        reach = jax.vmap(self.threat.norm)(images - problem.images)
        halvings = self.halvings(images[0].size)
        images = to_boundary(predictor, problem, images, self.norm, halvings)
        nearest = self.nearer(problem, nearest, images, started)
        queries = 1 + tries + jnp.where(started & ~wrong, halvings, 0)
        return HopSkipJumpState(images, reach, started, nearest, queries)

    def step(
        self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: HopSkipJumpState
    ) -> HopSkipJumpState:
        size, root = state.images[0].size, jnp.sqrt(i + 1.0)
        count = jnp.minimum((self.initial_samples * root).astype(jnp.int32), self.max_samples)
        width = jnp.where(i == 0, FIRST_WIDTH, jnp.maximum(self.gamma / size * state.reach, 1e-12))
        normal = self._normal(i, redraw(predictor, 0), problem, state.images, width, count)
        direction = normal if self.norm == "L2" else jnp.sign(normal)
        length = jax.vmap(self.threat.norm)(state.images - problem.images) / root
        idle = self.finished(problem, state)
        moved, tries = self._move(redraw(predictor, 1), problem, state.images, direction, length, idle)
        reach = jax.vmap(self.threat.norm)(moved - problem.images)
        halvings = self.halvings(size)
        images = to_boundary(redraw(predictor, 2), problem, moved, self.norm, halvings)
        nearest = self.nearer(problem, state.nearest, images, state.started)
        return HopSkipJumpState(images, reach, state.started, nearest, state.queries + count + tries + halvings)

    def result(
        self, predictor: LogitsFn, problem: Problem, state: HopSkipJumpState, steps: Int[Array, "b"]
    ) -> AttackResult:
        nearest = step_over(predictor, problem, state.nearest, self.threat)
        checked = jnp.isfinite(nearest.norm) & (nearest.norm > 0)
        queries = state.queries + checked
        return self.found(predictor, problem, nearest, queries=queries, gradients=jnp.zeros_like(queries))

    def finished(self, problem: Problem, state: HopSkipJumpState) -> Bool[Array, "b"]:
        done = ~state.started | (state.nearest.norm == 0)
        return done | self.within_eps(problem, state.nearest) if self.early_stop else done

    def halvings(self, size: int) -> int:
        """Of a bisection, on images of so many entries."""
        power = 1.5 if self.norm == "L2" else 2.0
        return min(max(math.ceil(math.log2(size**power / self.gamma)), 1), MOST_HALVINGS)

    def _normal(
        self,
        i: Int[Array, ""],
        predictor: LogitsFn,
        problem: Problem,
        images: Images,
        width: Float[Array, "b"],
        count: Int[Array, ""],
    ) -> Images:
        """Of length 1, towards the adversarial side."""
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, i)
        width = width.reshape(-1, 1, 1, 1)

        def draw_unit(key: PRNGKey) -> Image:
            shape = images.shape[1:]
            noise = random_normal(key, shape) if self.norm == "L2" else 2 * random_uniform(key, shape) - 1
            return noise / norm_lp(noise, 2)

        def evaluate(number: Int[Array, ""]) -> tuple[Array, Images, Images]:
            units = jax.vmap(lambda key: draw_unit(jax.random.fold_in(key, number)))(keys)
            points = jnp.clip(images + width * units, 0, 1)
            units = (points - images) / width
            decision = jnp.where(decide(predictor, problem, number, points), 1.0, -1.0)
            return decision, decision.reshape(-1, 1, 1, 1) * units, units

        # In the later steps' loops, of the last round only a part may count.
        at_once = batches_at_once(len(images), -(-self.initial_samples // 4))
        decisions, products, units = sum_over(evaluate, count, at_once=at_once)
        mean = (decisions / count).reshape(-1, 1, 1, 1)
        normal = jnp.where(jnp.abs(mean) == 1, products, products - mean * units)
        length = jax.vmap(lambda normal: norm_lp(normal, 2))(normal)
        return normal / jnp.where(length > 0, length, 1).reshape(-1, 1, 1, 1)

    def _move(
        self,
        predictor: LogitsFn,
        problem: Problem,
        images: Images,
        direction: Images,
        length: Float[Array, "b"],
        idle: Bool[Array, "b"],
    ) -> tuple[Images, Int[Array, "b"]]:
        """A step of half the length, and half of that, until it is adversarial; the number of evaluations it took."""

        def go_on(state) -> Bool[Array, ""]:
            number, done, _, _ = state
            return (number < MOST_HALVINGS) & jnp.any(~done)

        def halve(state):
            number, done, moved, queries = state
            step = (length * 0.5**number).reshape(-1, 1, 1, 1) * direction
            candidates = jnp.clip(images + step, 0, 1)
            success = decide(predictor, problem, number, candidates)
            moved = where_examples(success & ~done, candidates, moved)
            return number + 1, done | success, moved, queries + ~done

        state = jnp.int32(0), idle, images, jnp.zeros(len(images), jnp.int32)
        return jax.lax.while_loop(go_on, halve, state)[2:]
