"""Laplace approximations: a normal distribution around trained weights, with the curvature of the loss as precision."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.mesh import on_one_cpu, uncommitted
from robust_jax.core.shapes import image_shape
from robust_jax.posteriors import curvatures
from robust_jax.posteriors.blocks import Block, Matrix, block_values, chosen_blocks, network_blocks
from robust_jax.posteriors.curvature_sums import Loss, add_ggn_product, add_log_likelihood, curvature_sums
from robust_jax.posteriors.curvatures import Curvature
from robust_jax.posteriors.laplace_posterior import LaplacePosterior
from robust_jax.posteriors.likelihoods import FISHERS, LIKELIHOODS, Fisher, Likelihood
from robust_jax.posteriors.subnetworks import LargestVariance, Subnetwork, greatest, is_random, subnetwork_scores
from robust_jax.posteriors.swag import Swag
from robust_jax.types import Batch, Model, PRNGKey

CURVATURES = ("full", "kron", "diag", "low_rank")
CurvatureName = Literal["full", "kron", "diag", "low_rank"]
PRIORS = ("all", "layer", "parameter")


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
    """δ, for all weights alike; None chooses it."""
    prior_by: Literal["evidence", "held_out"] = "evidence"
    """What it is chosen by: the marginal likelihood, which needs no other data, or the likelihood of held-out examples,
    which asks more directly for calibrated predictions."""
    prior_per: Literal["all", "layer", "parameter"] = "all"
    """What has a prior precision of its own where it is chosen by evidence. One for each parameter needs a diagonal
    curvature."""
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
    byte_budget: int = 2**29
    """Memory for what is computed at once; fewer examples are taken together where it is short."""

    def __post_init__(self):
        check_choice("curvature", self.curvature, CURVATURES)
        check_choice("prior_by", self.prior_by, ("evidence", "held_out"))
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
        if self.prior_by == "held_out" and (self.prior_per != "all" or self.likelihood != "categorical"):
            raise ValueError(
                "Expected prior_per='all' and likelihood='categorical' with prior_by='held_out', got "
                f"prior_per={self.prior_per!r}, likelihood={self.likelihood!r}."
            )
        limited = {"parameter": ("diag",), "layer": ("full", "kron", "diag"), "all": CURVATURES}[self.prior_per]
        if self.curvature not in limited:
            raise ValueError(
                f"Expected prior_per={self.prior_per!r} with curvature {' or '.join(limited)}, "
                f"got curvature={self.curvature!r}."
            )

    @property
    def fit_splits(self) -> tuple[str, ...]:
        """Which examples of an experiment :meth:`fit` takes."""
        return ("train", "validation") if self._by_held_out else ("train",)

    @property
    def _subnetwork(self) -> Subnetwork | None:
        return None if isinstance(self.weights, str | tuple) else self.weights

    @property
    def _by_held_out(self) -> bool:
        return self.prior_by == "held_out" and self.prior_precision is None

    def coverage(self, model: Model, variables: PyTree, image_shape: tuple[int, int, int]) -> list[Coverage]:
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

    def fit(
        self,
        key: PRNGKey | None,
        model: Model,
        variables: PyTree,
        batches: Iterable[Batch],
        held_out: Iterable[Batch] | None = None,
    ) -> LaplacePosterior:
        """The posterior at trained weights.

        Args:
            key: of weights chosen at random or by SWAG, and of the first vector of a low rank; may be None elsewhere.
            model: a network, with ``apply(variables, images, train=False) -> Output``.
            variables: trained; ``{"params": …, …}``.
            batches: the training data, as they are; held in memory by subnetworks and curvatures of low rank.
            held_out: what the network was not trained on, for a prior precision that is chosen by them.

        Raises:
            ValueError: if a key or held-out examples are missing, there are no data, a layer is unknown, a batch norm
                is in training mode, parameters have no rule, a subnetwork is larger than the network, memory does not
                suffice, or the curvature is not finite.
        """
        if key is None and self._subnetwork is not None and is_random(self._subnetwork):
            raise ValueError(f"Expected a key to choose {self.weights!r} by, got key=None.")
        if self._by_held_out and held_out is None:
            raise ValueError("Expected held_out examples to choose the prior precision by, got held_out=None.")
        batches = iter(batches)
        first = next(batches, None)
        if first is None:
            raise ValueError("Expected data to fit, got none.")
        batches = itertools.chain((first,), batches)
        blocks = self._blocks(model, variables, image_shape(first.image))
        if self._subnetwork or self.curvature == "low_rank":
            batches = list(batches)
        loss = Loss(model, blocks, self.fisher, self.likelihood, self.sigma)
        curvature, log_likelihood = self._curvature(key, loss, variables, batches)
        posterior = LaplacePosterior(
            variables=variables,
            curvature=curvature,
            log_likelihood=log_likelihood,
            prior_precision=jnp.float32(1.0 if self.prior_precision is None else self.prior_precision),
            model=model,
            blocks=blocks,
            byte_budget=self.byte_budget,
        )
        if self._by_held_out and held_out is not None:
            return posterior.validated(held_out)[0]
        return posterior if self.prior_precision is not None else posterior.tuned(self.prior_per)

    def _blocks(self, model: Model, variables: PyTree, image_shape: tuple[int, int, int]) -> tuple[Block, ...]:
        blocks = network_blocks(model, variables, image_shape, separate_bias=self.separate_bias)
        if isinstance(self.weights, str | tuple):
            blocks = chosen_blocks(blocks, self.weights)
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
        self, key: PRNGKey | None, loss: Loss, variables: PyTree, batches: Iterable[Batch]
    ) -> tuple[Curvature, Float[Array, ""]]:
        add_up = partial(curvature_sums, loss, variables=variables, batches=batches, byte_budget=self.byte_budget)
        if self.curvature == "diag":
            sums, _, log_likelihood = add_up("diag", chosen={})
            return curvatures.Diag(sums), log_likelihood
        if self.curvature == "kron":
            sums, count, log_likelihood = add_up("kron", chosen={})
            return curvatures.kron_curvature(loss.blocks, sums, count), log_likelihood
        if self.curvature == "low_rank":
            return self._low_rank(key, loss, variables, batches)
        chosen = {block.name: jnp.arange(block.size) for block in loss.blocks}
        if (subnetwork := self._subnetwork) is not None:
            values, variances = block_values(loss.blocks, variables["params"]), None
            if isinstance(subnetwork, LargestVariance):
                variances = self._variances(key, subnetwork.swag, loss, variables, batches)
            scores = subnetwork_scores(key, subnetwork, values, variances)
            chosen = greatest(loss.blocks, scores, subnetwork.num_weights)
        num_weights = sum(len(places) for places in chosen.values())
        # The matrix, what is added to it, and in double precision it, its eigenvectors, and work of twice the size.
        self._check_memory(f"a full curvature of {num_weights} weights", 56 * num_weights**2)
        sums, _, log_likelihood = add_up("full", chosen=chosen)
        return curvatures.full_curvature(sums, chosen), log_likelihood

    def _variances(
        self, key: PRNGKey | None, swag: Swag | None, loss: Loss, variables: PyTree, batches: Iterable[Batch]
    ) -> dict[str, Matrix]:
        """What grows with the weights' variances, by block."""
        # Without a path nothing is random; with one, there is a key.
        if swag is None or key is None:
            # One prior precision is added to all.
            sums = curvature_sums(loss, "diag", variables, {}, batches, byte_budget=self.byte_budget)[0]
            return jax.tree.map(jnp.negative, sums)
        squares = swag.moments(key, loss.model, variables, batches).squares
        return block_values(loss.blocks, uncommitted(squares))

    def _low_rank(
        self, key: PRNGKey | None, loss: Loss, variables: PyTree, batches: Iterable[Batch]
    ) -> tuple[Curvature, Float[Array, ""]]:
        size = sum(block.size for block in loss.blocks)
        if self.rank >= size:
            raise ValueError(f"Expected rank below the number of weights, {size}, got rank={self.rank}.")
        self._check_memory(f"{self.rank} vectors of {size} weights", 12 * self.rank * size)
        start = jax.random.normal(jax.random.key(0) if key is None else key, (size,))
        variables, kept = on_one_cpu(variables), list(map(on_one_cpu, batches))

        def multiply(vector: dict[str, Matrix]) -> dict[str, Matrix]:
            product = jax.tree.map(jnp.zeros_like, vector)
            for batch in kept:
                product = add_ggn_product(loss, product, variables, vector, batch)
            return product

        total = jnp.zeros(())
        for batch in kept:
            total = add_log_likelihood(loss, total, variables, batch)
        if not any(batch.mask.any() for batch in kept):
            raise ValueError("Expected data to fit, got none.")
        if not jnp.isfinite(total):
            raise ValueError("The likelihood is not finite: the network's outputs overflow.")
        curvature = curvatures.low_rank_curvature(multiply, loss.blocks, self.rank, np.asarray(start))
        return curvature, uncommitted(total)

    def _check_memory(self, what: str, needed: int) -> None:
        if needed > self.byte_budget:
            raise ValueError(
                f"Expected a byte_budget that holds {what}, about {needed:,} bytes, got "
                f"byte_budget={self.byte_budget:,}."
            )
