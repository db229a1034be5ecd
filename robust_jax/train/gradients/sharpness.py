"""Gradients at weights that are perturbed against the descent: SAM and AWP."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from robust_jax.core.checks import check_fraction, check_non_negative
from robust_jax.train.gradients.base import Gradient, LossFn, mean_gradient
from robust_jax.types import Batch, Context, Loss, Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class Sharpness(Gradient):
    r"""Sharpness-aware minimisation: the gradient at the worst weights in a ball around the current ones.

    .. math:: \nabla L(w + v), \quad v = \rho\, \nabla L(w) / \lVert \nabla L(w) \rVert_2

    with the norm over all weights; one backward pass more than :class:`Mean`. The loss and the state are those at w.

    Raises:
        ValueError: if ``rho`` is negative.

    References:
        Foret, Kleiner, Mobahi & Neyshabur (arXiv 2010.01412), equation 2.
    """

    rho: float = 0.05
    """ρ, radius of the ball in the L2 norm of all weights; 0 is the plain gradient."""

    def __post_init__(self):
        check_non_negative("rho", self.rho)

    def __call__(
        self, key: PRNGKey, loss_fn: LossFn, params: PyTree, batch: Batch, context: Context
    ) -> tuple[PyTree, Loss]:
        del key, context
        gradient, loss = mean_gradient(loss_fn, params, batch)
        norm = optax.tree.norm(gradient)
        scale = self.rho / jnp.where(norm > 0, norm, 1)
        worst = jax.tree.map(lambda weight, slope: weight + scale * slope, params, gradient)
        return mean_gradient(loss_fn, jax.lax.stop_gradient(worst), batch)[0], loss


@dataclasses.dataclass(frozen=True)
class WeightPerturbed(Gradient):
    r"""Adversarial weight perturbation: the gradient at weights moved uphill, relative to the norm of each tensor.

    .. math:: \nabla L(w + v), \quad v_t = \gamma\, \lVert w_t \rVert_2\, g_t / \lVert g_t \rVert_2,
        \quad g = \nabla L(w)

    for every tensor t of two dimensions or more; biases and norm scales are not perturbed. The loss and the state are
    those at w.

    Unlike in the published code, an objective that attacks does so again at :math:`w + v`, with the same keys; there
    the images of the first attack are used, and weight decay acts on :math:`w + v`.

    Raises:
        ValueError: if ``gamma`` is negative, or ``start`` is outside [0, 1].

    References:
        Wu, Xia & Wang (arXiv 2004.05884), section 4: γ = 0.01 with cross-entropy, 0.005 with TRADES.
    """

    gamma: float = 0.01
    """γ, norm of the perturbation over that of the tensor; 0 is the plain gradient."""
    start: float = 0.0
    """Fraction of training after which weights are perturbed."""

    def __post_init__(self):
        check_non_negative("gamma", self.gamma)
        check_fraction("start", self.start)

    def __call__(
        self, key: PRNGKey, loss_fn: LossFn, params: Params, batch: Batch, context: Context
    ) -> tuple[PyTree, Loss]:
        del key
        gradient, loss = mean_gradient(loss_fn, params, batch)
        gamma = jnp.where(context.progress >= self.start, self.gamma, 0.0)

        def perturbed(weight: Array, slope: Array) -> Array:
            if weight.ndim < 2:
                return weight
            norm = jnp.linalg.norm(slope.ravel())
            return weight + gamma * jnp.linalg.norm(weight.ravel()) * slope / jnp.where(norm > 0, norm, 1)

        worst = params._replace(network=jax.tree.map(perturbed, params.network, gradient.network))
        return mean_gradient(loss_fn, jax.lax.stop_gradient(worst), batch)[0], loss
