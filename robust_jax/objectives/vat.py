"""Virtual adversarial training: predictions on unlabelled images that do not change in the worst direction."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from robust_jax.attacks import virtual_direction
from robust_jax.core.checks import check_choice, check_fraction, check_non_negative, check_positive
from robust_jax.core.keys import example_keys, named_key
from robust_jax.objectives.cross_entropy import classification_metrics, cross_entropy, masked_mean, smooth_labels
from robust_jax.objectives.inner import attacked_network
from robust_jax.objectives.trades import kl_divergence
from robust_jax.types import Batch, Context, Forward, Images, Loss, Objective, PRNGKey


@dataclasses.dataclass(frozen=True)
class Vat(Objective):
    r"""Cross-entropy on labelled images, plus the divergence under perturbations of unlabelled ones.

    .. math:: L(f(x), y) + \alpha\, \mathrm{KL}(\hat p(u) \,\Vert\, p(u + r)) + \gamma\, H(p(u))

    with r the virtual adversarial perturbation, of L2 norm eps, along which the prediction changes most, see
    :func:`~robust_jax.attacks.virtual_direction`, and :math:`\hat p` without gradient. All passes over unlabelled
    images have the same dropout. The running averages of batch norm move on the labelled batch alone.

    ``batch.extras["unlabelled"]`` is a batch of its own size; its labels are not read. The terms of unlabelled images
    are means over that batch, in the loss's penalty.

    Raises:
        ValueError: if a number is out of range or a name unknown; when run, without an unlabelled stream.

    References:
        Miyato, Maeda, Koyama & Ishii, "Virtual adversarial training" (arXiv 1704.03976).
    """

    streams: ClassVar[tuple[str, ...]] = ("unlabelled",)

    eps: float = 2.0
    """L2 norm of perturbations, for images in [0, 1]."""
    weight: float = 1.0
    """Weight of the divergence, α; 0 is cross-entropy."""
    entropy_weight: float = 0.0
    """Weight of the conditional entropy, γ; 1 in the paper's variant with entropy minimisation."""
    xi: float = 0.01
    """Length of the finite difference that the direction is found by, in the L2 norm."""
    num_iterations: int = 1
    """Iterations of the power method."""
    exact: bool = False
    """Use exact products with the Hessian in place of the finite difference."""
    label_smoothing: float = 0.0
    """Probability spread evenly over the classes in the cross-entropy."""
    statistics: Literal["batch", "running"] = "batch"
    """Batch-norm statistics of passes over unlabelled images: "batch", or "running", which is without dropout."""

    def __post_init__(self):
        for name in ("eps", "weight", "entropy_weight"):
            check_non_negative(name, getattr(self, name))
        check_positive("xi", self.xi)
        check_positive("num_iterations", self.num_iterations)
        check_fraction("label_smoothing", self.label_smoothing)
        check_choice("statistics", self.statistics, ("batch", "running"))

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        if "unlabelled" not in batch.extras:
            raise ValueError(
                "Expected an extra stream 'unlabelled' beside the labelled images, got "
                f"{sorted(batch.extras) or 'none'}; add it to the experiment's extra streams."
            )
        unlabelled: Batch = batch.extras["unlabelled"]
        output, model_state = forward(params, batch.image, key=key, train=True)
        targets = smooth_labels(batch.label, output.prediction.shape[-1], smoothing=self.label_smoothing)
        loss = cross_entropy(output.prediction, targets)

        stream_key = named_key(key, "unlabelled")
        network = attacked_network(stream_key, forward, self.statistics)
        logits = network(params, unlabelled.image).prediction
        perturbation = virtual_direction(
            example_keys(stream_key, unlabelled.id),
            Partial(partial(_logits, network), jax.lax.stop_gradient(params)),
            unlabelled.image,
            eps=self.eps,
            xi=self.xi,
            num_iterations=self.num_iterations,
            exact=self.exact,
        )
        moved = network(params, unlabelled.image + perturbation).prediction
        divergence = masked_mean(kl_divergence(jax.lax.stop_gradient(logits), moved), unlabelled.mask)
        entropy = masked_mean(_entropy(logits), unlabelled.mask)
        metrics = classification_metrics(output.prediction, targets, batch, output)
        metrics["cross_entropy"] = masked_mean(loss, batch.mask)
        metrics |= {"divergence": divergence, "entropy": entropy}
        return Loss(loss, self.weight * divergence + self.entropy_weight * entropy, model_state, state, metrics)


def _logits(network, params: PyTree, images: Images) -> Float[Array, "b k"]:
    return network(params, images).prediction


def _entropy(logits: Float[Array, "b k"]) -> Float[Array, "b"]:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
