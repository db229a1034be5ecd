"""Members of an ensemble for regression, each of which predicts a normal distribution, as one."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_mixture(
    means: Float[Array, "members b d"], variances: Float[Array, "members b d"]
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    r"""Mean and variance of the uniform mixture of normal distributions.

    .. math:: \mu_* = \frac{1}{M} \sum_m \mu_m, \quad
        \sigma_*^2 = \frac{1}{M} \sum_m \big(\sigma_m^2 + (\mu_m - \mu_*)^2\big)

    The first part of the variance is noise, the second what the members disagree on.

    References:
        Lakshminarayanan, Pritzel & Blundell (arXiv 1612.01474), section 2.4, which writes the second part as
        :math:`\mu_m^2 - \mu_*^2`; so it would lose digits where means are large.
    """
    mean = jnp.mean(means, axis=0)
    return mean, jnp.mean(variances + (means - mean[None]) ** 2, axis=0)
