"""What attacks increase: functions of logits ``[b, k]`` and labels, one value per example."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.attacks.problem import Problem
from robust_jax.core.checks import check_choice
from robust_jax.types import Labels

Logits = Float[Array, "b k"]
Classes = Int[Array, "b"]
Loss = Callable[[Logits, Labels], Float[Array, "b"]]


def cross_entropy(logits: Logits, labels: Labels) -> Float[Array, "b"]:
    r""":math:`-\log \mathrm{softmax}(z)_y = \log(1 + \exp(\log \sum_{i \ne y} e^{z_i} - z_y))`, in nats.

    Written so, its derivative by :math:`z_y` is the sum of the other probabilities. That of log-softmax is the
    probability of y less one: noise, where the network is sure to as many digits as there are, and so is then the
    direction of an attack.

    Soft labels p add :math:`\sum_k p_k (z_y - z_k)` to the loss of their most probable class y, so that one-hot labels
    give the same bits as classes.

    Args:
        logits: ``[b, k]``.
        labels: classes ``int[b]``, or probabilities ``float[b, k]``, each row of sum 1.
    """
    if labels.ndim == 2:
        top = jnp.argmax(labels, axis=-1)
        below = _of_class(logits, top)[:, None] - logits
        return cross_entropy(logits, top) + jnp.sum(jnp.where(labels > 0, labels * below, 0), axis=-1)
    others = jax.nn.logsumexp(_without(logits, labels), axis=-1)
    return jax.nn.softplus(others - _of_class(logits, labels))


def margin(logits: Logits, labels: Classes) -> Float[Array, "b"]:
    r""":math:`\max_{i \ne y} z_i - z_y`; positive where the example is misclassified (Carlini & Wagner, 2017).

    Raises:
        ValueError: if labels are probabilities.
    """
    if labels.ndim == 2:
        raise ValueError(f"Expected classes, got soft labels of shape {labels.shape}; use loss='cross_entropy'.")
    return jnp.max(_without(logits, labels), axis=-1) - _of_class(logits, labels)


def dlr(logits: Logits, labels: Classes) -> Float[Array, "b"]:
    r"""Difference of logits ratio, invariant to shifts and scales of the logits.

    .. math:: -\frac{z_y - \max_{i \ne y} z_i}{z_{\pi_1} - z_{\pi_3} + 10^{-12}}

    with :math:`z_{\pi_1} \ge z_{\pi_2} \ge \ldots` the logits in order.

    Raises:
        ValueError: if there are fewer than 3 classes, or labels are probabilities.

    References:
        Croce & Hein, AutoAttack (arXiv 2003.01690), equation 6.
    """
    _check_classes(logits, 3, "dlr")
    ordered = jax.lax.top_k(logits, 3)[0]
    return margin(logits, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def targeted_dlr(logits: Logits, labels: Classes, targets: Classes) -> Float[Array, "b"]:
    r"""As :func:`dlr`, towards a target class t.

    .. math:: -\frac{z_y - z_t}{z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2 + 10^{-12}}

    Raises:
        ValueError: if there are fewer than 4 classes.

    References:
        Croce & Hein, AutoAttack (arXiv 2003.01690), equation 7.
    """
    _check_classes(logits, 4, "targeted_dlr")
    ordered = jax.lax.top_k(logits, 4)[0]
    scale = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + 1e-12
    return difference(logits, labels, targets) / scale


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}
"""By name."""


def difference(logits: Logits, labels: Classes, targets: Classes) -> Float[Array, "b"]:
    r""":math:`z_t - z_y`, of a target class t."""
    return _of_class(logits, targets) - _of_class(logits, labels)


TARGETED_LOSSES = {"targeted_dlr": targeted_dlr, "difference": difference}
"""Of a label and a target, by name."""


def as_loss(loss: str | Loss) -> Loss:
    """The loss of a name; a function stays what it is.

    Raises:
        ValueError: if the name is unknown; the nearest is named.
    """
    if isinstance(loss, str):
        check_choice("loss", loss, LOSSES)
        return LOSSES[loss]
    return loss


def attack_loss(loss: Loss, logits: Logits, problem: Problem) -> Float[Array, "b"]:
    """What an attack increases: the loss of the label, or of the target the negative."""
    if problem.targets is not None:
        return -loss(logits, problem.targets)
    return loss(logits, problem.labels if problem.label_probs is None else problem.label_probs)


def _of_class(values: Logits, classes: Classes) -> Float[Array, "b"]:
    return jnp.take_along_axis(values, classes[:, None], axis=-1)[:, 0]


def _without(logits: Logits, labels: Classes) -> Logits:
    return jnp.where(jax.nn.one_hot(labels, logits.shape[-1], dtype=bool), -jnp.inf, logits)


def _check_classes(logits: Logits, least: int, name: str) -> None:
    if logits.shape[-1] < least:
        raise ValueError(f"Expected at least {least} classes for {name}, got logits of shape {logits.shape}.")
