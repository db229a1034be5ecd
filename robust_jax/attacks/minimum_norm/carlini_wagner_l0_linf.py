"""The attacks of Carlini and Wagner in L0 and Linf, which tighten a limit again and again."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.minimum_norm.base import MinimumNorm, Nearest
from robust_jax.attacks.minimum_norm.carlini_wagner import TanhDescent, adam_step, from_tanh, tanh_descent, to_tanh
from robust_jax.attacks.minimum_norm.penalty_search import margins
from robust_jax.attacks.problem import AttackResult, Problem
from robust_jax.attacks.threats import THREATS, Threat
from robust_jax.core.checks import check_fraction, check_non_negative, check_positive
from robust_jax.types import Images, LogitsFn


class TighteningState(NamedTuple):
    """Each example's descent, its limit and constant, the steps it has had with both, and what was found."""

    descent: TanhDescent
    limit: Array
    constant: Float[Array, "b"]
    iteration: Int[Array, "b"]
    done: Bool[Array, "b"]
    nearest: Nearest
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class Tightening(MinimumNorm):
    r"""A minimum-norm attack by descents within a limit that is tightened after every success.

    .. math:: \min_w\; c \max(\kappa + \text{slack} - m(x(w)), 0) + \text{penalty}(x(w) - x_0)

    in tanh space by Adam. On success the limit is tightened, and the next descent begins where this one ended.
    Without success in ``steps_per_constant`` steps the constant is multiplied, and the descent goes on; beyond
    ``largest_constant`` it ends. Examples go on each in its own time.
    """

    steps: int = 5000
    """Gradients followed, in all, at most."""
    steps_per_constant: int = 100
    """Without success, before the constant is multiplied; in the published code 1000."""
    learning_rate: float = 0.01
    """Of Adam."""
    confidence: float = 0.0
    """Margin of logits that counts as adversarial, κ. An image that is misclassified as it is stays, whatever its
    margin."""
    first_constant: float = 1e-3
    """The constant at first."""
    constant_factor: float = 2.0
    """What it is multiplied by."""
    largest_constant: float = 2e6
    """The last that is tried."""

    slack: ClassVar[float] = 0.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("steps", "steps_per_constant", "learning_rate", "first_constant"):
            check_positive(name, getattr(self, name))
        check_positive("constant_factor - 1", self.constant_factor - 1)
        check_positive("largest_constant", self.largest_constant)
        check_non_negative("confidence", self.confidence)

    def first_limit(self, problem: Problem) -> Array:
        """One that does not bind."""
        raise NotImplementedError

    def within(self, problem: Problem, limit: Array, images: Images) -> Images:
        """What the limit leaves of images."""
        return images

    def penalty(self, limit: Array, delta: Images) -> tuple[Float[Array, "b"], Images]:
        """Of perturbations, and its gradient."""
        raise NotImplementedError

    def solved(self, adversarial: Bool[Array, "b"], penalty: Array, constant: Array) -> Bool[Array, "b"]:
        """Whether the limit may be tightened."""
        raise NotImplementedError

    def tightened(self, limit: Array, delta: Images, gradient: Images) -> tuple[Array, Bool[Array, "b"]]:
        """The next limit, of adversarial images where the margin has this gradient, and whether none is left."""
        raise NotImplementedError

    @property
    def num_steps(self) -> int:
        return self.steps

    def init(self, predictor: LogitsFn, problem: Problem) -> TighteningState:
        size = len(problem.images)
        descent = tanh_descent(to_tanh(problem.images), self.learning_rate)
        constant, none = jnp.full(size, self.first_constant), jnp.zeros(size, bool)
        nearest = self.start(predictor, problem)
        done = nearest.norm == 0
        return TighteningState(
            descent, self.first_limit(problem), constant, jnp.zeros(size, jnp.int32), done, nearest, none, none
        )

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: TighteningState) -> TighteningState:
        limit, constant = state.limit, state.constant
        images = self.within(problem, limit, from_tanh(state.descent.w))
        found = margins(predictor, problem, images, self.confidence)
        nearest = self.nearer(problem, state.nearest, images, found.adversarial)
        delta = images - self.within(problem, limit, from_tanh(to_tanh(problem.images)))
        penalty, gradient = self.penalty(limit, delta)
        pull = jnp.where(found.value < self.confidence + self.slack, constant, 0).reshape(-1, 1, 1, 1)
        moved = adam_step(state.descent, gradient - pull * found.gradient, self.learning_rate)

        solved = self.solved(found.adversarial, penalty, constant)
        tightened, tightest = self.tightened(limit, delta, found.gradient)
        waited = ~solved & (state.iteration == self.steps_per_constant - 1)
        constant = jnp.where(waited, constant * self.constant_factor, constant)
        return TighteningState(
            descent=where_examples(solved, tanh_descent(state.descent.w, self.learning_rate), moved),
            limit=where_examples(solved, tightened, limit),
            constant=constant,
            iteration=jnp.where(solved | waited, 0, state.iteration + 1),
            done=(solved & tightest) | (constant > self.largest_constant),
            nearest=nearest,
            zero_gradient=state.zero_gradient | (found.zero_gradient & ~jnp.isfinite(nearest.norm)),
            nan_gradient=state.nan_gradient | found.nan_gradient,
        )

    def result(
        self, predictor: LogitsFn, problem: Problem, state: TighteningState, steps: Int[Array, "b"]
    ) -> AttackResult:
        return self.found(
            predictor,
            problem,
            state.nearest,
            queries=steps + 2,
            gradients=steps,
            zero_gradient=state.zero_gradient,
            nan_gradient=state.nan_gradient,
        )

    def finished(self, problem: Problem, state: TighteningState) -> Bool[Array, "b"]:
        return state.done


@dataclasses.dataclass(frozen=True)
class CarliniWagnerL0(Tightening):
    r"""Minimum-norm attack in L0: L2 descents on fewer and fewer pixels.

    After every success those pixels are given back that gained least, by :math:`\sum_c \delta_c\, \partial m /
    \partial x_c` over the channels of a pixel, ``drop`` times the square root of the number left, but at least one.

    In the published code a pixel's gain is the change times the gradient of the loss, which on success is that of the
    squared change alone, and giving back ends early at a large gain. Here it is the paper's formula, with the margin
    in place of the hinge, whose gradient on success is zero.

    Raises:
        ValueError: if a number is out of range; when run, see :meth:`Attack.run`.

    References:
        Carlini & Wagner (arXiv 1608.04644), section VI.B.
    """

    norm: ClassVar[str] = "L0"
    slack: ClassVar[float] = 0.01

    drop: float = 0.3
    """Pixels given back at a time, over the square root of the number left."""

    def __post_init__(self):
        super().__post_init__()
        check_non_negative("drop", self.drop)

    @property
    def threat(self) -> Threat:
        return THREATS["L0"]

    def first_limit(self, problem: Problem) -> Bool[Array, "b h w 1"]:
        """All pixels."""
        return jnp.ones((*problem.images.shape[:3], 1), bool)

    def within(self, problem: Problem, limit: Bool[Array, "b h w 1"], images: Images) -> Images:
        return jnp.where(limit, images, problem.images)

    def penalty(self, limit: Bool[Array, "b h w 1"], delta: Images) -> tuple[Float[Array, "b"], Images]:
        return jnp.sum(delta**2, axis=(1, 2, 3)), 2 * delta

    def solved(self, adversarial: Bool[Array, "b"], penalty: Array, constant: Array) -> Bool[Array, "b"]:
        return adversarial

    def tightened(self, limit: Bool[Array, "b h w 1"], delta: Images, gradient: Images):
        allowed = limit.reshape(len(limit), -1)
        left = jnp.sum(allowed, axis=1)
        dropped = jnp.maximum(jnp.ceil(self.drop * jnp.sqrt(left)), 1)
        gains = jnp.sum(delta * gradient, axis=3).reshape(allowed.shape)
        order = jnp.argsort(jnp.where(allowed, gains, jnp.inf), axis=1)
        rank = jnp.argsort(order, axis=1)
        allowed &= rank >= dropped[:, None]
        return allowed.reshape(limit.shape), left <= dropped


@dataclasses.dataclass(frozen=True)
class CarliniWagnerLinf(Tightening):
    r"""Minimum-norm attack in Linf: descents with a penalty on what exceeds a bound, which shrinks.

    The penalty is :math:`\sum_i \max(|\delta_i| - \tau, 0)`, where τ is 1 at first. A descent succeeds when the image
    is adversarial and the penalty below 1e-4 c; then τ becomes ``shrink`` times the largest change, or times τ if
    that is less. It ends when τ is below ``resolution``. The nearest image is the adversarial one of the least norm,
    of all steps, where the published code returns the last success.

    Raises:
        ValueError: if a number is out of range; when run, see :meth:`Attack.run`.

    References:
        Carlini & Wagner (arXiv 1608.04644), section VI.C.
    """

    norm: ClassVar[str] = "Linf"

    learning_rate: float = 1e-3
    """Of Adam; in the published code 5e-3, by which entries overshoot the bounds of less robust images."""
    first_constant: float = 1e-5
    """The constant at first."""
    largest_constant: float = 20.0
    """The last that is tried."""
    shrink: float = 0.9
    """Factor on τ."""
    resolution: float = 1 / 256
    """The τ that ends the search."""

    def __post_init__(self):
        super().__post_init__()
        check_fraction("shrink", self.shrink)
        check_non_negative("resolution", self.resolution)

    @property
    def threat(self) -> Threat:
        return THREATS["Linf"]

    def first_limit(self, problem: Problem) -> Float[Array, "b"]:
        """The side of the box."""
        return jnp.ones(len(problem.images))

    def penalty(self, limit: Float[Array, "b"], delta: Images) -> tuple[Float[Array, "b"], Images]:
        excess = jnp.maximum(jnp.abs(delta) - limit.reshape(-1, 1, 1, 1), 0)
        return jnp.sum(excess, axis=(1, 2, 3)), jnp.where(excess > 0, jnp.sign(delta), 0)

    def solved(self, adversarial: Bool[Array, "b"], penalty: Array, constant: Array) -> Bool[Array, "b"]:
        return adversarial & (penalty < 1e-4 * constant)

    def tightened(self, limit: Float[Array, "b"], delta: Images, gradient: Images):
        limit = self.shrink * jnp.minimum(limit, jnp.max(jnp.abs(delta), axis=(1, 2, 3)))
        return limit, limit < self.resolution
