"""EAD: the attack of Carlini and Wagner with an elastic net, which gives sparse perturbations."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.losses import attack_loss, margin
from robust_jax.attacks.minimum_norm.base import Nearest
from robust_jax.attacks.minimum_norm.penalty_search import Descended, PenaltySearch, PenaltySearchState, margins
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.threats import THREATS, Threat
from robust_jax.core.checks import check_choice, check_non_negative
from robust_jax.types import Images, LogitsFn


class FistaDescent(NamedTuple):
    """The iterate, and the point ahead of it where the gradient is taken."""

    x: Images
    y: Images


@dataclasses.dataclass(frozen=True)
class EAD(PenaltySearch):
    r"""Minimum-norm attack in L1: FISTA on the elastic net and a hinge of the margin.

    .. math:: \min_{x \in [0, 1]}\; c \max(\kappa - m(x), 0) + \lVert x - x_0 \rVert_2^2
        + \beta \lVert x - x_0 \rVert_1

    with m the margin as of :class:`CarliniWagnerL2`. With g the sum without the last term, a step is

    .. math::
        x_{k+1} &= S_\beta(y_k - \alpha_k \nabla g(y_k)), \quad \alpha_k = \alpha_0 \sqrt{1 - k / K} \\
        y_{k+1} &= x_{k+1} + \tfrac{k}{k + 3} (x_{k+1} - x_k)

    where :math:`S_\beta` takes β off the modulus of every change, down to 0, and clips into the box. As in the paper
    β is not multiplied by the step size. The points y may leave the box by a little; images do not.

    The norm, and ``eps``, are of L1 under either rule. Perturbations of a larger norm than ``eps`` do not count.

    Raises:
        ValueError: if the rule is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Chen et al., "EAD: Elastic-net attacks to deep neural networks" (arXiv 1709.04114), algorithm 1 and
        equations 4-7.
    """

    norm: ClassVar[str] = "L1"

    beta: float = 1e-3
    """Weight of the L1 norm, β."""
    rule: Literal["EN", "L1"] = "EN"
    """Which of the adversarial images is returned: that of the least elastic net, or of the least L1 norm."""

    def __post_init__(self):
        super().__post_init__()
        check_non_negative("beta", self.beta)
        check_choice("rule", self.rule, ("EN", "L1"))

    @property
    def threat(self) -> Threat:
        return THREATS["L1"]

    def begin(self, problem: Problem) -> FistaDescent:
        return FistaDescent(problem.images, problem.images)

    def descend(
        self, predictor: LogitsFn, problem: Problem, constant: Array, iteration: Int[Array, "b"], descent: FistaDescent
    ) -> Descended:
        image, k = problem.images, iteration.astype(jnp.float32).reshape(-1, 1, 1, 1)
        at_y = margins(predictor, problem, descent.y, self.confidence)
        pull = jnp.where(at_y.value < self.confidence, constant, 0).reshape(-1, 1, 1, 1)
        gradient = 2 * (descent.y - image) - pull * at_y.gradient
        length = self.learning_rate * jnp.sqrt(1 - k / self.steps)
        x = _shrink(descent.y - length * gradient, image, self.beta)
        y = x + k / (k + 3) * (x - descent.x)

        logits = predictor(x)
        value = attack_loss(margin, logits, problem)
        adversarial = succeeded(logits, problem) & (value >= self.confidence)
        loss = self._elastic_net(problem, x) + constant * jnp.maximum(self.confidence - value, 0)
        return Descended(FistaDescent(x, y), x, adversarial, loss, at_y.zero_gradient, at_y.nan_gradient)

    def nearer(self, problem: Problem, nearest: Nearest, images: Images, success: Bool[Array, "b"]) -> Nearest:
        """By the rule, among those whose norm counts; of images that are adversarial as they are, none is nearer."""
        norm = jax.vmap(self.threat.norm)(images - problem.images)
        distance = norm if self.rule == "L1" else self._elastic_net(problem, images)
        counts = success & (norm <= problem.eps)
        return where_examples(counts & (distance < nearest.norm), Nearest(images, distance), nearest)

    def result(
        self, predictor: LogitsFn, problem: Problem, state: PenaltySearchState, steps: Int[Array, "b"]
    ) -> AttackResult:
        nearest = state.nearest
        norm = jax.vmap(self.threat.norm)(nearest.images - problem.images)
        nearest = nearest._replace(norm=jnp.where(jnp.isfinite(nearest.norm), norm, jnp.inf))
        return super().result(predictor, problem, state._replace(nearest=nearest), steps)

    @property
    def queries_per_step(self) -> int:
        return 2

    def _elastic_net(self, problem: Problem, images: Images) -> Float[Array, "b"]:
        delta = images - problem.images
        return jnp.sum(delta**2 + self.beta * jnp.abs(delta), axis=(1, 2, 3))


def _shrink(z: Images, image: Images, beta: float) -> Images:
    delta = z - image
    moved = jnp.clip(z - beta * jnp.sign(delta), 0, 1)
    return jnp.where(jnp.abs(delta) > beta, moved, image)
