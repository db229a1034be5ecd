"""Stochastic variational inference: independent normal distributions of weights, fitted to the posterior."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int, PyTree

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.loops import iterate
from robust_jax.core.mesh import on_one_cpu, uncommitted
from robust_jax.core.shapes import image_shape
from robust_jax.models import predictor
from robust_jax.posteriors.blocks import Block, Matrix, block_values, chosen_blocks, network_blocks, with_values
from robust_jax.posteriors.likelihoods import LIKELIHOODS, Likelihood
from robust_jax.posteriors.priors import FittedPrior, GaussianPrior, Prior
from robust_jax.posteriors.target import Target, examples_of, target_of
from robust_jax.predictors import Ensemble
from robust_jax.types import Batch, Model, PRNGKey


class Normal(NamedTuple):
    """Independent normal distributions of weights, by layer."""

    means: dict[str, Matrix]
    """μ."""
    log_scales: dict[str, Matrix]
    """log σ."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Svi:
    r"""Mean-field variational inference (Blundell et al., 2015), from trained weights on: of all, or of the last layer.

    .. math:: q(u) = \prod_i \mathcal N(u_i; \mu_i, \sigma_i^2), \quad
        \max_{\mu, \sigma} \; \mathbb E_q\Big[\frac{N}{B} \sum_{b} \log p(y_b \mid x_b, u) + \log p(u) - \log q(u)\Big]

    by Adam, the learning rate falling to 0 by a cosine. u are the weights in units of the prior's scale, see
    :mod:`~robust_jax.posteriors.priors`. A step takes B examples, drawn with replacement, and ``num_draws`` draws of
    the weights, which all examples share. Gradients are of paths alone ("sticking the landing"): log q is not
    differentiated in μ and σ, which is unbiased and exact where q is the posterior.

    The shift benchmark draws weights for each example by flipout, which lowers the variance of gradients and changes
    nothing else. Batch norms stay in evaluation mode with the statistics they have.

    Raises:
        ValueError: if a number is not positive, or a name unknown.

    References:
        Blundell et al. (arXiv 1505.05424), equation 2; Roeder, Wu & Duvenaud (arXiv 1703.09194) for the gradients;
        Ovadia et al. (arXiv 1906.02530), where it is SVI, and of the last layer LL-SVI.
    """

    weights: Literal["all", "last_layer"] | tuple[str, ...] = "all"
    """Which have a distribution: all, the layer called ``head``, or layers by name. The others stay as they are."""
    prior: Prior = GaussianPrior()
    """Of the weights."""
    steps: int = 2000
    """Of Adam."""
    learning_rate: float = 1e-3
    """At first, in units of the prior's scale."""
    batch_size: int = 128
    """B."""
    num_draws: int = 1
    """Draws of the weights per step."""
    initial_scale: float = 0.01
    """σ at first."""
    num_samples: int = 30
    """Networks drawn, whose probabilities are averaged."""
    likelihood: Likelihood = "categorical"
    """Of the labels: classes, or real numbers with normal noise."""
    sigma: float = 1.0
    """Standard deviation of that noise."""

    def __post_init__(self):
        if isinstance(self.weights, str):
            check_choice("weights", self.weights, ("all", "last_layer"))
        for name in ("steps", "learning_rate", "batch_size", "num_draws", "initial_scale", "num_samples", "sigma"):
            check_positive(name, getattr(self, name))
        check_choice("likelihood", self.likelihood, LIKELIHOODS)

    def fit(self, key: PRNGKey, model: Model, variables: PyTree, batches: Iterable[Batch]) -> SviPosterior:
        """Finds the distribution.

        Args:
            key: of the examples and draws of each step.
            model: a network with ``apply(variables, images, train=False) -> Output``.
            variables: trained, where the means begin; ``{"params": …, …}``.
            batches: the training data, as they are; all of them are held in memory.

        Raises:
            ValueError: if there are no data or a layer is unknown.
            FloatingPointError: if the optimisation diverges.
        """
        examples = examples_of(batches)
        variables = on_one_cpu(variables)
        blocks = chosen_blocks(network_blocks(model, variables, image_shape(examples.image)), self.weights)
        target = target_of(model, variables, self.prior, examples, self.likelihood, self.sigma)
        unit, fitted = _start(self, blocks, target.prior, variables["params"])
        fitted = iterate(_step, (self, blocks), range(self.steps), fitted, target, unit, key)
        if not bool(jnp.isfinite(fitted.elbo).all()):
            raise FloatingPointError(
                "The evidence lower bound is not finite; lower the learning rate, "
                f"learning_rate={self.learning_rate!r}."
            )
        posterior = SviPosterior(
            variables=_with_unit(blocks, target.prior, variables, fitted.normal.means),
            prior=target.prior,
            normal=fitted.normal,
            elbo=fitted.elbo,
            model=model,
            blocks=blocks,
            num_samples=self.num_samples,
        )
        return uncommitted(posterior)

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SviPosterior:
    """What :meth:`Svi.fit` finds; a pytree, so that a stack of them is vmapped as networks are."""

    variables: PyTree
    """The network's, with the means of the weights."""
    prior: FittedPrior
    """Of the weights."""
    normal: Normal
    """Of the weights, in units of the prior's scale."""
    elbo: Float[Array, "steps"]
    """An estimate of the evidence lower bound, from each step's few examples and draws."""
    model: Model = dataclasses.field(metadata={"static": True})
    """The network."""
    blocks: tuple[Block, ...] = dataclasses.field(metadata={"static": True})
    """Where its weights are."""
    num_samples: int = dataclasses.field(metadata={"static": True})
    """Networks drawn."""

    def bind(self, key: PRNGKey) -> Ensemble:
        """Return the ensemble of ``num_samples`` networks that the key draws."""
        return self.draw(key, self.num_samples)

    def draw(self, key: PRNGKey, num_samples: int) -> Ensemble:
        """Networks with weights of the distribution, as an ensemble."""
        return Ensemble(predictor(self.model, _draw(key, self, num_samples)))


class _Fitted(NamedTuple):
    normal: Normal
    adam: PyTree
    elbo: Float[Array, "steps"]


@partial(jax.jit, static_argnums=(0, 1))
def _start(svi: Svi, blocks: tuple[Block, ...], prior: FittedPrior, params: PyTree) -> tuple[PyTree, _Fitted]:
    unit = prior.unit(params)
    means = block_values(blocks, unit)
    log_scales = jax.tree.map(lambda mean: jnp.full_like(mean, math.log(svi.initial_scale)), means)
    normal = Normal(means, log_scales)
    return unit, _Fitted(normal, svi._optimiser().init(normal), jnp.zeros(svi.steps))


def _step(
    static: tuple[Svi, tuple[Block, ...]],
    i: Int[Array, ""],
    fitted: _Fitted,
    target: Target,
    unit: PyTree,
    key: PRNGKey,
) -> _Fitted:
    svi, blocks = static
    data_key, draw_key = jax.random.split(jax.random.fold_in(key, i))

    def loss(normal: Normal) -> Float[Array, ""]:
        fixed = jax.lax.stop_gradient(normal)
        total = jnp.float32(0)
        # One after the other: under vmap convolutions would have a batch of kernels, which are slower.
        for draw in range(svi.num_draws):
            values = _normal_draw(jax.random.fold_in(draw_key, draw), normal)
            whole = with_values(unit, blocks, values)
            total += _log_density(fixed, values) - target.prior.unit_log_density(values)
            total -= target.estimated_log_likelihood(data_key, whole, svi.batch_size)
        return total / svi.num_draws

    value, gradient = jax.value_and_grad(loss)(fitted.normal)
    updates, adam = svi._optimiser().update(gradient, fitted.adam)
    return _Fitted(optax.tree.add(fitted.normal, updates), adam, fitted.elbo.at[i].set(-value))


def _normal_draw(key: PRNGKey, normal: Normal) -> dict[str, Matrix]:
    means, unravel = ravel_pytree(normal.means)
    # Drawn all at once: a program for random numbers takes long to compile.
    return unravel(means + jnp.exp(ravel_pytree(normal.log_scales)[0]) * jax.random.normal(key, means.shape))


def _log_density(normal: Normal, values: dict[str, Matrix]) -> Float[Array, ""]:
    def of_block(name: str) -> Float[Array, ""]:
        return jnp.sum(norm.logpdf(values[name], normal.means[name], jnp.exp(normal.log_scales[name])))

    return sum(map(of_block, sorted(values)), jnp.float32(0))


@partial(jax.jit, static_argnums=0)
def _with_unit(blocks: tuple[Block, ...], prior: FittedPrior, variables: PyTree, values: dict[str, Matrix]) -> PyTree:
    """A network's variables with other weights in some blocks, given in units of the prior's scale."""
    params = variables["params"]
    moved = prior.weights(with_values(prior.unit(params), blocks, values))
    # Weights without a distribution stay as they are, to the bit.
    return {**variables, "params": with_values(params, blocks, block_values(blocks, moved))}


@partial(jax.jit, static_argnums=2)
def _draw(key: PRNGKey, posterior: SviPosterior, num_samples: int) -> PyTree:
    def one(key: PRNGKey) -> PyTree:
        return _with_unit(posterior.blocks, posterior.prior, posterior.variables, _normal_draw(key, posterior.normal))

    return jax.vmap(one)(jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_samples)))
