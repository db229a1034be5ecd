"""Normal distributions as networks predict them: d means, then d variances through a softplus."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LEAST_VARIANCE = 1e-6
"""Default σ₀² (Lakshminarayanan et al., arXiv 1612.01474, section 2.2.1)."""


def mean_and_variance(
    outputs: Float[Array, "b 2d"], *, least_variance: float = LEAST_VARIANCE
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    r"""Split a network's 2d outputs into d means and d variances.

    .. math:: \mu = z_{1 \ldots d}, \quad \sigma^2 = \log(1 + e^{z_{d + 1 \ldots 2d}}) + \sigma_0^2

    Args:
        outputs: outputs of a network with twice as many as there are targets.
        least_variance: σ₀², for numerical stability.

    Raises:
        ValueError: if the number of outputs is odd.

    References:
        Nix & Weigend (1994); Lakshminarayanan, Pritzel & Blundell (arXiv 1612.01474), section 2.2.1.
    """
    if outputs.shape[-1] % 2:
        raise ValueError(f"Expected outputs for means and as many variances, got shape {outputs.shape}.")
    mean, spread = jnp.split(outputs, 2, axis=-1)
    return mean, jax.nn.softplus(spread) + least_variance


def mean_and_variance_outputs(
    mean: Float[Array, "b d"], variance: Float[Array, "b d"], *, least_variance: float = LEAST_VARIANCE
) -> Float[Array, "b 2d"]:
    """Invert :func:`mean_and_variance`; variances must exceed ``least_variance``."""
    # log(exp(v) - 1), which overflows for no v.
    excess = jnp.maximum(variance - least_variance, jnp.finfo(variance.dtype).tiny)
    return jnp.concatenate([mean, excess + jnp.log(-jnp.expm1(-excess))], axis=-1)


def gaussian_nll(
    mean: Float[Array, "b d"], variance: Float[Array, "b d"], targets: Float[Array, "b d"]
) -> Float[Array, "b"]:
    r"""Compute :math:`\frac{1}{2} \sum_j \log 2\pi\sigma_j^2 + (y_j - \mu_j)^2 / \sigma_j^2`, in nats."""
    return 0.5 * jnp.sum(jnp.log(2 * math.pi * variance) + (targets - mean) ** 2 / variance, axis=-1)


def gaussian_mixture_nll(
    means: Float[Array, "members b d"], variances: Float[Array, "members b d"], targets: Float[Array, "b d"]
) -> Float[Array, "b"]:
    r"""Compute the NLL of a uniform mixture of normal distributions, in nats.

    .. math:: -\log \frac{1}{M} \sum_m \mathcal N(y; \mu_m, \sigma_m^2)

    It differs from the NLL of the one normal distribution with the mixture's mean and variance.
    """
    nlls = jax.vmap(gaussian_nll, in_axes=(0, 0, None))(means, variances, targets)
    return math.log(len(means)) - jax.nn.logsumexp(-nlls, axis=0)
