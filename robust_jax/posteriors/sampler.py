"""What all samplers of weights have in common: data, prior and likelihood, and an ensemble of samples as the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.core.mesh import on_one_cpu, uncommitted
from robust_jax.core.platform import on_cpu
from robust_jax.models import predictor
from robust_jax.posteriors.likelihoods import LIKELIHOODS, Likelihood
from robust_jax.posteriors.priors import GaussianPrior, Prior
from robust_jax.posteriors.target import Target, examples_of, target_of
from robust_jax.predictors import Ensemble, MemberPredictor
from robust_jax.types import Batch, Images, Model, PRNGKey, PRNGKeys

LARGEST_START = 3.0
"""Units of the prior's scale that a chain's start is drawn in to."""
LEAST_ACCEPTANCE = 1e-3
"""Mean acceptance below which a chain stands still."""


class Chain(NamedTuple):
    """What one chain visits; the last two are None for methods that accept every step."""

    unit: PyTree
    log_density: Float[Array, "s"]
    acceptance_rate: Float[Array, "s"] | None = None
    step_size: Float[Array, "s"] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples(MemberPredictor):
    """Weights sampled from their posterior: an ensemble of equally likely networks, and how the chains went.

    A pytree, as :class:`~robust_jax.predictors.Ensemble`. Samples of several chains follow each other.
    """

    ensemble: Ensemble
    """The networks."""
    log_density: Float[Array, "chains s"]
    """log p(D | w) + log p(u) of each sample, u being the weights in units of the prior's scale."""
    acceptance_rate: Float[Array, "chains s"] | None
    """Probability with which each sample's proposal was accepted; None without a test of acceptance."""
    step_size: Float[Array, "chains s"] | None = None
    """Of the integrator, in units of the prior's scale, given or found; None without a test of acceptance."""

    @property
    def num_members(self) -> int:
        """Of the ensemble."""
        return self.ensemble.num_members

    def members(self, images: Images) -> Float[Array, "m b k"]:
        """Return the logits of each sample."""
        return self.ensemble.members(images)

    def r_hat(self, images: Images) -> Float[Array, "b k"]:
        """How much wider all samples of a probability spread than those of half a chain: near 1 where chains agree.

        The greater of the rank-normalised and the folded one (Vehtari et al., arXiv 1903.08008, section 4), of what
        networks say: of weights, which may be exchanged for each other, it would tell little (Izmailov et al., arXiv
        2104.14421, section 4). NaN where all samples say the same.

        Raises:
            ValueError: if a chain has fewer than four samples.
        """
        return _diagnostic("rhat", self._chain_probabilities(images))

    def effective_sample_size(self, images: Images) -> Float[Array, "b k"]:
        """How many independent samples tell as much of a probability (the bulk's; Vehtari et al., section 3).

        Raises:
            ValueError: if a chain has fewer than four samples.
        """
        return _diagnostic("ess_bulk", self._chain_probabilities(images))

    def _chain_probabilities(self, images: Images) -> Float[Array, "chains s b k"]:
        num_chains, num_samples = self.log_density.shape
        if num_samples < 4:
            raise ValueError(f"Expected at least 4 samples of each chain, got {num_samples}.")
        probabilities = jax.nn.softmax(self.members(images))
        return probabilities.reshape(num_chains, num_samples, *probabilities.shape[1:])


@partial(jax.jit, static_argnums=0)
def _diagnostic(name: str, draws: Float[Array, "chains s b k"]) -> Float[Array, "b k"]:
    with jax.numpy_rank_promotion("allow"):  # Where who imports this package forbids it.
        return getattr(import_blackjax().diagnostics, name)(draws)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws weights from their posterior at temperature 1, in one compiled program.

    Step sizes are in units of the prior's scale. Networks with batch norm have no likelihood of their own, since what
    they say of an example depends on the others; they are refused.
    """

    num_samples: int = 50
    """Samples kept of each chain."""
    burn_in: int = 10
    """Samples dropped before them."""
    num_chains: int = 1
    """Chains; all begin at the trained weights."""
    prior: Prior = GaussianPrior()
    """Of the weights."""
    likelihood: Likelihood = "categorical"
    """Of the labels: classes, or real numbers with normal noise."""
    sigma: float = 1.0
    """Standard deviation of that noise."""

    def __post_init__(self):
        for name in ("num_samples", "num_chains", "sigma"):
            check_positive(name, getattr(self, name))
        check_non_negative("burn_in", self.burn_in)
        check_choice("likelihood", self.likelihood, LIKELIHOODS)

    def fit(self, key: PRNGKey, model: Model, variables: PyTree, batches: Iterable[Batch]) -> Samples:
        """Samples, from trained weights on.

        Args:
            key: of the chains.
            model: a network with ``apply(variables, images, train=False) -> Output``.
            variables: where chains begin, each weight drawn in to within 3 units of the prior's scale;
                ``{"params": …, …}``.
            batches: the training data, as they are; all of them are held in memory, and the density is computed one
                batch after the other.

        Raises:
            ValueError: if there are no data, or the network has batch norm.
            FloatingPointError: if a density is not finite or a chain stands still.
        """
        if "batch_stats" in variables:
            raise ValueError(
                "Expected a network whose outputs depend on one image at a time, got one with batch norm: its "
                "likelihood is not defined. Use norm='frn' (filter response normalisation) or norm='group'."
            )
        variables = on_one_cpu(variables)
        target = target_of(model, variables, self.prior, examples_of(batches), self.likelihood, self.sigma)
        chains, stacked = _run(jax.random.split(key, self.num_chains), self, target, variables["params"])
        self._check(chains)
        members = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stacked)
        size = self.num_chains * self.num_samples
        state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), target.model_state)
        networks = predictor(model, {"params": members, **state})
        return uncommitted(Samples(Ensemble(networks), chains.log_density, chains.acceptance_rate, chains.step_size))

    def chain(self, key: PRNGKey, target: Target, unit: PyTree) -> Chain:
        """``burn_in + num_samples`` samples from unit weights on."""
        raise NotImplementedError

    def _check(self, chains: Chain) -> None:
        name = f"{type(self).__name__}(step_size={getattr(self, 'step_size', None)!r})"
        if not bool(jnp.isfinite(chains.log_density).all()):
            raise FloatingPointError(f"The density of samples of {name} is not finite; lower the step size.")
        if chains.acceptance_rate is not None:
            worst = float(chains.acceptance_rate.mean(axis=1).min())
            if not worst >= LEAST_ACCEPTANCE:
                raise FloatingPointError(
                    f"Expected proposals to be accepted, got a mean acceptance of {worst:.1e} in a chain of {name}; "
                    "lower the step size."
                )


def import_blackjax() -> ModuleType:
    """The library of kernels: an import that computes, and so would start the devices of who imports this package."""
    with jax.ensure_compile_time_eval():  # Its constants outlive the program that is being traced.
        import blackjax
        import blackjax.sgmcmc.diffusions
    return blackjax


@partial(jax.jit, static_argnums=1)
def _run(keys: PRNGKeys, sampler: Sampler, target: Target, params: PyTree) -> tuple[Chain, PyTree]:
    """The chains, without burn-in and without unit weights, and the weights of their samples."""
    start = jax.tree.map(lambda u: jnp.clip(u, -LARGEST_START, LARGEST_START), target.prior.unit(params))

    def one(key: PRNGKey) -> tuple[Chain, PyTree]:
        # Kinetic energies are products too, and decide on what is accepted.
        with jax.default_matmul_precision("float32"):
            chain = sampler.chain(key, target, start)
        chain = jax.tree.map(lambda leaf: leaf[sampler.burn_in :], chain)
        return chain._replace(unit=None), jax.lax.map(target.prior.weights, chain.unit)

    # Convolutions with a batch of kernels are many times slower on a CPU than one after the other.
    together = not on_cpu(keys)
    return jax.vmap(one)(keys) if together else jax.lax.map(one, keys)
