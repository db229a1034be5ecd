"""Priors of the weights that samplers take: independent ones of three families, and how a prior is scaled.

Samplers move in units of the prior's scale: weights are a linear map of *unit* weights, which are independent and of
scale 1 under the prior. A prior of strong correlations is then as easy to sample as one of none.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_positive
from robust_jax.types import Images, Model


class Family(Protocol):
    """A distribution of one weight in units of the prior's scale."""

    def unit_log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the log density at scale 1, elementwise."""
        ...


class Prior(Protocol):
    """A distribution of a network's weights, given their shapes and the images that the network sees."""

    def fit(self, model: Model, params: PyTree, images: Images) -> FittedPrior:
        """Return the distribution of weights like ``params``."""
        ...


@dataclasses.dataclass(frozen=True)
class GaussianPrior:
    """Independent normal distributions of mean 0.

    Raises:
        ValueError: if the scale is not positive.
    """

    scale: float = 1.0
    """Standard deviation; a prior precision δ, or the weight decay δ / N of a mean loss over N examples, is
    1 / √δ."""

    def __post_init__(self):
        check_positive("scale", self.scale)

    def fit(self, model: Model, params: PyTree, images: Images) -> FittedPrior:
        """For weights like ``params``."""
        del model, images
        return independent(self, params, self.scale)

    def unit_log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Of scale 1, elementwise."""
        return jax.scipy.stats.norm.logpdf(x)


@dataclasses.dataclass(frozen=True)
class LaplacePrior:
    """Independent Laplace distributions of mean 0.

    Raises:
        ValueError: if the scale is not positive.
    """

    scale: float = 1.0
    """b of the density exp(-|w| / b) / 2b; the standard deviation is √2 b."""

    def __post_init__(self):
        check_positive("scale", self.scale)

    def fit(self, model: Model, params: PyTree, images: Images) -> FittedPrior:
        """For weights like ``params``."""
        del model, images
        return independent(self, params, self.scale)

    def unit_log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Of scale 1, elementwise."""
        return jax.scipy.stats.laplace.logpdf(x)


@dataclasses.dataclass(frozen=True)
class StudentPrior:
    """Independent Student t distributions of mean 0.

    Raises:
        ValueError: if a number is not positive.
    """

    scale: float = 1.0
    """What a t-distributed number is multiplied by."""
    degrees: float = 3.0
    """Degrees of freedom ν; the fewer, the heavier the tails."""

    def __post_init__(self):
        check_positive("scale", self.scale)
        check_positive("degrees", self.degrees)

    def fit(self, model: Model, params: PyTree, images: Images) -> FittedPrior:
        """For weights like ``params``."""
        del model, images
        return independent(self, params, self.scale)

    def unit_log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Of scale 1, elementwise."""
        return jax.scipy.stats.t.logpdf(x, self.degrees)


class Axes(NamedTuple):
    """The covariance of what a kernel reads, one number for each of its n inputs, in the basis of its eigenvectors."""

    values: Float[Array, "n"]
    vectors: Float[Array, "n n"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FittedPrior:
    """A distribution over weights of known shapes: unit weights of a family, scaled or turned.

    A pytree. ``scales`` has for each array of weights one number, or for a kernel whose columns are correlated the
    :class:`Axes` of their covariance.
    """

    scales: PyTree
    """See above."""
    family: Family = dataclasses.field(metadata={"static": True})
    """Gives ``unit_log_density``."""

    def weights(self, unit: PyTree) -> PyTree:
        r"""From unit weights: :math:`s\,u`, or :math:`V \Lambda^{1/2} u`."""
        return jax.tree.map(_scaled, unit, self.scales)

    def unit(self, weights: PyTree) -> PyTree:
        """The inverse of :meth:`weights`."""
        return jax.tree.map(_unscaled, weights, self.scales)

    def unit_log_density(self, unit: PyTree) -> Float[Array, ""]:
        """Of unit weights, all together."""
        return sum((jnp.sum(self.family.unit_log_density(leaf)) for leaf in jax.tree.leaves(unit)), jnp.float32(0))

    def log_density(self, weights: PyTree) -> Float[Array, ""]:
        """Of weights, all together."""
        log_volumes = jax.tree.leaves(jax.tree.map(_log_volume, weights, self.scales))
        return self.unit_log_density(self.unit(weights)) - sum(log_volumes)


def independent(family: Family, params: PyTree, scale: float) -> FittedPrior:
    """All weights of one scale."""
    return FittedPrior(jax.tree.map(lambda _: jnp.float32(scale), params), family)


# Eigenvectors are orthogonal to each other in full precision only.
_precise = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _scaled(unit: Array, scale: Array | Axes) -> Array:
    if not isinstance(scale, Axes):
        return scale * unit
    rows = jnp.sqrt(scale.values)[:, None] * _as_rows(unit)
    return _precise(scale.vectors, rows).reshape(unit.shape)


def _unscaled(weights: Array, scale: Array | Axes) -> Array:
    if not isinstance(scale, Axes):
        return weights / scale
    rows = _precise(scale.vectors.T, _as_rows(weights))
    return (rows / jnp.sqrt(scale.values)[:, None]).reshape(weights.shape)


def _log_volume(weights: Array, scale: Array | Axes) -> Float[Array, ""]:
    if not isinstance(scale, Axes):
        return math.prod(weights.shape) * jnp.log(scale)
    return weights.shape[-1] * jnp.sum(jnp.log(scale.values)) / 2


def _as_rows(kernel: Array) -> Float[Array, "n k"]:
    """All inputs of a kernel, a convolution's in the order of height, width and channel."""
    return kernel.reshape(-1, kernel.shape[-1])
