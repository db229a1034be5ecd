"""Projected gradient ascent on any loss of the images: the engine of gradient attacks and of adversarial training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, PyTree

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.finite import finite_gradient, zero_throughout
from robust_jax.attacks.starts import Gaussian, Start, check_start, start_perturbations
from robust_jax.attacks.threats import Threat, as_threat
from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.core.loops import iterate
from robust_jax.predictors import as_predictor
from robust_jax.types import Images, PRNGKeys

LossFn = Callable[..., Float[Array, "b"] | tuple[Float[Array, "b"], PyTree]]
"""Images to a loss per example, or to that and an auxiliary value, such as the logits; or images and state to a loss
per example and the next state."""

REACH = 2.5
"""Sum of the step sizes over eps by default, enough to cross the ball and turn (Madry et al., arXiv 1706.06083)."""


class Maximum(NamedTuple):
    """The maximiser that was found, and the loss function's values there.

    ``zero_gradient`` says that a gradient was zero throughout at some step, ``nan_gradient`` that one had an entry that
    was NaN or infinite; such entries count as zero. ``state`` is the one that the loss function returned at the last
    step, None without one.
    """

    images: Images
    loss: Float[Array, "b"]
    aux: PyTree
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]
    state: PyTree


class Point(NamedTuple):
    """Perturbations, and the state of what moves them."""

    delta: Images
    momentum: Images
    optimiser: PyTree


@dataclasses.dataclass(frozen=True)
class ProjectedAscent:
    """One step of projected gradient ascent, shared by all attacks that take such steps."""

    threat: Threat
    """Set of perturbations."""
    momentum: float = 0.0
    """Decay of accumulated gradients."""
    nesterov: bool = False
    """Evaluate the gradient at the point ahead along the momentum."""
    optimiser: optax.GradientTransformation | None = None
    """Optimiser of gradient descent in place of steepest steps; one state for each example."""

    def begin(self, delta: Images) -> Point:
        """The point at a perturbation, with no momentum."""
        optimiser = () if self.optimiser is None else jax.vmap(self.optimiser.init)(delta)
        return Point(delta, jnp.zeros_like(delta), optimiser)

    def ahead(self, point: Point, length: Float[Array, "b 1 1 1"]) -> Images:
        """The perturbation at which the gradient is evaluated."""
        return point.delta + length * self.momentum * point.momentum if self.nesterov else point.delta

    def move(
        self, point: Point, gradient: Images, length: Float[Array, "b 1 1 1"], images: Images, eps: Float[Array, "b"]
    ) -> Point:
        """The point after a step of this length along the gradient, projected on the threat."""
        _, momentum, optimiser = point
        if self.momentum > 0:
            size = jnp.sum(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True)
            momentum = self.momentum * momentum + gradient / jnp.where(size > 0, size, 1)
            gradient = momentum
        if self.optimiser is None:
            change = length * jax.vmap(self.threat.steepest)(gradient)
        else:
            change, optimiser = jax.vmap(self.optimiser.update)(-gradient, optimiser, point.delta)
        delta = jax.vmap(self.threat.project)(optax.tree.add(point.delta, change), images, eps)
        return Point(delta, momentum, optimiser)


def maximise(
    keys: PRNGKeys,
    loss_fn: LossFn,
    images: Images,
    eps: float | Float[Array, ""] | Float[Array, "b"],
    threat: str | Threat = "Linf",
    *,
    steps: int,
    step_size: float | Float[Array, ""] | Float[Array, "b"] | None = None,
    relative_step: float | None = None,
    start: Start | Images = "uniform",
    momentum: float = 0.0,
    nesterov: bool = False,
    optimiser: optax.GradientTransformation | None = None,
    keep: Literal["last", "best"] = "last",
    state: PyTree = None,
) -> Maximum:
    r"""Maximise a loss over perturbations of each image by projected gradient ascent.

    .. math:: \delta \leftarrow \Pi(\delta + \eta\, d(\nabla_\delta L(x + \delta)))

    with d the steepest direction in the threat and Π the projection on it. Examples do not interact but through
    ``loss_fn``. It works under ``jit``, ``vmap`` and within a training step: only gradients with respect to images are
    computed, and the result carries no gradient. Within ``jit``, the loss at the result is computed only if it is
    used or ``keep`` is "best".

    Args:
        keys: one for each example; random starts use them.
        loss_fn: images ``[b, h, w, c]`` to a loss ``[b]``, or to that and an auxiliary pytree, which with
            ``keep="best"`` has one row per example. A ``Partial`` of a function over its weights is compiled once for
            all weights; a closure should close over weights that carry no gradient.
        images: centres of the balls; in [0, 1] for the threats of norms.
        eps: radius, one or one per example; may be traced.
        threat: name of a norm or a threat.
        steps: number of gradient steps.
        step_size: length of a step in the threat's norm; may be traced.
        relative_step: length of a step over eps, used without ``step_size``. By default 2.5 / steps.
        start: "uniform", "zero", a :class:`Gaussian`, or perturbations ``[b, h, w, c]``, such as those of the last
            minibatch.
        momentum: decay of accumulated gradients, each divided by its L1 norm.
        nesterov: evaluate gradients at the point ahead along the momentum.
        optimiser: optimiser of gradient descent, such as ``optax.adam``, in place of steepest steps.
        keep: return the last iterate, or the one of highest loss.
        state: what every step passes to the next, such as running averages of batch norm. With it, ``loss_fn`` takes
            images and state, and returns a loss ``[b]`` and the next state.

    Returns:
        The images, the loss and auxiliary value at them, and what was wrong with gradients.

    Raises:
        ValueError: if a number is out of range, a name is unknown, or the loss is not ``[b]``.

    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> found = maximise(keys, lambda x: x.sum((1, 2, 3)), jnp.full((2, 4, 4, 1), 0.5), 0.1, steps=3)
    >>> float(found.images.min())
    0.6000000238418579
    """
    check_positive("steps", steps)
    check_non_negative("momentum", momentum)
    check_choice("keep", keep, ("last", "best"))
    for name, value in (("step_size", step_size), ("relative_step", relative_step), ("eps", eps)):
        if isinstance(value, int | float):
            (check_non_negative if name == "eps" else check_positive)(name, value)
    threat, size = as_threat(threat), len(images)
    function = Partial(_evaluate, jax.lax.stop_gradient(as_predictor(loss_fn)))
    images = jnp.asarray(images, jnp.promote_types(images.dtype, jnp.float32))
    images, eps, state = jax.lax.stop_gradient((images, jnp.asarray(eps, images.dtype), state))
    eps = jnp.broadcast_to(eps, (size,))
    loss, aux, _ = jax.eval_shape(function, images, state)
    if loss.shape != (size,):
        raise ValueError(f"Expected a loss of shape [{size}], one for each image, got shape {loss.shape}.")
    relative = REACH / steps if relative_step is None else relative_step
    length = relative * eps if step_size is None else jnp.broadcast_to(jnp.asarray(step_size, images.dtype), (size,))
    if isinstance(start, str | Gaussian):
        check_start(start)
        delta = start_perturbations(keys, start, threat, images, eps, feasible=keep == "best")
    else:
        delta = jax.lax.stop_gradient(jnp.broadcast_to(start, images.shape))

    ascent = ProjectedAscent(threat, momentum, nesterov, optimiser)
    best = None
    if keep == "best":
        # A loss of any value replaces NaN.
        aux = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), aux)
        best = (images, jnp.full(size, jnp.nan, loss.dtype), aux)
    none = jnp.zeros(size, bool)
    carry = (ascent.begin(delta), best, none, none, state)
    operands = (function, images, eps, length.reshape(-1, 1, 1, 1))
    point, best, zero, nan, state = iterate(_step, ascent, range(steps), carry, *operands)
    images, loss, aux = _final(function, images + point.delta, best, state)
    return Maximum(images, loss, aux, zero, nan, jax.lax.stop_gradient(state))


def _step(
    ascent: ProjectedAscent,
    i: Int[Array, ""],
    carry: PyTree,
    function: Partial,
    images: Images,
    eps: Float[Array, "b"],
    length: Float[Array, "b 1 1 1"],
) -> PyTree:
    del i
    point, best, zero, nan, state = carry
    delta = ascent.ahead(point, length)

    def total(delta: Images) -> tuple[Float[Array, ""], tuple[Float[Array, "b"], PyTree, PyTree]]:
        loss, aux, after = function(images + delta, state)
        return jnp.sum(loss), (loss, aux, after)

    gradient, (loss, aux, state) = jax.grad(total, has_aux=True)(delta)
    gradient, not_finite = finite_gradient(gradient)
    # With Nesterov's momentum the loss is not of the iterate.
    if best is not None and not ascent.nesterov:
        best = _better(best, (images + delta, loss, aux))
    moved = ascent.move(point, gradient, length, images, eps)
    return moved, best, zero | zero_throughout(gradient), nan | not_finite, state


@jax.jit
def _final(function: Partial, images: Images, best: PyTree, state: PyTree) -> tuple[Images, Float[Array, "b"], PyTree]:
    last = (images, *function(images, state)[:2])
    return jax.lax.stop_gradient(last if best is None else _better(best, last))


def _better(best: PyTree, found: PyTree) -> PyTree:
    better = (found[1] > best[1]) | jnp.isnan(best[1])
    return where_examples(better, found, best)


def _evaluate(loss_fn: LossFn, images: Images, state: PyTree) -> tuple[Float[Array, "b"], PyTree, PyTree]:
    """The loss in float32 at least, the auxiliary value, () where there is none, and the next state."""
    aux = ()
    if state is not None:
        loss, state = loss_fn(images, state)
    else:
        returned = loss_fn(images)
        loss, aux = returned if isinstance(returned, tuple) else (returned, ())
    return loss.astype(jnp.promote_types(loss.dtype, jnp.float32)), aux, state
