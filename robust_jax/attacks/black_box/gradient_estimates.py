"""Ascent along gradients that are estimated from differences of the loss: what SPSA and NES share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.evaluations import batches_at_once, redraw, sum_over
from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.losses import Loss, as_loss, attack_loss
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.threats import THREATS
from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.types import Image, Images, LogitsFn, PRNGKey, PRNGKeys

NORMS = ("Linf", "L2")


class Ascent(NamedTuple):
    """Where the ascent is, what it remembers of gradients, and the best images, with their success and loss."""

    images: Images
    memory: PyTree
    best: tuple[Images, Bool[Array, "b"], Float[Array, "b"]]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]


@dataclasses.dataclass(frozen=True)
class EstimatedGradients(Attack):
    """Ascent on the loss by gradients estimated from its values; see :func:`estimate_gradient`.

    It starts at the image. An example is left alone once an iterate is misclassified, as are images that were to
    begin with. One step takes ``samples`` + 1 evaluations of the network, and no gradient.

    A kind of its own overrides the draw of directions and the step.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.
    """

    norm: str = "Linf"
    """Linf or L2."""
    steps: int = 100
    """Gradients estimated and followed."""
    samples: int = 128
    """Evaluations of the network for a gradient, in pairs; an even number."""
    width: float = 0.01
    """Distance of the points evaluated, along the direction drawn."""
    loss: str | Loss = "margin"
    """margin, cross_entropy, dlr, or a function of logits and classes that gives a value per example."""

    check_every: ClassVar[int] = 1

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_choice("norm", self.norm, NORMS)
        as_loss(self.loss)
        for name in ("steps", "samples", "width"):
            check_positive(name, getattr(self, name))
        if self.samples % 2:
            raise ValueError(f"Expected an even number of samples, for pairs, got samples={self.samples!r}.")

    @property
    def num_steps(self) -> int:
        return self.steps

    def init(self, predictor: LogitsFn, problem: Problem) -> Ascent:
        success, loss = self._judge(predictor, problem, problem.images)
        none = jnp.zeros_like(success)
        return Ascent(problem.images, self._remember(problem), (problem.images, success, loss), none, none)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: Ascent) -> Ascent:
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, i)
        value, gradient = estimate_gradient(
            keys,
            lambda number, images: self._judge(redraw(predictor, number), problem, images)[1],
            self._direction,
            state.images,
            width=self.width,
            samples=self.samples,
        )
        gradient, not_finite = finite_gradient(gradient)
        change, memory = self._change(problem, state.memory, value, gradient)
        project = jax.vmap(THREATS[self.norm].project)
        delta = project(state.images + change - problem.images, problem.images, problem.eps)
        images = problem.images + delta
        success, loss = self._judge(redraw(predictor, self.samples), problem, images)
        best = where_examples(success | (loss > state.best[2]), (images, success, loss), state.best)
        zero = state.zero_gradient | zero_throughout(gradient)
        return Ascent(images, memory, best, zero, state.nan_gradient | not_finite)

    def result(self, predictor: LogitsFn, problem: Problem, state: Ascent, steps: Int[Array, "b"]) -> AttackResult:
        images, success, loss = state.best
        norm = jax.vmap(THREATS[self.norm].norm)(images - problem.images)
        queries = steps * (self.samples + 1) + 1
        none = jnp.zeros_like(queries)
        return AttackResult(images, success, norm, loss, queries, none, state.zero_gradient, state.nan_gradient)

    def finished(self, problem: Problem, state: Ascent) -> Bool[Array, "b"]:
        return state.best[1]

    def _judge(self, predictor: LogitsFn, problem: Problem, images: Images) -> tuple[Bool[Array, "b"], Array]:
        logits = predictor(images)
        return succeeded(logits, problem), attack_loss(as_loss(self.loss), logits, problem)

    def _direction(self, key: PRNGKey, shape: tuple[int, ...]) -> Image:
        """A random direction, of identity covariance."""
        raise NotImplementedError

    def _remember(self, problem: Problem) -> PyTree:
        """What is remembered of gradients, before there are any."""
        raise NotImplementedError

    def _change(
        self, problem: Problem, memory: PyTree, value: Float[Array, "b"], gradient: Images
    ) -> tuple[Images, PyTree]:
        """The step to take, to be projected, and what is remembered then."""
        raise NotImplementedError


def estimate_gradient(
    keys: PRNGKeys,
    loss_fn: Callable[[Int[Array, ""], Images], Float[Array, "b"]],
    direction_fn: Callable[[PRNGKey, tuple[int, ...]], Image],
    images: Images,
    *,
    width: float,
    samples: int,
) -> tuple[Float[Array, "b"], Images]:
    r"""The loss about the images, and its gradient, from central differences along random directions.

    .. math:: \hat g = \frac{1}{n} \sum_{i=1}^{n} \frac{L(x + \sigma v_i) - L(x - \sigma v_i)}{2 \sigma}\, v_i

    of n = ``samples`` / 2 directions; unbiased for a linear loss if they have identity covariance. Points are clipped
    to the box, as a classifier takes no others; the published code of SPSA and NES evaluates them outside. At an entry
    on its border the estimate is half of what it would be.

    Args:
        keys: one for each example.
        loss_fn: the number of an evaluation and images to losses.
        direction_fn: key and shape to a direction, for one image.
        images: where to estimate.
        width: σ.
        samples: evaluations, two for each direction.

    Returns:
        The mean of the losses evaluated, and the gradient, per example.
    """
    pairs = samples // 2

    def evaluate_pair(number: Int[Array, ""]) -> tuple[Float[Array, "b"], Images]:
        directions = jax.vmap(lambda key: direction_fn(jax.random.fold_in(key, number), images.shape[1:]))(keys)
        ahead = loss_fn(2 * number, jnp.clip(images + width * directions, 0, 1))
        behind = loss_fn(2 * number + 1, jnp.clip(images - width * directions, 0, 1))
        slope = (ahead - behind) / (2 * width)
        return (ahead + behind) / 2, slope.reshape(-1, 1, 1, 1) * directions

    total = sum_over(evaluate_pair, pairs, at_once=batches_at_once(len(images), pairs))
    return jax.tree.map(lambda leaf: leaf / pairs, total)
