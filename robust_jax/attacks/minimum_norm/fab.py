"""FAB: walks along the decision boundary towards the image."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.minimum_norm.base import MinimumNorm, Nearest
from robust_jax.attacks.minimum_norm.hyperplanes import to_hyperplane
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.threats import THREATS, LpThreat
from robust_jax.core.checks import check_choice, check_fraction, check_non_negative, check_positive
from robust_jax.core.random_words import random_normal, random_uniform
from robust_jax.mathematics.norms import norm_lp
from robust_jax.types import Image, Images, LogitsFn, PRNGKey

# Of random starts where there is no radius, as in the published code.
RADII = {"Linf": 0.3, "L2": 1.0, "L1": 5.0}


class FABState(NamedTuple):
    """Where the walk is, the nearest it has been, and the classes by the logits of the images as they are."""

    images: Images
    nearest: Nearest
    ranking: Int[Array, "b k"]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class FAB(MinimumNorm):
    r"""Minimum-norm attack: projects on the linearised decision boundary, within the box, biased to the image.

    .. math::
        x_{i+1} = \Pi_{[0,1]}\big((1 - \alpha)(x_i + \eta\, d_i) + \alpha (x_0 + \eta\, d_0)\big), \quad
        \alpha = \min\Big(\frac{\lVert d_i \rVert}{\lVert d_i \rVert + \lVert d_0 \rVert}, \alpha_{max}\Big)

    with :math:`d_i, d_0` the shortest steps from :math:`x_i` and the image :math:`x_0` to the hyperplane of the class
    whose boundary is nearest. From an adversarial :math:`x_{i+1}` it goes back to
    :math:`x_0 + \beta (x_{i+1} - x_0)`.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack"
        (arXiv 1907.02044), algorithm 1. The published code's random starts reach to half the radius; its final search
        between image and result is left out there, and here.
    """

    norm: str = "Linf"
    """Linf, L2 or L1."""
    steps: int = 100
    """In each run; each takes a gradient and another evaluation."""
    restarts: int = 1
    """Runs, of which the first starts at the image, others at random."""
    alpha_max: float = 0.1
    """The greatest weight of the step from the image."""
    overshoot: float = 1.05
    """Factor on steps, η, which carries them over the boundary."""
    backward: float = 0.9
    """Share of the way that is kept of an adversarial image, β."""
    early_stop: bool = False
    """Leave an example alone once its perturbation is within eps."""

    def __post_init__(self):
        super().__post_init__()
        check_choice("norm", self.norm, RADII)
        check_positive("steps", self.steps)
        check_positive("restarts", self.restarts)
        check_non_negative("overshoot", self.overshoot)
        check_fraction("alpha_max", self.alpha_max)
        check_fraction("backward", self.backward)

    @property
    def threat(self) -> LpThreat:
        return THREATS[self.norm]

    @property
    def num_runs(self) -> int:
        """Walks from new starts."""
        return self.restarts

    @property
    def num_steps(self) -> int:
        return self.num_runs * self.steps

    def init(self, predictor: LogitsFn, problem: Problem) -> FABState:
        ranking = jnp.argsort(-predictor(problem.images), axis=-1)
        nearest, none = self.start(predictor, problem), jnp.zeros(len(ranking), bool)
        return FABState(problem.images, nearest, ranking, none, none)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: FABState) -> FABState:
        run_index, i = i // self.steps, i % self.steps
        images = state.images
        if self.num_runs > 1:
            images = jax.lax.cond(i == 0, lambda: self._start(problem, state.nearest, run_index), lambda: images)
        values, normals, not_finite = self._boundary(predictor, problem, state, run_index, images)
        images = jax.vmap(self._walk)(images, problem.images, values, normals)
        success = succeeded(predictor(images), problem)
        nearest = self.nearer(problem, state.nearest, images, success)
        back = problem.images + self.backward * (images - problem.images)
        images = where_examples(success, back, images)
        zero = state.zero_gradient | (zero_throughout(normals) & ~success)
        return FABState(images, nearest, state.ranking, zero, state.nan_gradient | not_finite)

    def result(self, predictor: LogitsFn, problem: Problem, state: FABState, steps: Int[Array, "b"]) -> AttackResult:
        return self.found(
            predictor,
            problem,
            state.nearest,
            queries=steps * (1 + self._gradients_per_step(problem, state.ranking.shape[1])) + 2,
            gradients=steps * self._gradients_per_step(problem, state.ranking.shape[1]),
            zero_gradient=state.zero_gradient,
            nan_gradient=state.nan_gradient,
        )

    def finished(self, problem: Problem, state: FABState) -> Bool[Array, "b"] | None:
        return self.within_eps(problem, state.nearest) if self.early_stop else None

    def _start(self, problem: Problem, nearest: Nearest, run_index: Int[Array, ""]) -> Images:
        """The image in the first of the restarts, then half-way to the radius or to the nearest known."""

        def start(key: PRNGKey, image: Image, eps: Array, norm: Array) -> Image:
            key = jax.random.fold_in(key, run_index)
            noise = 2 * random_uniform(key, image.shape) - 1 if self.norm == "Linf" else random_normal(key, image.shape)
            reach = jnp.minimum(eps, norm)
            reach = jnp.where(jnp.isfinite(reach), reach, RADII[self.norm])
            return jnp.clip(image + 0.5 * reach * noise / norm_lp(noise, self.threat.order), 0, 1)

        random = jax.vmap(start)(problem.keys, problem.images, problem.eps, nearest.norm)
        return jnp.where(run_index % self.restarts == 0, problem.images, random)

    def _boundary(
        self, predictor: LogitsFn, problem: Problem, state: FABState, run_index: Int[Array, ""], images: Images
    ) -> tuple[Float[Array, "b"], Images, Bool[Array, "b"]]:
        """Differences of logits to the class whose boundary is nearest by linearisation, their gradients, and whether
        any gradient was not finite."""
        logits, pull = jax.vjp(predictor, images)
        classes = logits.shape[1]
        labels = jax.nn.one_hot(problem.labels, classes)
        if problem.targets is not None:
            direction = jax.nn.one_hot(problem.targets, classes) - labels
            return jnp.sum(direction * logits, axis=1), *finite_gradient(pull(direction)[0])
        directions = jnp.eye(classes)[:, None] - labels[None]
        values = jnp.sum(directions * logits[None], axis=2)
        normals, not_finite = jax.vmap(lambda direction: finite_gradient(pull(direction)[0]))(directions)
        dual = {"Linf": 1, "L2": 2, "L1": math.inf}[self.norm]
        steepness = jax.vmap(jax.vmap(lambda normal: norm_lp(normal, dual)))(normals)
        distances = jnp.abs(values) / (1e-12 + steepness)
        distances = jnp.where(labels.T > 0, jnp.inf, distances)
        nearest = jnp.argmin(distances, axis=0)
        rows = jnp.arange(len(images))
        return values[nearest, rows], normals[nearest, rows], jnp.any(not_finite, axis=0)

    def _walk(self, x: Image, image: Image, value: Float[Array, ""], normal: Image) -> Image:
        order = self.threat.order
        # The hyperplane's value at the image differs from that at x by the linear part.
        at_image = value + jnp.sum(normal * (image - x))
        from_x = to_hyperplane(x, normal, value, order)
        from_image = to_hyperplane(image, normal, at_image, order)
        length, length_of_image = (jnp.maximum(norm_lp(d, order), 1e-8) for d in (from_x, from_image))
        alpha = jnp.minimum(length / (length + length_of_image), self.alpha_max)
        mixed = (1 - alpha) * (x + self.overshoot * from_x) + alpha * (image + self.overshoot * from_image)
        return jnp.clip(mixed, 0, 1)

    def _gradients_per_step(self, problem: Problem, classes: int) -> int:
        return classes if problem.targets is None else 1


@dataclasses.dataclass(frozen=True)
class FABT(FAB):
    """A run of :class:`FAB` towards each of the classes that come next after the first.

    It takes one gradient a step, whatever the number of classes. Success is any misclassification. Not for problems
    with targets of their own.

    Raises:
        ValueError: if there are fewer than ``num_targets`` + 1 classes.

    References:
        Croce & Hein, AutoAttack (arXiv 2003.01690), section 6.
    """

    num_targets: int = 9
    """Classes, by the logits of the image as it is."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("num_targets", self.num_targets)

    @property
    def num_runs(self) -> int:
        return self.num_targets * self.restarts

    def init(self, predictor: LogitsFn, problem: Problem) -> FABState:
        if problem.targets is not None:
            raise ValueError("Expected no targets: FABT chooses its own; a targeted FAB takes them.")
        state = super().init(predictor, problem)
        classes = state.ranking.shape[1]
        if classes <= self.num_targets:
            raise ValueError(f"Expected more classes than targets, got num_targets={self.num_targets} of {classes}.")
        return state

    def _boundary(
        self, predictor: LogitsFn, problem: Problem, state: FABState, run_index: Int[Array, ""], images: Images
    ) -> tuple[Float[Array, "b"], Images, Bool[Array, "b"]]:
        target = state.ranking[:, 1 + run_index // self.restarts]
        # Of an example that was misclassified to begin with, the label may be one of them.
        target = jnp.where(target == problem.labels, state.ranking[:, 0], target)
        return super()._boundary(predictor, problem._replace(targets=target), state, run_index, images)

    def _gradients_per_step(self, problem: Problem, classes: int) -> int:
        return 1
