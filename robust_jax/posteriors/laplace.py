"""Laplace approximations: a normal distribution around trained weights, with the curvature of the loss as precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, PyTree

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.models import predictor
from robust_jax.posteriors import curvatures
from robust_jax.posteriors.blocks import (
    Block,
    Matrix,
    block_values,
    bytes_per_example,
    chosen_blocks,
    derivatives,
    network_blocks,
    precise,
    with_values,
)
from robust_jax.posteriors.curvatures import Curvature, Full, Precisions
from robust_jax.posteriors.ensemble import Ensemble
from robust_jax.posteriors.likelihoods import (
    FISHERS,
    LIKELIHOODS,
    Fisher,
    Likelihood,
    curvature_roots,
    log_likelihoods,
)
from robust_jax.posteriors.links import LINKS, Link, laplace_bridge, monte_carlo, probit
from robust_jax.posteriors.subnetworks import LargestVariance, Subnetwork, greatest, subnetwork_scores
from robust_jax.types import Batch, Images, PRNGKey

CURVATURES = ("full", "kron", "diag", "low_rank")
CurvatureName = Literal["full", "kron", "diag", "low_rank"]
PRIORS = ("all", "layer", "parameter")
LAST_LAYER = "head"
"""Name of the last layer among the parameters."""
GREATEST_LOG_PRECISION = 9.2
"""Prior precisions are looked for from 1e-4 to 1e4."""
TUNING_STEPS = 300

Logits = Float[Array, "b k"]
Covariances = Float[Array, "b k k"]


class Coverage(NamedTuple):
    """What a Laplace approximation makes of some weights."""

    name: str
    """Of the layer or parameter."""
    num_weights: int
    """How many."""
    rule: Literal["full", "kron", "diag", "low_rank", "fixed"]
    """Their curvature; ``fixed`` weights stay where they are."""


@dataclasses.dataclass(frozen=True)
class Laplace:
    r"""A normal distribution over weights θ with precision H + Δ around trained ones.

    H is the generalised Gauss–Newton matrix of the negative log-likelihood, :math:`\sum_n J_n^\top \Lambda_n J_n`, with
    J the derivatives of the logits in θ and Λ the Hessian in the logits, and Δ the prior precision. Predictions are of
    the network linearised in its weights: logits are normal, with covariance :math:`J (H + \Delta)^{-1} J^\top`.

    Linear layers of any kind, convolutions among them, are computed by what they read and by derivatives in what they
    write, see :mod:`robust_jax.posteriors.blocks`; of a Kronecker-factored curvature they have two factors
    (:func:`~robust_jax.posteriors.curvatures.kron_sums`), and other parameters such as those of norms a diagonal.
    Batch norms keep their running statistics.

    Raises:
        ValueError: if a choice is unknown (the nearest is named), a number not positive, or choices do not go together.

    References:
        Daxberger et al., "Laplace Redux" (arXiv 2106.14806); Immer et al. (arXiv 2008.08400; marginal likelihood,
        arXiv 2104.04975); Ritter et al. (2018) and Eschenhagen et al. (arXiv 2311.00636) on Kronecker factors.
    """

    weights: str | tuple[str, ...] | Subnetwork = "last_layer"
    """Which are uncertain: those of the ``last_layer``, ``all``, of the named layers or modules, or a subnetwork."""
    curvature: CurvatureName = "kron"
    """Form of H."""
    prior_precision: float | None = None
    """δ, for all weights alike; None chooses it by the marginal likelihood."""
    prior_per: Literal["all", "layer", "parameter"] = "all"
    """What has a prior precision of its own where it is chosen. One for each parameter needs a diagonal curvature."""
    fisher: Fisher = "ggn"
    """The generalised Gauss–Newton matrix, or the empirical Fisher matrix, of gradients at the labels."""
    likelihood: Likelihood = "categorical"
    """Of labels: classes, or numbers with normal errors."""
    sigma: float = 1.0
    """Standard deviation of these errors."""
    rank: int = 32
    """Of a curvature of low rank."""
    separate_bias: bool = False
    """Whether a layer's bias has a factor of its own, as in laplace-torch, in place of a last row of its kernel."""
    others: Literal["diag", "fixed", "error"] = "diag"
    """What becomes of parameters that have no Kronecker factors."""
    byte_budget: int = 2**30
    """Memory for what is computed at once; fewer examples are taken together where it is short."""

    def __post_init__(self):
        check_choice("curvature", self.curvature, CURVATURES)
        check_choice("prior_per", self.prior_per, PRIORS)
        check_choice("fisher", self.fisher, FISHERS)
        check_choice("likelihood", self.likelihood, LIKELIHOODS)
        check_choice("others", self.others, ("diag", "fixed", "error"))
        if isinstance(self.weights, str):
            check_choice("weights", self.weights, ("last_layer", "all"))
        for name in ("sigma", "rank", "byte_budget"):
            check_positive(name, getattr(self, name))
        if self.prior_precision is not None:
            check_positive("prior_precision", self.prior_precision)
        if self._subnetwork and self.curvature != "full":
            raise ValueError(f"Expected curvature='full' for a subnetwork, got curvature={self.curvature!r}.")
        limited = {"parameter": ("diag",), "layer": ("full", "kron", "diag"), "all": CURVATURES}[self.prior_per]
        if self.curvature not in limited:
            raise ValueError(
                f"Expected prior_per={self.prior_per!r} with curvature {' or '.join(limited)}, "
                f"got curvature={self.curvature!r}."
            )

    @property
    def _subnetwork(self) -> bool:
        return not isinstance(self.weights, str | tuple)

    def coverage(self, model: Any, variables: PyTree, image_shape: tuple[int, int, int]) -> list[Coverage]:
        """What the approximation makes of each layer and parameter, in the order in which layers run.

        Raises:
            ValueError: as :meth:`fit`.
        """
        blocks = {block.name for block in self._blocks(model, variables, image_shape)}
        found = []
        for block in network_blocks(model, variables, image_shape, separate_bias=self.separate_bias):
            rule = self.curvature if block.name in blocks else "fixed"
            rule = "diag" if rule == "kron" and block.layer is None else rule
            found.append(Coverage(block.name, block.size, rule))
        return found

    def fit(self, key: PRNGKey | None, model: Any, variables: PyTree, batches: Iterable[Batch]) -> LaplacePosterior:
        """The posterior at trained weights.

        Args:
            key: of random weights and of the first vector of a low rank; may be None elsewhere.
            model: a network, with ``apply(variables, images, train=False) -> Output``.
            variables: trained; ``{"params": …, …}``.
            batches: the training data, as they are; held in memory by subnetworks and curvatures of low rank.

        Raises:
            ValueError: if there are no data, a layer is unknown, a batch norm is in training mode, parameters have no
                rule, a subnetwork is larger than the network, memory does not suffice, or the curvature is not finite.
        """
        batches = iter(batches)
        first = next(batches, None)
        if first is None:
            raise ValueError("Expected data to fit, got none.")
        batches = _again(first, batches)
        blocks = self._blocks(model, variables, first.image.shape[1:])
        if self._subnetwork or self.curvature == "low_rank":
            batches = list(batches)
        values = {block.name: block_values(block, variables["params"]) for block in blocks}
        task = _Task(model, blocks, self.fisher, self.likelihood, self.sigma, self.byte_budget)
        curvature, log_likelihood = self._curvature(key, task, variables, values, batches)
        posterior = LaplacePosterior(
            variables=variables,
            curvature=curvature,
            log_likelihood=log_likelihood,
            prior_precision=jnp.float32(1.0 if self.prior_precision is None else self.prior_precision),
            model=model,
            blocks=blocks,
            byte_budget=self.byte_budget,
        )
        return posterior if self.prior_precision is not None else posterior.tuned(self.prior_per)

    def _blocks(self, model: Any, variables: PyTree, image_shape: tuple[int, int, int]) -> tuple[Block, ...]:
        blocks = network_blocks(model, variables, image_shape, separate_bias=self.separate_bias)
        if isinstance(self.weights, tuple):
            blocks = chosen_blocks(blocks, self.weights)
        elif self.weights == "last_layer":
            blocks = chosen_blocks(blocks, (LAST_LAYER,))
        others = [block.name for block in blocks if block.layer is None]
        if self.curvature == "kron" and others and self.others == "error":
            raise ValueError(
                f"Expected linear layers, for which there are Kronecker factors, got {', '.join(others)}; "
                "others='diag' gives them a diagonal, others='fixed' leaves them as they are."
            )
        if self.curvature == "kron" and self.others == "fixed":
            blocks = tuple(block for block in blocks if block.layer is not None)
        return blocks

    def _curvature(
        self,
        key: PRNGKey | None,
        task: _Task,
        variables: PyTree,
        values: Mapping[str, Matrix],
        batches: Iterable[Batch],
    ) -> tuple[Curvature, Float[Array, ""]]:
        if self.curvature == "diag":
            sums, _, log_likelihood = task.total("diag", variables, {}, batches)
            return curvatures.Diag(sums), log_likelihood
        if self.curvature == "kron":
            sums, count, log_likelihood = task.total("kron", variables, {}, batches)
            return curvatures.kron_curvature(task.blocks, sums, count), log_likelihood
        if self.curvature == "low_rank":
            return self._low_rank(key, task, variables, batches)
        chosen = {block.name: jnp.arange(block.size) for block in task.blocks}
        if self._subnetwork:
            diagonal = None
            if isinstance(self.weights, LargestVariance):
                diagonal, _, _ = task.total("diag", variables, {}, batches)
            scores = subnetwork_scores(key, self.weights, dict(values), diagonal)
            chosen = greatest(task.blocks, scores, self.weights.num_weights)
        num_weights = sum(len(places) for places in chosen.values())
        # The matrix, what is added to it, and its eigenvectors in double precision.
        task.check_memory(f"a full curvature of {num_weights} weights", 24 * num_weights**2)
        sums, _, log_likelihood = task.total("full", variables, chosen, batches)
        return curvatures.full_curvature(sums, chosen), log_likelihood

    def _low_rank(
        self, key: PRNGKey | None, task: _Task, variables: PyTree, batches: list[Batch]
    ) -> tuple[Curvature, Float[Array, ""]]:
        size = sum(block.size for block in task.blocks)
        if self.rank >= size:
            raise ValueError(f"Expected rank below the number of weights, {size}, got rank={self.rank}.")
        task.check_memory(f"{self.rank} vectors of {size} weights", 12 * self.rank * size)
        start = jax.random.normal(jax.random.key(0) if key is None else key, (size,))

        def multiply(vector: dict[str, Matrix]) -> dict[str, Matrix]:
            products = [_ggn_product(task.static, variables, vector, batch) for batch in batches]
            return jax.tree.map(lambda *leaves: sum(leaves), *products)

        curvature = curvatures.low_rank_curvature(multiply, task.blocks, self.rank, np.asarray(start))
        return curvature, sum(_log_likelihood(task.static, variables, batch) for batch in batches)


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
class LaplacePosterior:
    """What :meth:`Laplace.fit` finds; a pytree, so that a stack of them is vmapped as networks are."""

    variables: PyTree
    """The network's, with the mean of the weights."""
    curvature: Curvature
    """H."""
    log_likelihood: Float[Array, ""]
    """Of the data, at the mean."""
    prior_precision: Precisions
    """Δ."""
    model: Any = dataclasses.field(metadata={"static": True})
    """The network."""
    blocks: tuple[Block, ...] = dataclasses.field(metadata={"static": True})
    """Where its weights are."""
    byte_budget: int = dataclasses.field(metadata={"static": True})
    """Memory for what is predicted at once."""

    def logits_fn(
        self, key: PRNGKey | None = None, *, link: Link | Literal["weights"] = "probit", num_samples: int = 100
    ) -> Partial:
        """The predictive as a logits function.

        Args:
            key: of draws, which are the same for all images.
            link: how normally distributed logits become probabilities: scaled by their variances (``probit``), by a
                Dirichlet distribution of like moments (``bridge``), as the mean over draws of logits
                (``monte_carlo``), or, without linearising, as the mean over networks with drawn ``weights``; see
                :mod:`robust_jax.posteriors.links`.
            num_samples: draws.

        Raises:
            ValueError: if the link is unknown, the number not positive, a key is missing, or one image needs more
                memory than the budget.
        """
        check_choice("link", link, (*LINKS, "weights"))
        check_positive("num_samples", num_samples)
        if link in ("monte_carlo", "weights") and key is None:
            raise ValueError(f"Expected a key for the draws of link={link!r}, got key=None.")
        if link == "weights":
            return self.draw(key, num_samples).logits_fn()
        return Partial(_Predictive(link, num_samples), self, key)

    def distribution(
        self, images: Images, *, precisions: Float[Array, "n"] | None = None
    ) -> tuple[Logits, Covariances | Float[Array, "n b k k"]]:
        """Mean and covariance of the logits of each image, of the network linearised in its weights.

        Args:
            images: in [0, 1].
            precisions: prior precisions in place of the posterior's own; covariances get an axis of them first.
        """
        num_classes = jax.eval_shape(predictor(self.model, self.variables), images[:1]).shape[-1]
        chunk = _chunk_size(self.blocks, num_classes, self.byte_budget)
        identity = lambda logits: jnp.broadcast_to(jnp.eye(num_classes)[None], (len(logits), num_classes, num_classes))  # noqa: E731

        def some(images: Images) -> tuple[Logits, Covariances]:
            logits, given = derivatives(self.model, self.blocks, self.variables, images, identity)
            covariances = partial(self.curvature.covariances, self.blocks, given)
            if precisions is None:
                return logits, covariances(self.prior_precision)
            return logits, jnp.moveaxis(jax.lax.map(covariances, precisions), 0, 1)

        if len(images) <= chunk:
            logits, covariances = some(images)
        else:
            one = lambda image: jax.tree.map(lambda leaf: leaf[0], some(image[None]))  # noqa: E731
            logits, covariances = jax.lax.map(one, images, batch_size=chunk)
        return logits, covariances if precisions is None else jnp.moveaxis(covariances, 1, 0)

    def draw(self, key: PRNGKey, num_samples: int) -> Ensemble:
        """Networks with weights of the posterior, as an ensemble."""

        def one(key: PRNGKey) -> PyTree:
            steps = self.curvature.draw(key, self.blocks, self.prior_precision)
            params = self.variables["params"]
            moved = {block: block_values(block, params) + steps[block.name] for block in self.blocks}
            return {**self.variables, "params": with_values(params, moved)}

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
        total = 0
        for block in self.blocks:
            weighed = curvatures.precision_of(delta, block.name) * block_values(block, self.variables["params"]) ** 2
            if isinstance(self.curvature, Full):
                weighed = weighed.reshape(-1)[self.curvature.chosen[block.name]]
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
        total, count = 0.0, 0.0
        for batch in batches:
            total = total + _held_out_nll(self, grid, batch)
            count = count + jnp.sum(batch.mask)
        if isinstance(count, float):
            raise ValueError("Expected held-out data, got none.")
        nll = total / count
        by_evidence = jax.vmap(self.log_marginal_likelihood)(grid)
        search = PriorSearch(grid, nll, by_evidence, grid[jnp.argmin(nll)], grid[jnp.argmax(by_evidence)])
        return dataclasses.replace(self, prior_precision=search.best), search

    def at_edge(self) -> bool:
        """Whether a prior precision was chosen at an end of its range, where it says little."""
        logs = [jnp.abs(jnp.log(leaf)).max() for leaf in jax.tree.leaves(self.prior_precision)]
        return bool(max(logs) > GREATEST_LOG_PRECISION - 0.1)


@dataclasses.dataclass(frozen=True)
class _Predictive:
    link: Link
    num_samples: int

    def __call__(self, posterior: LaplacePosterior, key: PRNGKey | None, images: Images) -> Logits:
        mean, covariance = posterior.distribution(images)
        if self.link == "monte_carlo":
            return monte_carlo(key, mean, covariance, num_samples=self.num_samples)
        return probit(mean, covariance) if self.link == "probit" else laplace_bridge(mean, covariance)


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
def _held_out_nll(posterior: LaplacePosterior, grid: Float[Array, "n"], batch: Batch) -> Float[Array, "n"]:
    """Sums over a batch, for each prior precision."""
    mean, covariances = posterior.distribution(batch.image, precisions=grid)
    nll = lambda covariance: -log_likelihoods("categorical", 1.0, probit(mean, covariance), batch.label)  # noqa: E731
    return jax.vmap(nll)(covariances) @ batch.mask.astype(jnp.float32)


class _Static(NamedTuple):
    """What a compiled step is of."""

    model: Any
    blocks: tuple[Block, ...]
    fisher: Fisher
    likelihood: Likelihood
    sigma: float


@dataclasses.dataclass(frozen=True)
class _Task:
    """Sums over data, in as many examples at once as memory allows."""

    model: Any
    blocks: tuple[Block, ...]
    fisher: Fisher
    likelihood: Likelihood
    sigma: float
    byte_budget: int

    @property
    def static(self) -> _Static:
        return _Static(self.model, self.blocks, self.fisher, self.likelihood, self.sigma)

    def check_memory(self, what: str, needed: int) -> None:
        if needed > self.byte_budget:
            raise ValueError(
                f"Expected a byte_budget that holds {what}, about {needed:,} bytes, got "
                f"byte_budget={self.byte_budget:,}."
            )

    def total(
        self, kind: CurvatureName, variables: PyTree, chosen: Mapping[str, Array], batches: Iterable[Batch]
    ) -> tuple[PyTree, float, Float[Array, ""]]:
        """The curvature's sums, the number of examples and their log-likelihood."""
        total, chunk = None, None
        for batch in batches:
            if chunk is None:
                logits = jax.eval_shape(predictor(self.model, variables), batch.image[:1])
                num_sums = logits.shape[-1] if self.fisher == "ggn" else 1
                chunk = min(_chunk_size(self.blocks, num_sums, self.byte_budget), len(batch.image))
            for part in _parts(batch, chunk):
                sums = _sums(self.static, kind, variables, chosen, part)
                total = sums if total is None else jax.tree.map(jnp.add, total, sums)
        if total is None or not total[1] > 0:
            raise ValueError("Expected data to fit, got none.")
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(total)):
            raise ValueError("The curvature is not finite: the network's outputs overflow.")
        return total[0], float(total[1]), total[2]


@partial(jax.jit, static_argnums=(0, 1))
def _sums(
    static: _Static, kind: CurvatureName, variables: PyTree, chosen: Mapping[str, Array], batch: Batch
) -> tuple[PyTree, Float[Array, ""], Float[Array, ""]]:
    weights = batch.mask.astype(jnp.float32)

    def roots(logits: Logits) -> Float[Array, "b c k"]:
        found = curvature_roots(static.likelihood, static.fisher, static.sigma, logits, batch.label)
        return weights[:, None, None] * found

    logits, given = derivatives(static.model, static.blocks, variables, batch.image, roots)
    if kind == "diag":
        found = curvatures.diag_sums(static.blocks, given)
    elif kind == "kron":
        found = curvatures.kron_sums(static.blocks, given, weights)
    else:
        found = curvatures.full_sums(static.blocks, chosen, given)
    scores = log_likelihoods(static.likelihood, static.sigma, logits, batch.label)
    return found, jnp.sum(weights), jnp.sum(weights * scores)


@partial(jax.jit, static_argnums=0)
def _ggn_product(static: _Static, variables: PyTree, vector: dict[str, Matrix], batch: Batch) -> dict[str, Matrix]:
    """H times a vector, of a batch."""
    values = {block.name: block_values(block, variables["params"]) for block in static.blocks}

    def logits_fn(values: dict[str, Matrix]) -> Logits:
        params = with_values(variables["params"], {block: values[block.name] for block in static.blocks})
        return static.model.apply({**variables, "params": params}, batch.image, train=False).logits

    logits, pull = jax.vjp(logits_fn, values)
    along = jax.jvp(logits_fn, (values,), (vector,))[1]
    roots = curvature_roots(static.likelihood, static.fisher, static.sigma, logits, batch.label)
    weighted = precise("bck,bk->bc", roots, along) * batch.mask[:, None]
    return pull(precise("bck,bc->bk", roots, weighted))[0]


@partial(jax.jit, static_argnums=0)
def _log_likelihood(static: _Static, variables: PyTree, batch: Batch) -> Float[Array, ""]:
    logits = predictor(static.model, variables)(batch.image)
    return jnp.sum(batch.mask * log_likelihoods(static.likelihood, static.sigma, logits, batch.label))


def _again(first: Batch, rest: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from rest


def _parts(batch: Batch, chunk: int) -> Iterator[Batch]:
    """Parts of one size, the last filled up with examples that do not count."""
    size = len(batch.image)
    if chunk >= size:
        yield batch
        return
    for start in range(0, size, chunk):
        part = jax.tree.map(lambda leaf, start=start: leaf[start : start + chunk], batch)
        missing = chunk - len(part.image)
        if missing:
            part = jax.tree.map(
                lambda leaf, missing=missing: jnp.pad(leaf, ((0, missing), *((0, 0),) * (leaf.ndim - 1))), part
            )
        yield part


def _chunk_size(blocks: tuple[Block, ...], num_sums: int, byte_budget: int) -> int:
    """Examples at once.

    Raises:
        ValueError: if there is not memory enough for one.
    """
    needed = bytes_per_example(blocks, num_sums)
    if needed > byte_budget:
        raise ValueError(
            f"Expected a byte_budget that holds the derivatives of one example, about {needed:,} bytes, got "
            f"byte_budget={byte_budget:,}."
        )
    return byte_budget // needed
