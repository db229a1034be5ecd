"""The inner maximisation of adversarial training, one for all objectives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, PyTree

from robust_jax.attacks import PGD, Attack
from robust_jax.attacks.losses import Loss, as_loss
from robust_jax.core.checks import check_choice, check_fraction
from robust_jax.core.keys import example_keys, named_key
from robust_jax.predictors import as_predictor
from robust_jax.types import Batch, Context, Forward, Images, Labels, Objective, Output, PRNGKey

Statistics = Literal["running", "batch", "batch_moving"]
"""Batch-norm statistics of a pass: running averages; of the batch, without moving the averages; or moving them.

``running`` runs the network as in evaluation, so without dropout; the other two as in training.
"""
STATISTICS = ("running", "batch", "batch_moving")
Passes = Literal["separate", "joint"]
"""Clean and adversarial images in passes of their own, clean first, each of which moves the running averages; or in one
pass, whose batch statistics are those of the mixture."""
PASSES = ("separate", "joint")


class Perturbed(NamedTuple):
    """Adversarial images, which carry no gradient, and how the maximisation went.

    ``model_state`` is the network's state after the passes of the attack, None unless they moved it. The flags are
    those of :class:`~robust_jax.attacks.Maximum`, None where the attack does not tell.
    """

    images: Images
    model_state: PyTree | None
    zero_gradient: Bool[Array, "b"] | None = None
    nan_gradient: Bool[Array, "b"] | None = None


class _Radius(TypedDict, total=False):
    eps: float | Float[Array, ""]


def perturb(
    key: PRNGKey,
    forward: Forward,
    params: PyTree,
    batch: Batch,
    attack: Attack,
    loss_fn: Callable[[Output], Float[Array, "b"]] | None = None,
    *,
    statistics: Statistics = "running",
    scale: float | Float[Array, ""] = 1.0,
) -> Perturbed:
    """Find adversarial images in a training step.

    Parameters and images carry no gradient inside. The result of an example depends on its id, not on its place in the
    batch, but for batch statistics.

    Args:
        key: random key of the step.
        forward: the network.
        params: its parameters.
        batch: images and labels, classes or probabilities.
        attack: :class:`~robust_jax.attacks.PGD` or one of its kinds; without ``loss_fn``, any
            ``(keys, predictor, images, labels, eps=...) -> images``.
        loss_fn: output of the network to the loss per example that is maximised. By default the attack's own loss on
            the labels.
        statistics: batch-norm statistics in the passes of the attack. With ``batch_moving`` every gradient moves the
            running averages.
        scale: factor on the attack's radius, such as that of :func:`warm_up`; may be traced.

    Raises:
        ValueError: if a loss or ``batch_moving`` is given with an attack that is no PGD, or ``statistics`` is unknown.

    References:
        Pang et al., "Bag of tricks for adversarial training" (arXiv 2010.00467), on the statistics.
    """
    check_choice("statistics", statistics, STATISTICS)
    keys = example_keys(key, batch.id)
    settings: _Radius = {} if isinstance(scale, float) and scale == 1 else {"eps": scale * attack.eps}
    params = jax.lax.stop_gradient(params)
    moving = statistics == "batch_moving"
    if loss_fn is None and not moving:
        predictor = Partial(partial(_prediction, attacked_network(key, forward, statistics)), params)
        images = attack(keys, predictor, batch.image, batch.label, **settings)
        return Perturbed(jax.lax.stop_gradient(images), None)
    if not isinstance(attack, PGD):
        raise ValueError(f"Expected attacks.PGD or one of its kinds to maximise a loss of outputs, got {attack!r}.")
    if loss_fn is None:
        loss_fn = Partial(partial(_label_loss, as_loss(attack.loss)), batch.label)
    loss_fn = as_predictor(loss_fn)
    if not moving:
        network = attacked_network(key, forward, statistics)
        found = attack.maximise(keys, Partial(partial(_loss, network), loss_fn, params), batch.image, **settings)
        return Perturbed(found.images, None, found.zero_gradient, found.nan_gradient)
    # In evaluation the network returns the state that is closed over.
    _, state = forward(params, batch.image, train=False)
    moving_loss = Partial(
        partial(_moving_loss, partial(forward, key=named_key(key, "dropout"), train=True)), loss_fn, params
    )
    found = attack.maximise(keys, moving_loss, batch.image, state=state, **settings)
    return Perturbed(found.images, found.state, found.zero_gradient, found.nan_gradient)


def attacked_network(key: PRNGKey, forward: Forward, statistics: Statistics) -> Callable[[PyTree, Images], Output]:
    """The network as an attack sees it: ``(params, images) -> Output``.

    Args:
        key: random key of the step; dropout is the same in every pass.
        forward: the network.
        statistics: batch-norm statistics; the running averages do not move.
    """

    def network(params: PyTree, images: Images) -> Output:
        if statistics == "running":
            return forward(params, images, train=False)[0]
        return forward(params, images, key=named_key(key, "dropout"), train=True)[0]

    return network


def resumed(forward: Forward, model_state: PyTree | None) -> Forward:
    """The network with the state that an earlier pass returned; as it is where there is none."""
    return partial(forward, state=model_state) if jax.tree.leaves(model_state) else forward


def train_passes(
    key: PRNGKey, forward: Forward, params: PyTree, images: Images, perturbed: Perturbed, passes: Passes
) -> tuple[Output, Output, PyTree]:
    """Run the network in training on clean and adversarial images, with the same dropout in separate passes.

    Returns:
        The outputs of both, and the network's state after them.
    """
    forward = resumed(forward, perturbed.model_state)
    if passes == "separate":
        clean, model_state = forward(params, images, key=key, train=True)
        moved, model_state = resumed(forward, model_state)(params, perturbed.images, key=key, train=True)
        return clean, moved, model_state
    output, model_state = forward(params, jnp.concatenate([images, perturbed.images]), key=key, train=True)
    size = len(images)
    clean = output._replace(prediction=output.prediction[:size], features=output.features[:size])
    moved = output._replace(prediction=output.prediction[size:], features=output.features[size:])
    return clean, moved, model_state


def warm_up(progress: float | Float[Array, ""], fraction: float) -> float | Float[Array, ""]:
    r"""Factor on the radius that grows linearly over the first part of training: :math:`\min(1, p / f)`.

    Args:
        progress: fraction p of all steps taken so far.
        fraction: part f of training over which the radius grows; 0 for a constant radius.

    >>> [float(warm_up(progress, 0.5)) for progress in (0.0, 0.25, 0.75)]
    [0.0, 0.5, 1.0]
    """
    return 1.0 if fraction == 0 else jnp.minimum(progress / fraction, 1)


@dataclasses.dataclass(frozen=True)
class InnerMaximisation(Objective):
    """Base of the objectives that train on the images of an attack: its settings, and the passes over both images.

    Raises:
        ValueError: if a number is out of range or a name unknown.
    """

    attack: Attack
    """Attack that makes the adversarial images, such as :class:`~robust_jax.attacks.PGD`."""
    label_smoothing: float = dataclasses.field(default=0.0, kw_only=True)
    """Probability spread evenly over the classes in the cross-entropy; the attack does not see it."""
    statistics: Statistics = dataclasses.field(default="running", kw_only=True)
    """Batch-norm statistics in the passes of the attack."""
    passes: Passes = dataclasses.field(default="separate", kw_only=True)
    """Passes of clean and adversarial images through the network in training: "separate" or "joint"."""
    warm_up: float = dataclasses.field(default=0.0, kw_only=True)
    """Fraction of training over which the attack's radius grows from 0; 0 for a constant radius."""

    def __post_init__(self):
        check_fraction("label_smoothing", self.label_smoothing)
        check_fraction("warm_up", self.warm_up)
        check_choice("statistics", self.statistics, STATISTICS)
        check_choice("passes", self.passes, PASSES)

    def perturb(
        self,
        key: PRNGKey,
        forward: Forward,
        params: PyTree,
        batch: Batch,
        context: Context,
        loss_fn: Callable[[Output], Float[Array, "b"]] | None = None,
    ) -> Perturbed:
        """Return :func:`perturb` with these settings, at the radius of this step."""
        scale = warm_up(context.progress, self.warm_up)
        return perturb(key, forward, params, batch, self.attack, loss_fn, statistics=self.statistics, scale=scale)


def _prediction(network: Callable[[PyTree, Images], Output], params: PyTree, images: Images) -> Float[Array, "b k"]:
    return network(params, images).prediction


def _label_loss(loss: Loss, labels: Labels, output: Output) -> Float[Array, "b"]:
    return loss(output.prediction, labels)


def _loss(
    network: Callable[[PyTree, Images], Output], loss_fn: Partial, params: PyTree, images: Images
) -> Float[Array, "b"]:
    return loss_fn(network(params, images))


def _moving_loss(
    forward: Forward, loss_fn: Partial, params: PyTree, images: Images, state: PyTree
) -> tuple[Float[Array, "b"], PyTree]:
    output, state = resumed(forward, state)(params, images)
    return loss_fn(output), state
