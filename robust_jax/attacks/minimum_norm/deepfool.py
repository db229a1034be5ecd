"""DeepFool: steps to the nearest class boundary of the linearised network."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.minimum_norm.base import MinimumNorm, Nearest
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.threats import THREATS, Threat
from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.mathematics.norms import norm_lp
from robust_jax.types import Image, Images, LogitsFn

# The norm in which the gradient is measured.
DUAL = {"L2": 2, "Linf": 1}
# Added to every step, in its norm, which carries on from a boundary that is met exactly.
LEAST_STEP = 1e-6


class DeepFoolState(NamedTuple):
    """Where it is, the sum of the steps, what was found, and the classes by the logits of the images as they are."""

    images: Images
    total: Images
    nearest: Nearest
    ranking: Int[Array, "b k"]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class DeepFool(MinimumNorm):
    r"""Minimum-norm attack: goes to the class boundary that is nearest by linearisation, until the class changes.

    .. math::
        r_i &= \frac{|f_l(x_i)|}{\lVert \nabla f_l(x_i) \rVert_q}\, d(\nabla f_l(x_i)), \quad
            l = \arg\min_k \frac{|f_k(x_i)|}{\lVert \nabla f_k(x_i) \rVert_q} \\
        x_{i+1} &= \Pi_{[0,1]}\big(x_0 + (1 + \eta) \sum_{j \le i} r_j\big)

    with :math:`f_k = z_k - z_y` differences of logits, d the steepest direction of the norm, and q its dual.

    With targets, a step goes to the boundary between the target and the class that is highest beside it. The paper
    has no targets, and no box. Here images are clipped, while the sum of the steps is not: what the box took away, the
    next step, taken at the clipped image, makes up for. The paper's code adds 1e-4 to every step, this one 1e-6. A
    perturbation is about 1 + overshoot times the distance to the boundary that was met.

    Raises:
        ValueError: if the norm is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Moosavi-Dezfooli, Fawzi & Frossard, "DeepFool" (arXiv 1511.04599), algorithm 2 and equations 10-12.
    """

    norm: str = "L2"
    """L2 or Linf."""
    steps: int = 50
    """At most; each takes a gradient for every class but one, and another evaluation."""
    num_candidates: int = 10
    """Classes considered, the label among them: those of the highest logits of the image as it is. All, where there
    are fewer."""
    overshoot: float = 0.02
    """How much farther than to the boundary, η."""

    def __post_init__(self):
        super().__post_init__()
        check_choice("norm", self.norm, DUAL)
        check_positive("steps", self.steps)
        check_positive("num_candidates - 1", self.num_candidates - 1)
        check_non_negative("overshoot", self.overshoot)

    @property
    def threat(self) -> Threat:
        return THREATS[self.norm]

    @property
    def num_steps(self) -> int:
        return self.steps

    @property
    def check_every(self) -> int:
        # Most examples take two or three steps.
        return 2

    def init(self, predictor: LogitsFn, problem: Problem) -> DeepFoolState:
        ranking = jnp.argsort(-predictor(problem.images), axis=-1)
        none = jnp.zeros(len(ranking), bool)
        nearest = self.start(predictor, problem)
        return DeepFoolState(problem.images, jnp.zeros_like(problem.images), nearest, ranking, none, none)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: DeepFoolState) -> DeepFoolState:
        distance, normal, not_finite = self._boundary(predictor, problem, state)
        total = state.total + jax.vmap(self._towards)(distance, normal)
        images = jnp.clip(problem.images + (1 + self.overshoot) * total, 0, 1)
        success = succeeded(predictor(images), problem)
        nearest = self.nearer(problem, state.nearest, images, success)
        zero, nan = state.zero_gradient | zero_throughout(normal), state.nan_gradient | not_finite
        return DeepFoolState(images, total, nearest, state.ranking, zero, nan)

    def result(
        self, predictor: LogitsFn, problem: Problem, state: DeepFoolState, steps: Int[Array, "b"]
    ) -> AttackResult:
        each = 1 if problem.targets is not None else min(self.num_candidates, state.ranking.shape[1]) - 1
        return self.found(
            predictor,
            problem,
            state.nearest,
            queries=steps * (1 + each) + 2,
            gradients=steps * each,
            zero_gradient=state.zero_gradient,
            nan_gradient=state.nan_gradient,
        )

    def finished(self, problem: Problem, state: DeepFoolState) -> Bool[Array, "b"]:
        return jnp.isfinite(state.nearest.norm)

    def _boundary(
        self, predictor: LogitsFn, problem: Problem, state: DeepFoolState
    ) -> tuple[Float[Array, "b"], Images, Bool[Array, "b"]]:
        """Distances to the nearest boundary, the gradients of the difference of logits there, and whether any gradient
        was not finite."""
        logits, pull = jax.vjp(predictor, state.images)
        classes = logits.shape[1]
        if problem.targets is None:
            # The label comes first: of other examples there is no step.
            others = jax.nn.one_hot(state.ranking[:, 1 : self.num_candidates], classes)
            directions = others.swapaxes(0, 1) - jax.nn.one_hot(problem.labels, classes)[None]
        else:
            target = jax.nn.one_hot(problem.targets, classes)
            rival = jnp.argmax(jnp.where(target > 0, -jnp.inf, logits), axis=1)
            directions = (target - jax.nn.one_hot(rival, classes))[None]
        values = jnp.abs(jnp.sum(directions * logits[None], axis=2))
        normals, not_finite = jax.vmap(lambda direction: finite_gradient(pull(direction)[0]))(directions)
        steepness = jax.vmap(jax.vmap(lambda normal: norm_lp(normal, DUAL[self.norm])))(normals)
        distances = values / jnp.maximum(steepness, 1e-12)
        nearest, rows = jnp.argmin(distances, axis=0), jnp.arange(len(logits))
        distances = jnp.where(steepness > 0, distances, 0)
        return distances[nearest, rows], normals[nearest, rows], jnp.any(not_finite, axis=0)

    def _towards(self, distance: Float[Array, ""], normal: Image) -> Image:
        return (distance + LEAST_STEP) * self.threat.steepest(normal)
