"""The worst of many parameters of a transform: from a grid, or drawn at random."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.losses import Loss, as_loss, attack_loss
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.transforms.spatial import Spatial
from robust_jax.attacks.transforms.threats_parameters import ParameterBox, Point, TransformThreat
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.types import Images, LogitsFn


class ParameterResult(NamedTuple):
    """As an :class:`AttackResult`, with the ``parameters`` found, a row for each example. ``norm`` is the share that
    they take up of the limits."""

    images: Images
    success: Bool[Array, "b"]
    norm: Float[Array, "b"]
    loss: Float[Array, "b"]
    queries: Int[Array, "b"]
    gradients: Int[Array, "b"]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]
    parameters: Point

    def warnings(self) -> list[str]:
        """What should make one doubt the result, in words; for results on the host."""
        return AttackResult(*self[:-1]).warnings()


class Found(NamedTuple):
    """The worst points so far, of each example: success before failure, then the highest loss."""

    point: Point
    success: Bool[Array, "b"]
    loss: Float[Array, "b"]


@dataclasses.dataclass(frozen=True)
class ParameterSearch(Attack):
    """Tries points of a threat, and keeps the one of highest loss that is misclassified, or if none is, of all.

    The image as it is counts among them, so that what is misclassified to begin with stays so. ``eps`` is the share of
    the threat's limits, and so is the norm: the largest parameter over its limit.

    Raises:
        ValueError: if a number is out of range, the loss unknown, or the grid has another number of axes than the
            threat has parameters; when run, see :meth:`Attack.run`.

    References:
        Engstrom et al. (arXiv 1712.02779): grid search, and worst of k.
    """

    eps: float = 1.0
    """Share of the threat's limits."""
    threat: TransformThreat = Spatial()
    """What to search: :class:`Spatial`, :class:`Parameters`, or without a grid any threat of parameters."""
    grid: tuple[int, ...] | None = None
    """Points along each parameter, limits included; a single one is neutral. Published: (5, 5, 31). Without a grid,
    points are drawn."""
    draws: int = 10
    """Random points tried for each example, where there is no grid."""
    loss: str | Loss = "cross_entropy"
    """cross_entropy, margin, dlr, or a function of logits and classes that gives a value per example."""
    early_stop: bool = False
    """Leave an example alone once it is broken; the same examples are, sooner."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_positive("draws", self.draws)
        as_loss(self.loss)
        if self.grid is None:
            return
        if not isinstance(self.threat, ParameterBox):
            raise ValueError(f"Expected a threat of parameters alone for a grid, got threat={self.threat!r}.")
        if len(self.grid) != len(self.threat.bounds[0]) or min(self.grid) < 1:
            parameters = len(self.threat.bounds[0])
            raise ValueError(f"Expected {parameters} positive numbers, one a parameter, got grid={self.grid!r}.")

    @property
    def norm(self) -> TransformThreat:
        """The threat."""
        return self.threat

    @property
    def num_steps(self) -> int:
        return self.draws if self.grid is None else math.prod(self.grid)

    def init(self, predictor: LogitsFn, problem: Problem) -> Found:
        return judge(self.threat, self.loss, predictor, problem, jax.vmap(self.threat.neutral)(problem.images))

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: Found) -> Found:
        if self.grid is not None and isinstance(self.threat, ParameterBox):
            point = jax.vmap(self.threat.at, (None, 0))(_shares(self.threat, self.grid, i), problem.eps)
        else:
            keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, i)
            point = jax.vmap(self.threat.random)(keys, problem.images, problem.eps)
        return better(judge(self.threat, self.loss, predictor, problem, point), state)

    def result(self, predictor: LogitsFn, problem: Problem, state: Found, steps: Int[Array, "b"]) -> ParameterResult:
        none, never = jnp.zeros_like(steps), jnp.zeros_like(state.success)
        return result_of(
            self.threat,
            problem,
            state,
            queries=steps + 1,
            gradients=none,
            zero_gradient=never,
            nan_gradient=never,
        )

    def finished(self, problem: Problem, state: Found) -> Bool[Array, "b"] | None:
        return state.success if self.early_stop else None


def _shares(threat: ParameterBox, grid: tuple[int, ...], i: Int[Array, ""]) -> Float[Array, "p"]:
    """Shares of the i-th point of the grid; the last parameter changes first."""
    low, high, neutral = threat.bounds
    shares = []
    for axis in reversed(range(len(grid))):
        count = grid[axis]
        middle = (neutral[axis] - low[axis]) / max(high[axis] - low[axis], 1e-30)
        shares.append(i % count / (count - 1) if count > 1 else jnp.float32(middle))
        i = i // count
    return jnp.stack(shares[::-1])


def judge(threat: TransformThreat, loss: str | Loss, predictor: LogitsFn, problem: Problem, point: Point) -> Found:
    """What the network makes of points."""
    logits = predictor(jax.vmap(threat.apply)(point, problem.images))
    return Found(point, succeeded(logits, problem), attack_loss(as_loss(loss), logits, problem))


def better(found: Found, best: Found) -> Found:
    """Per example, the worse for the network of two: a success before a failure, then the higher loss."""
    take = (found.success & ~best.success) | ((found.success == best.success) & (found.loss > best.loss))
    return where_examples(take, found, best)


def result_of(
    threat: TransformThreat,
    problem: Problem,
    best: Found,
    *,
    queries: Array,
    gradients: Array,
    zero_gradient: Array,
    nan_gradient: Array,
) -> ParameterResult:
    """The worst points as a result."""
    images = jax.vmap(threat.apply)(best.point, problem.images)
    norm = jax.vmap(threat.norm)(best.point, problem.images)
    return ParameterResult(
        images, best.success, norm, best.loss, queries, gradients, zero_gradient, nan_gradient, best.point
    )
