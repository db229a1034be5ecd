"""JSMA: changes pairs of entries, chosen by a saliency map of the Jacobian, as far as they go."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.minimum_norm.base import MinimumNorm, Nearest
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.threats import THREATS, Threat
from robust_jax.core.checks import check_fraction, check_positive
from robust_jax.types import Image, Images, LogitsFn

# Entries of which all pairs are looked at.
CANDIDATES = 256


class JSMAState(NamedTuple):
    """Where it is, in how many steps, whether there is no pair to change, and what was found."""

    images: Images
    taken: Int[Array, "b"]
    stuck: Bool[Array, "b"]
    targets: Int[Array, "b"]
    nearest: Nearest
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class JSMA(MinimumNorm):
    r"""Sparse attack: step by step, changes by θ the two entries that lead most to the target and from the others.

    .. math:: (p, q) = \arg\max_{p \ne q}\; -(\alpha_p + \alpha_q)(\beta_p + \beta_q), \quad
        \alpha_i = \frac{\partial z_t}{\partial x_i}, \quad
        \beta_i = \sum_{j \ne t} \frac{\partial z_j}{\partial x_i}

    among the pairs with :math:`\alpha_p + \alpha_q > 0` and :math:`\beta_p + \beta_q < 0`; for θ < 0 the signs are
    reversed. z are logits, and an entry is a channel of a pixel; one that has reached its bound is changed no more.
    It ends with the first success, or where there is no such pair.

    Without targets, the target is the class of the highest logit, but for the label, of the image as it is, and
    any misclassification is a success. The paper has targets only.

    A pair's value grows with :math:`\alpha` and falls with :math:`\beta` of either entry, so an entry that two others
    surpass in both is in no best pair. All pairs are looked at of the entries that are left, and the maximum is exact
    if these are at most 256, as in any image of no more entries. Else 256 of them are kept, by the sum of both
    derivatives over their largest moduli.

    Raises:
        ValueError: if a number is out of range, or theta is 0; when run, see :meth:`Attack.run`.

    References:
        Papernot et al., "The limitations of deep learning in adversarial settings" (arXiv 1511.07528), algorithms 2
        and 3, equations 8-10.
    """

    norm: ClassVar[str] = "L0"

    theta: float = 1.0
    """Change of an entry in a step, in [-1, 1]."""
    gamma: float = 0.1
    """Largest share of entries changed: there are at most gamma / 2 steps for each entry of the image."""
    steps: int = 200
    """At most, whatever gamma allows. Within ``jit`` all are run."""

    def __post_init__(self):
        super().__post_init__()
        check_fraction("abs(theta)", abs(self.theta))
        check_positive("abs(theta)", abs(self.theta))
        check_fraction("gamma", self.gamma)
        check_positive("steps", self.steps)

    @property
    def threat(self) -> Threat:
        return THREATS["L0"]

    @property
    def num_steps(self) -> int:
        return self.steps

    def init(self, predictor: LogitsFn, problem: Problem) -> JSMAState:
        logits = predictor(problem.images)
        none = jnp.zeros(len(logits), bool)
        targets = problem.targets
        if targets is None:
            label = jax.nn.one_hot(problem.labels, logits.shape[1], dtype=bool)
            targets = jnp.argmax(jnp.where(label, -jnp.inf, logits), axis=1)
        nearest = self.start(predictor, problem)
        return JSMAState(problem.images, jnp.zeros_like(targets), none, targets, nearest, none, none)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: JSMAState) -> JSMAState:
        logits, pull = jax.vjp(predictor, state.images)
        success = succeeded(logits, problem)
        nearest = self.nearer(problem, state.nearest, state.images, success)
        target = jax.nn.one_hot(state.targets, logits.shape[1])
        (toward, others), not_finite = finite_gradient((pull(target)[0], pull(1 - target)[0]))
        moved, stuck = jax.vmap(self._change_pair)(state.images, toward, others)
        images = jnp.where((success | stuck).reshape(-1, 1, 1, 1), state.images, moved)
        zero = state.zero_gradient | (zero_throughout(toward) & ~success)
        nan = state.nan_gradient | not_finite
        return JSMAState(images, state.taken + 1, stuck & ~success, state.targets, nearest, zero, nan)

    def result(self, predictor: LogitsFn, problem: Problem, state: JSMAState, steps: Int[Array, "b"]) -> AttackResult:
        success = succeeded(predictor(state.images), problem)
        nearest = self.nearer(problem, state.nearest, state.images, success)
        return self.found(
            predictor,
            problem,
            nearest,
            queries=2 * steps + 3,
            gradients=2 * steps,
            zero_gradient=state.zero_gradient,
            nan_gradient=state.nan_gradient,
        )

    def finished(self, problem: Problem, state: JSMAState) -> Bool[Array, "b"]:
        limit = int(self.gamma * problem.images[0].size / 2)
        return jnp.isfinite(state.nearest.norm) | state.stuck | (state.taken >= limit)

    def _change_pair(self, image: Image, toward: Image, others: Image) -> tuple[Image, Bool[Array, ""]]:
        sign = 1 if self.theta > 0 else -1
        flat = image.reshape(-1)
        free = flat < 1 if self.theta > 0 else flat > 0
        first, second, value = best_pair(sign * toward.reshape(-1), -sign * others.reshape(-1), free)
        moved = flat.at[jnp.stack([first, second])].add(self.theta)
        return jnp.clip(moved, 0, 1).reshape(image.shape), value <= 0


def best_pair(
    gain: Float[Array, "d"], loss: Float[Array, "d"], free: Bool[Array, "d"]
) -> tuple[Int[Array, ""], Int[Array, ""], Float[Array, ""]]:
    """The two free entries of the largest (gain + gain')(loss + loss') with both sums positive.

    Returns:
        Their places and the value, which is at most 0 where there is no such pair.
    """
    count = min(CANDIDATES, gain.size)
    rivals = _surpassed(jnp.where(free, gain, -jnp.inf), jnp.where(free, loss, -jnp.inf))
    scaled = [x / jnp.maximum(jnp.max(jnp.where(free, jnp.abs(x), 0)), 1e-30) for x in (gain, loss)]
    # Those that two others surpass come last, and only where there is room.
    preference = jnp.where(free, sum(scaled) - 8 * (rivals >= 2), -jnp.inf)
    chosen = jax.lax.top_k(preference, count)[1]
    gains, losses = gain[chosen], loss[chosen]
    gains, losses = gains[:, None] + gains[None], losses[:, None] + losses[None]
    able = free[chosen]
    able = able[:, None] & able[None] & ~jnp.eye(count, dtype=bool)
    value = jnp.where(able & (gains > 0) & (losses > 0), gains * losses, 0)
    place = jnp.argmax(value)
    return chosen[place // count], chosen[place % count], jnp.max(value)


def _surpassed(gain: Float[Array, "d"], loss: Float[Array, "d"]) -> Int[Array, "d"]:
    """How many entries, counted to 2, are at least as large in both; of equal ones the first counts."""
    order = jnp.argsort(-gain)
    ordered = loss[order]

    def merge(a, b):
        (a_first, a_second), (b_first, b_second) = a, b
        second = jnp.maximum(jnp.minimum(a_first, b_first), jnp.maximum(a_second, b_second))
        return jnp.maximum(a_first, b_first), second

    first, second = jax.lax.associative_scan(merge, (ordered, jnp.full_like(ordered, -jnp.inf)))
    # Of the entries before each one.
    first, second = (jnp.concatenate([jnp.array([-jnp.inf]), x[:-1]]) for x in (first, second))
    counted = (first >= ordered).astype(jnp.int32) + (second >= ordered)
    return jnp.zeros_like(order).at[order].set(counted)
