"""Regression by networks that predict their own noise."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_positive
from robust_jax.objectives.cross_entropy import masked_mean, plain_loss
from robust_jax.types import Batch, Context, Forward, Loss, Objective, PRNGKey


def mean_and_variance(
    outputs: Float[Array, "b 2d"], *, least_variance: float = 1e-6
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    r"""The normal distributions that a network's 2d outputs stand for: d means, and d variances as their softplus.

    .. math:: \mu = z_{1 \ldots d}, \quad \sigma^2 = \log(1 + e^{z_{d + 1 \ldots 2d}}) + \sigma_0^2

    Args:
        outputs: of a network with twice as many as there are targets.
        least_variance: σ₀², for numerical stability (Lakshminarayanan et al., section 2.2.1).

    Raises:
        ValueError: if their number is odd.
    """
    if outputs.shape[-1] % 2:
        raise ValueError(f"Expected outputs for means and as many variances, got shape {outputs.shape}.")
    mean, spread = jnp.split(outputs, 2, axis=-1)
    return mean, jax.nn.softplus(spread) + least_variance


def gaussian_nll(
    mean: Float[Array, "b d"], variance: Float[Array, "b d"], targets: Float[Array, "b d"]
) -> Float[Array, "b"]:
    r"""In nats, :math:`\frac{1}{2} \sum_j \log 2\pi\sigma_j^2 + (y_j - \mu_j)^2 / \sigma_j^2`."""
    return 0.5 * jnp.sum(jnp.log(2 * math.pi * variance) + (targets - mean) ** 2 / variance, axis=-1)


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

    least_variance: float = 1e-6
    """Added to every variance."""

    def __post_init__(self):
        check_positive("least_variance", self.least_variance)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        output, model_state = forward(params, batch.image, key=key, train=True)
        mean, variance = mean_and_variance(output.prediction, least_variance=self.least_variance)
        if mean.shape != batch.label.shape:
            raise ValueError(
                f"Expected outputs twice as many as targets, got outputs {output.prediction.shape} and targets "
                f"{batch.label.shape}."
            )
        metrics = {
            "squared_error": masked_mean(jnp.sum((batch.label - mean) ** 2, axis=-1), batch.mask),
            "variance": masked_mean(jnp.mean(variance, axis=-1), batch.mask),
        }
        return plain_loss(gaussian_nll(mean, variance, batch.label), model_state, state, metrics)
