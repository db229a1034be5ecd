"""Regression by networks that predict their own noise."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_fraction, check_non_negative, check_positive
from robust_jax.mathematics.gaussian import LEAST_VARIANCE, gaussian_nll, mean_and_variance
from robust_jax.objectives.cross_entropy import masked_mean, plain_loss
from robust_jax.types import Batch, Context, Forward, Loss, Objective, PRNGKey


@dataclasses.dataclass(frozen=True)
class GaussianNll(Objective):
    """Mean negative log-likelihood of real targets under normal distributions, whose mean and variance are predicted.

    The network has twice as many outputs as there are targets (:func:`mean_and_variance`); labels are the targets,
    f32[b, d].

    Raises:
        ValueError: if ``least_variance`` is not positive; when run, if outputs and targets do not fit.

    References:
        Nix & Weigend (1994); Lakshminarayanan, Pritzel & Blundell (arXiv 1612.01474), equation 1.
    """

    least_variance: float = LEAST_VARIANCE
    """Added to every variance."""

    def __post_init__(self):
        check_positive("least_variance", self.least_variance)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        output, model_state = forward(params, batch.image, key=key, train=True)
        losses, metrics = _losses(output.prediction, batch, self.least_variance)
        return plain_loss(losses, model_state, state, metrics)


@dataclasses.dataclass(frozen=True)
class AdversarialGaussianNll(Objective):
    r"""Gaussian NLL on the inputs and on their FGSM perturbations.

    .. math:: (1 - w)\, L(x, y) + w\, L(x', y), \quad x' = x + \epsilon\, r \odot \mathrm{sign}(\nabla_x L(x, y))

    L is the loss of :class:`GaussianNll` and r the range of each input, max - min, over the batches so far: the
    objective's state, exact from the second epoch on. The perturbation is computed in evaluation mode, and no
    gradient passes through it; x' is not clipped. Clean and adversarial inputs go through the network as one batch.

    Raises:
        ValueError: if a number is out of range; when run, if outputs and targets do not fit.

    References:
        Lakshminarayanan, Pritzel & Blundell (arXiv 1612.01474), section 2.3 and algorithm 1.
    """

    eps: float = 0.01
    """Size of the step, as a fraction of each input's range."""
    weight: float = 0.5
    """w: weight of the adversarial inputs in the loss; 0 is plain Gaussian NLL."""
    least_variance: float = LEAST_VARIANCE
    """Added to every variance."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_fraction("weight", self.weight)
        check_positive("least_variance", self.least_variance)

    def init(self, key: PRNGKey, params: PyTree, example: Batch) -> tuple[PyTree, PyTree]:
        """Return no parameters, and an empty range of each input as (lowest, highest)."""
        del key, params
        shape = example.image.shape[1:]
        return (), (jnp.full(shape, jnp.inf), jnp.full(shape, -jnp.inf))

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        kept = batch.mask[:, None, None, None]
        low = jnp.minimum(state[0], jnp.min(jnp.where(kept, batch.image, jnp.inf), axis=0))
        high = jnp.maximum(state[1], jnp.max(jnp.where(kept, batch.image, -jnp.inf), axis=0))
        fixed = jax.lax.stop_gradient(params)

        def total(images: Array) -> Float[Array, ""]:
            output = forward(fixed, images, train=False)[0]
            return jnp.sum(_losses(output.prediction, batch, self.least_variance)[0])

        step = self.eps * (high - low)[None] * jnp.sign(jax.grad(total)(batch.image))
        # Nothing but padding so far leaves the range empty.
        adversarial = batch.image + jnp.where(jnp.isfinite(step), step, 0)
        output, model_state = forward(params, jnp.concatenate([batch.image, adversarial]), key=key, train=True)
        clean, perturbed = jnp.split(output.prediction, 2)
        clean_losses, metrics = _losses(clean, batch, self.least_variance)
        losses = _losses(perturbed, batch, self.least_variance)[0]
        metrics["nll"] = masked_mean(clean_losses, batch.mask)
        metrics["adversarial_nll"] = masked_mean(losses, batch.mask)
        return plain_loss((1 - self.weight) * clean_losses + self.weight * losses, model_state, (low, high), metrics)


def _losses(
    prediction: Float[Array, "b 2d"], batch: Batch, least_variance: float
) -> tuple[Float[Array, "b"], dict[str, Float[Array, ""]]]:
    """NLL of each example, and the metrics that are logged."""
    mean, variance = mean_and_variance(prediction, least_variance=least_variance)
    if mean.shape != batch.label.shape:
        raise ValueError(
            f"Expected outputs twice as many as targets, got outputs {prediction.shape} and targets "
            f"{batch.label.shape}."
        )
    metrics = {
        "squared_error": masked_mean(jnp.sum((batch.label - mean) ** 2, axis=-1), batch.mask),
        "variance": masked_mean(jnp.mean(variance, axis=-1), batch.mask),
    }
    return gaussian_nll(mean, variance, batch.label), metrics
