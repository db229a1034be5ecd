"""Laplace approximations of the weights of a network's last layer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree
from scipy import optimize

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.mixtures import mixture_logits
from robust_jax.types import Batch, Images, Labels, PRNGKey

CURVATURES = ("full", "kron", "diag")
LIKELIHOODS = ("categorical", "gaussian")
LINKS = ("probit", "bridge", "monte_carlo")
Curvature = Literal["full", "kron", "diag"]
Likelihood = Literal["categorical", "gaussian"]
Link = Literal["probit", "bridge", "monte_carlo"]
HEAD = "head"
"""Name of the last layer among the parameters."""
LOG_PRECISIONS = (-9.2, 9.2)
"""Where the logarithm of the prior precision is looked for: 1e-4 to 1e4."""

Features = Float[Array, "b f"]
"""What the last layer reads, and a one for its bias."""
Logits = Float[Array, "b k"]
Covariances = Float[Array, "b k k"]


class Full(NamedTuple):
    """The GGN in the basis of its eigenvectors; weights are ordered by class, then feature."""

    values: Float[Array, "kf"]
    vectors: Float[Array, "kf kf"]


class Kron(NamedTuple):
    r"""Eigenvalues and eigenvectors of both factors of :math:`B \otimes A`."""

    class_values: Float[Array, "k"]
    class_vectors: Float[Array, "k k"]
    feature_values: Float[Array, "f"]
    feature_vectors: Float[Array, "f f"]


class Diag(NamedTuple):
    """The diagonal of the GGN."""

    values: Float[Array, "k f"]


@dataclasses.dataclass(frozen=True)
class LastLayerLaplace:
    r"""A normal distribution over the last layer's weights, with the generalised Gauss–Newton matrix as its curvature.

    With φ what the layer reads, a one for the bias included, and Λ the Hessian of the loss in the logits, diag(p) − ppᵀ
    or with a Gaussian likelihood I / σ², the precision is

    .. math:: \text{full: } \sum_n \Lambda_n \otimes \phi_n \phi_n^\top + \delta I, \quad
        \text{kron: } \sum_n \Lambda_n \otimes \frac{1}{N} \sum_n \phi_n \phi_n^\top + \delta I, \quad
        \text{diag: } \mathrm{diag}(\text{full}).

    Raises:
        ValueError: if a choice is unknown (the nearest is named) or a number not positive.

    References:
        Daxberger et al., "Laplace Redux" (arXiv 2106.14806); Kristiadi, Hein & Hennig (arXiv 2002.10118).
    """

    curvature: Curvature = "kron"
    """Form of the precision."""
    prior_precision: float | None = None
    """δ; None is chosen by the marginal likelihood."""
    likelihood: Likelihood = "categorical"
    """Of the labels: classes, or real numbers with normal noise."""
    sigma: float = 1.0
    """Standard deviation of that noise."""

    def __post_init__(self):
        check_choice("curvature", self.curvature, CURVATURES)
        check_choice("likelihood", self.likelihood, LIKELIHOODS)
        check_positive("sigma", self.sigma)
        if self.prior_precision is not None:
            check_positive("prior_precision", self.prior_precision)

    def fit(self, key: PRNGKey | None, model: Any, variables: PyTree, batches: Iterable[Batch]) -> LastLayerPosterior:
        """The posterior at trained weights.

        Args:
            key: not used.
            model: a network whose last layer is ``head``, with ``apply(variables, images, train=False) -> Output``.
            variables: trained; ``{"params": …, …}``.
            batches: the training data, as they are.

        Raises:
            ValueError: if there are no data, the network has no such layer, or its curvature is not finite.
        """
        del key
        if set(variables["params"].get(HEAD, ())) != {"kernel", "bias"}:
            raise ValueError(
                f"Expected a network whose last layer is {HEAD!r}, with a kernel and a bias; "
                f"got layers {', '.join(variables['params'])}."
            )
        total = None
        for batch in batches:
            sums = _sums(self.curvature, self.likelihood, self.sigma, model, variables, batch)
            total = sums if total is None else jax.tree.map(jnp.add, total, sums)
        if total is None or not total.count > 0:
            raise ValueError("Expected data to fit, got none.")
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(total)):
            raise ValueError("The curvature is not finite: the network's outputs overflow.")
        posterior = LastLayerPosterior(
            variables=variables,
            factors=_decomposed(self.curvature, total),
            log_likelihood=total.log_likelihood,
            prior_precision=jnp.float32(1.0 if self.prior_precision is None else self.prior_precision),
            model=model,
        )
        return posterior if self.prior_precision is not None else posterior.tuned()


class _Sums(NamedTuple):
    """Over examples."""

    count: Float[Array, ""]
    log_likelihood: Float[Array, ""]
    curvature: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LastLayerPosterior:
    """What :meth:`LastLayerLaplace.fit` finds; a pytree, so that a stack of them is vmapped as networks are."""

    variables: PyTree
    """The network's, with the mean of the last layer."""
    factors: Full | Kron | Diag
    """Of the curvature, without the prior."""
    log_likelihood: Float[Array, ""]
    """Of the data, at the mean."""
    prior_precision: Float[Array, ""]
    """δ."""
    model: Any = dataclasses.field(metadata={"static": True})
    """The network."""

    def logits_fn(self, key: PRNGKey | None = None, *, link: Link = "probit", num_samples: int = 100) -> Partial:
        """The predictive as a logits function.

        Args:
            key: of the draws of ``monte_carlo``, which are the same for all images.
            link: how normally distributed logits become probabilities: scaled by their variances (``probit``; MacKay,
                1992), by a Dirichlet distribution of like moments (``bridge``; Hobbhahn, Kristiadi & Hennig, arXiv
                2003.01227), or as the mean over draws (``monte_carlo``).
            num_samples: draws.

        Raises:
            ValueError: if the link is unknown, the number not positive, or a key is missing.
        """
        check_choice("link", link, LINKS)
        check_positive("num_samples", num_samples)
        if link == "monte_carlo" and key is None:
            raise ValueError("Expected a key for the draws of link='monte_carlo', got key=None.")
        return Partial(_Predictive(link, num_samples), self, key)

    def distribution(self, images: Images) -> tuple[Logits, Covariances]:
        """Mean and covariance of the logits of each image."""
        output = self.model.apply(self.variables, images, train=False)
        return output.logits, _covariances(self.factors, self.prior_precision, _with_one(output.features))

    def log_marginal_likelihood(self, prior_precision: Float[Array, ""] | float | None = None) -> Float[Array, ""]:
        r"""Laplace's approximation of the evidence, at the posterior's own prior precision or another.

        .. math:: \log p(D \mid \theta) - \frac{\delta}{2} \|\theta\|^2
            + \frac{1}{2} (P \log \delta - \log \det(H + \delta I))
        """
        delta = self.prior_precision if prior_precision is None else jnp.asarray(prior_precision, jnp.float32)
        head = self.variables["params"][HEAD]
        norm = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(head))
        values = _eigenvalues(self.factors)
        log_ratio = jnp.sum(jnp.log1p(values / delta))
        return self.log_likelihood - 0.5 * delta * norm - 0.5 * log_ratio

    def tuned(self) -> LastLayerPosterior:
        """With the prior precision, from 1e-4 to 1e4, of the greatest marginal likelihood."""
        evidence = jax.jit(lambda posterior, log_delta: posterior.log_marginal_likelihood(jnp.exp(log_delta)))
        found = optimize.minimize_scalar(
            lambda log_delta: -float(evidence(self, log_delta)), bounds=LOG_PRECISIONS, method="bounded"
        )
        return dataclasses.replace(self, prior_precision=jnp.float32(math.exp(found.x)))


@dataclasses.dataclass(frozen=True)
class _Predictive:
    link: Link
    num_samples: int

    def __call__(self, posterior: LastLayerPosterior, key: PRNGKey | None, images: Images) -> Logits:
        mean, covariance = posterior.distribution(images)
        if self.link == "monte_carlo":
            return _monte_carlo(key, mean, covariance, self.num_samples)
        return probit(mean, covariance) if self.link == "probit" else laplace_bridge(mean, covariance)


def probit(mean: Logits, covariance: Covariances) -> Logits:
    r"""Logits divided by :math:`\sqrt{1 + \pi \sigma^2 / 8}`, σ² being their variances."""
    return mean / jnp.sqrt(1 + jnp.pi / 8 * jnp.diagonal(covariance, axis1=-2, axis2=-1))


def laplace_bridge(mean: Logits, covariance: Covariances) -> Logits:
    r"""Log-probabilities of the mean of a Dirichlet distribution, from a normal one on logits that sum to 0.

    .. math:: \alpha_k = \frac{1}{\Sigma_{kk}} \Big(1 - \frac{2}{K} + \frac{e^{\mu_k}}{K^2} \sum_l e^{-\mu_l}\Big)
    """
    num_classes = mean.shape[-1]
    across = jnp.sum(covariance, axis=-1)
    total = jnp.sum(across, axis=-1, keepdims=True)
    mean = mean - across * jnp.sum(mean, axis=-1, keepdims=True) / total
    variance = jnp.diagonal(covariance, axis1=-2, axis2=-1) - across**2 / total
    inverse_sum = jax.nn.logsumexp(-mean, axis=-1, keepdims=True)
    alpha = (1 - 2 / num_classes + jnp.exp(mean + inverse_sum) / num_classes**2) / variance
    return jnp.log(alpha) - jnp.log(jnp.sum(alpha, axis=-1, keepdims=True))


def _monte_carlo(key: PRNGKey, mean: Logits, covariance: Covariances, num_samples: int) -> Logits:
    values, vectors = jnp.linalg.eigh(covariance)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0))[..., None, :]
    # The same for every image, so that a prediction depends on its image alone.
    noise = jax.random.normal(key, (num_samples, mean.shape[-1]))
    return mixture_logits(mean[None] + jnp.einsum("bkj,sj->sbk", root, noise))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sums(
    curvature: Curvature, likelihood: Likelihood, sigma: float, model: Any, variables: PyTree, batch: Batch
) -> _Sums:
    output = model.apply(variables, batch.image, train=False)
    weight = batch.mask.astype(jnp.float32)
    features, logits = _with_one(output.features), output.logits
    hessian, log_likelihood = _loss_curvature(likelihood, sigma, logits, batch.label)
    hessian = hessian * weight[:, None, None]
    precise = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    if curvature == "full":
        size = logits.shape[-1] * features.shape[-1]
        found = precise("bkl,bf,bg->kflg", hessian, features, features).reshape(size, size)
    elif curvature == "kron":
        found = (jnp.sum(hessian, axis=0), precise("b,bf,bg->fg", weight, features, features))
    else:
        found = precise("bkk,bf->kf", hessian, features**2)
    return _Sums(jnp.sum(weight), jnp.sum(weight * log_likelihood), found)


def _loss_curvature(
    likelihood: Likelihood, sigma: float, logits: Logits, labels: Labels
) -> tuple[Covariances, Float[Array, "b"]]:
    """The Hessian of the negative log-likelihood in the logits, and the log-likelihood."""
    if likelihood == "gaussian":
        identity = jnp.broadcast_to(jnp.eye(logits.shape[-1]), (*logits.shape, logits.shape[-1]))
        errors = jnp.sum((labels - logits) ** 2, axis=-1)
        constant = logits.shape[-1] * math.log(2 * math.pi * sigma**2)
        return identity / sigma**2, -0.5 * (errors / sigma**2 + constant)
    probs, log_probs = jax.nn.softmax(logits), jax.nn.log_softmax(logits)
    targets = jax.nn.one_hot(labels, logits.shape[-1]) if jnp.issubdtype(labels.dtype, jnp.integer) else labels
    hessian = jnp.eye(logits.shape[-1])[None] * probs[:, None] - probs[:, :, None] * probs[:, None]
    return hessian, jnp.sum(targets * log_probs, axis=-1)


def _with_one(features: Float[Array, "b d"]) -> Features:
    return jnp.concatenate([features, jnp.ones_like(features[:, :1])], axis=-1)


def _decomposed(curvature: Curvature, sums: _Sums) -> Full | Kron | Diag:
    if curvature == "diag":
        return Diag(sums.curvature)
    # On the host, in double precision: it is done once, and least eigenvalues are lost in single.
    eigh = lambda matrix: [jnp.asarray(part, jnp.float32) for part in np.linalg.eigh(np.asarray(matrix, np.float64))]  # noqa: E731
    if curvature == "full":
        values, vectors = eigh(sums.curvature)
        return Full(jnp.maximum(values, 0), vectors)
    classes, features = sums.curvature
    class_values, class_vectors = eigh(classes)
    feature_values, feature_vectors = eigh(features / sums.count)
    return Kron(jnp.maximum(class_values, 0), class_vectors, jnp.maximum(feature_values, 0), feature_vectors)


def _eigenvalues(factors: Full | Kron | Diag) -> Float[Array, "..."]:
    if isinstance(factors, Kron):
        return factors.class_values[:, None] * factors.feature_values[None]
    return factors.values


def _covariances(factors: Full | Kron | Diag, delta: Float[Array, ""], features: Features) -> Covariances:
    """Of the logits, by what their last layer reads."""
    precise = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    variances = 1 / (_eigenvalues(factors) + delta)
    if isinstance(factors, Diag):
        of_each = precise("bf,kf->bk", features**2, variances)
        return of_each[:, :, None] * jnp.eye(of_each.shape[-1])[None]
    if isinstance(factors, Kron):
        turned = precise("bf,fi->bi", features, factors.feature_vectors) ** 2
        of_each = precise("bi,ji->bj", turned, variances)
        return precise("kj,bj,lj->bkl", factors.class_vectors, of_each, factors.class_vectors)
    vectors = factors.vectors.reshape(-1, features.shape[-1], factors.vectors.shape[-1])
    turned = precise("bf,kfi->bki", features, vectors)
    return precise("bki,i,bli->bkl", turned, variances, turned)
