"""The normal distribution that a Laplace approximation finds, its predictive, and the choice of its prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PyTree

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.mesh import on_one_cpu, uncommitted
from robust_jax.core.shapes import image_shape
from robust_jax.models import linear_layers, predictor
from robust_jax.posteriors.blocks import Block, block_values, chunk_size, derivatives, with_values
from robust_jax.posteriors.curvatures import Curvature, Full, Precisions, precision_of
from robust_jax.posteriors.likelihoods import log_likelihoods
from robust_jax.posteriors.links import LINKS, Covariances, Link, Logits, laplace_bridge, monte_carlo, probit
from robust_jax.predictors import Ensemble, Predictor
from robust_jax.types import Batch, Images, Model, PRNGKey

GREATEST_LOG_PRECISION = 9.2
"""Prior precisions are looked for from 1e-4 to 1e4."""
TUNING_STEPS = 300


class PriorSearch(NamedTuple):
    """Prior precisions, by held-out data and by the marginal likelihood."""

    precisions: Float[Array, "n"]
    """The grid."""
    nll: Float[Array, "n"]
    """Of held-out data, a mean over examples."""
    log_marginal_likelihood: Float[Array, "n"]
    """Of the training data."""
    best: Float[Array, ""]
    """Of the least held-out NLL."""
    best_by_evidence: Float[Array, ""]
    """Of the greatest marginal likelihood."""

    @property
    def at_edge(self) -> Bool[Array, ""]:
        """Whether the best is an end of the grid, where it says little."""
        return (self.best == self.precisions[0]) | (self.best == self.precisions[-1])

    @property
    def disagree(self) -> Bool[Array, ""]:
        """Whether both ways differ by a factor of 10 or more."""
        return jnp.abs(jnp.log(self.best / self.best_by_evidence)) > jnp.log(10.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LaplacePosterior(Predictor):
    """What :meth:`Laplace.fit` returns: a predictor, by default with the probit link; see :meth:`predictive`."""

    variables: PyTree
    """The network's, with the mean of the weights."""
    curvature: Curvature
    """H."""
    log_likelihood: Float[Array, ""]
    """Of the data, at the mean."""
    prior_precision: Precisions
    """Δ."""
    model: Model = dataclasses.field(metadata={"static": True})
    """The network."""
    blocks: tuple[Block, ...] = dataclasses.field(metadata={"static": True})
    """Where its weights are."""
    byte_budget: int = dataclasses.field(metadata={"static": True})
    """Memory for what is predicted at once."""

    def __call__(self, images: Images) -> Logits:
        """Return the logits of the probit predictive; nothing is random."""
        return probit(*self.distribution(images))

    def predictive(
        self, key: PRNGKey | None = None, *, link: Link | Literal["weights"] = "probit", num_samples: int = 100
    ) -> LaplacePredictive | Ensemble:
        """Return the predictive of a link as a predictor.

        Images that exceed the memory budget, or a CPU's caches, are computed in a loop, in which convolutions are
        several times slower on a CPU: batches of tens are best there.

        Args:
            key: random key of the draws, which are the same for all images.
            link: map from normally distributed logits to probabilities: scaled by their variances (``probit``), by a
                Dirichlet distribution of equal moments (``bridge``), the mean over draws of logits
                (``monte_carlo``), or, without linearisation, the mean over networks with drawn ``weights``; see
                :mod:`robust_jax.posteriors.links`.
            num_samples: number of draws.

        Raises:
            ValueError: if the link is unknown, the number not positive, a key is missing, or one image needs more
                memory than the budget.
        """
        check_choice("link", link, (*LINKS, "weights"))
        check_positive("num_samples", num_samples)
        if link == "weights":
            return self.draw(_needed(key, link), num_samples)
        if link == "monte_carlo":
            _needed(key, link)
        return LaplacePredictive(self, key, link, num_samples)

    def distribution(
        self, images: Images, *, precisions: Float[Array, "n"] | None = None
    ) -> tuple[Logits, Covariances | Float[Array, "n b k k"]]:
        """Mean and covariance of the logits of each image, of the network linearised in its weights.

        Args:
            images: in [0, 1].
            precisions: prior precisions in place of the posterior's own; covariances get an axis of them first.
        """
        num_classes = linear_layers(self.model, self.variables, image_shape(images))[1]
        chunk = chunk_size(self.blocks, num_classes, len(images), self.byte_budget, num_devices=jax.device_count())

        def some(images: Images) -> tuple[Logits, Covariances]:
            logits, given = derivatives(
                self.model, self.blocks, self.variables, images, lambda logits: jnp.eye(len(logits))
            )
            covariances = partial(self.curvature.covariances, self.blocks, given)
            if precisions is None:
                return logits, covariances(self.prior_precision)
            return logits, jnp.moveaxis(jax.lax.map(covariances, precisions), 0, 1)

        if len(images) <= chunk:
            logits, covariances = some(images)
        else:
            logits, covariances = _in_parts(some, images, chunk)
        return logits, covariances if precisions is None else jnp.moveaxis(covariances, 1, 0)

    def draw(self, key: PRNGKey, num_samples: int) -> Ensemble:
        """Networks with weights of the posterior, as an ensemble."""

        def one(key: PRNGKey) -> PyTree:
            steps = self.curvature.draw(key, self.blocks, self.prior_precision)
            params = self.variables["params"]
            moved = {name: values + steps[name] for name, values in block_values(self.blocks, params).items()}
            return {**self.variables, "params": with_values(params, self.blocks, moved)}

        drawn = jax.jit(jax.vmap(one))(jax.random.split(key, num_samples))
        return Ensemble(predictor(self.model, drawn))

    def log_marginal_likelihood(self, prior_precision: Precisions | float | None = None) -> Float[Array, ""]:
        r"""Laplace's approximation of the evidence, at the posterior's own prior precision or another.

        .. math:: \log p(D \mid \theta) - \frac{1}{2} \theta^\top \Delta \theta
            - \frac{1}{2} \log \det(I + \Delta^{-1} H)
        """
        delta = self.prior_precision if prior_precision is None else prior_precision
        delta = jax.tree.map(jnp.float32, delta)
        ratio = self.curvature.log_det_ratio(self.blocks, delta)
        return self.log_likelihood - 0.5 * (self._penalty(delta) + ratio)

    def _penalty(self, delta: Precisions) -> Float[Array, ""]:
        total = jnp.float32(0)
        for name, values in block_values(self.blocks, self.variables["params"]).items():
            weighed = precision_of(delta, name) * values**2
            if isinstance(self.curvature, Full):
                weighed = weighed.reshape(-1)[self.curvature.chosen[name]]
            total = total + jnp.sum(weighed)
        return total

    def tuned(self, prior_per: Literal["all", "layer", "parameter"] = "all") -> LaplacePosterior:
        """With the prior precisions, from 1e-4 to 1e4, of the greatest marginal likelihood; may be vmapped.

        Adam climbs the logarithm of each, from 1, over 300 steps.
        """
        shapes = {
            "all": jnp.zeros(()),
            "layer": {block.name: jnp.zeros(()) for block in self.blocks},
            "parameter": {block.name: jnp.zeros(block.shape) for block in self.blocks},
        }
        return dataclasses.replace(self, prior_precision=_climb(self, shapes[prior_per]))

    def validated(self, batches: Iterable[Batch], *, num_precisions: int = 41) -> tuple[LaplacePosterior, PriorSearch]:
        """With the prior precision, of a grid from 1e-4 to 1e4, whose probit predictive is best on held-out data.

        Args:
            batches: examples that the network was not trained on.
            num_precisions: points of the grid, evenly spaced in the logarithm. The derivatives are computed once.

        Raises:
            ValueError: if there are no data, or the number is not positive.
        """
        check_positive("num_precisions", num_precisions)
        grid = jnp.exp(jnp.linspace(-GREATEST_LOG_PRECISION, GREATEST_LOG_PRECISION, num_precisions))
        total = None
        given = dataclasses.replace(self, variables=on_one_cpu(self.variables))
        for batch in map(on_one_cpu, batches):
            total = (jnp.zeros(num_precisions), jnp.zeros(())) if total is None else total
            total = _add_held_out_nll(given, total, grid, batch)
        if total is None:
            raise ValueError("Expected held-out data, got none.")
        total = uncommitted(total)
        nll = total[0] / total[1]
        by_evidence = jax.vmap(self.log_marginal_likelihood)(grid)
        search = PriorSearch(grid, nll, by_evidence, grid[jnp.argmin(nll)], grid[jnp.argmax(by_evidence)])
        return dataclasses.replace(self, prior_precision=search.best), search

    def at_edge(self) -> bool:
        """Whether a prior precision was chosen at an end of its range, where it says little."""
        logs = [jnp.abs(jnp.log(leaf)).max() for leaf in jax.tree.leaves(self.prior_precision)]
        return bool(max(logs) > GREATEST_LOG_PRECISION - 0.1)


def _in_parts(function: Callable[[Images], PyTree], images: Images, chunk: int) -> PyTree:
    """A function of every image, of some of them at a time."""
    num_parts = -(-len(images) // chunk)
    padding = num_parts * chunk - len(images)
    padded = jnp.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0)))
    # Every so-manieth image, so that where a batch is split over devices each part is.
    parts = jnp.swapaxes(padded.reshape(chunk, num_parts, *images.shape[1:]), 0, 1)
    found = jax.lax.map(function, parts)
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])[: len(images)], found)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LaplacePredictive(Predictor):
    """A Laplace posterior with a link other than its default; see :meth:`LaplacePosterior.predictive`."""

    posterior: LaplacePosterior
    """The posterior."""
    key: PRNGKey | None
    """Random key of ``monte_carlo``; unused by the others."""
    link: Link = dataclasses.field(metadata={"static": True})
    """Map from normally distributed logits to probabilities."""
    num_samples: int = dataclasses.field(metadata={"static": True})
    """Number of draws of ``monte_carlo``."""

    def __call__(self, images: Images) -> Logits:
        """Return the logits of the predictive."""
        mean, covariance = self.posterior.distribution(images)
        if self.link == "monte_carlo":
            return monte_carlo(_needed(self.key, self.link), mean, covariance, num_samples=self.num_samples)
        return probit(mean, covariance) if self.link == "probit" else laplace_bridge(mean, covariance)


def _needed(key: PRNGKey | None, link: str) -> PRNGKey:
    if key is None:
        raise ValueError(f"Expected a key for the draws of link={link!r}, got key=None.")
    return key


@jax.jit
def _climb(posterior: LaplacePosterior, start: PyTree) -> Precisions:
    # Smoothly bounded; at the ends the gradient is 0.
    precisions = lambda free: jax.tree.map(  # noqa: E731
        lambda leaf: jnp.exp(GREATEST_LOG_PRECISION * jnp.tanh(leaf / GREATEST_LOG_PRECISION)), free
    )
    optimiser = optax.adam(optax.cosine_decay_schedule(0.3, TUNING_STEPS))

    def step(carry, _):
        free, state = carry
        gradient = jax.grad(lambda f: -posterior.log_marginal_likelihood(precisions(f)))(free)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(free, updates), state), None

    (free, _), _ = jax.lax.scan(step, (start, optimiser.init(start)), length=TUNING_STEPS)
    return precisions(free)


@jax.jit
def _add_held_out_nll(
    posterior: LaplacePosterior, total: tuple[Array, Array], grid: Float[Array, "n"], batch: Batch
) -> tuple[Float[Array, "n"], Float[Array, ""]]:
    """Adds sums over a batch, for each prior precision, and its number of examples."""
    mean, covariances = posterior.distribution(batch.image, precisions=grid)
    nll = lambda covariance: -log_likelihoods("categorical", 1.0, probit(mean, covariance), batch.label)  # noqa: E731
    counts = batch.mask.astype(jnp.float32)
    return total[0] + jnp.sum(jax.vmap(nll)(covariances) * counts[None], axis=-1), total[1] + jnp.sum(counts)
