"""The Mahalanobis distance of features to the nearest class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import linalg

from robust_jax.core.checks import check_non_negative
from robust_jax.core.mesh import to_host
from robust_jax.detectors.base import Detector
from robust_jax.predictors import Ensemble, HasFeatures
from robust_jax.types import Batch, Images, LogitsFn


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MahalanobisScore:
    """The squared distance to the nearest class mean, averaged over the members of an ensemble."""

    means: Float[Array, "m k f"]
    """Class means of the features of each member."""
    whitening: Float[Array, "m f r"]
    """W of each member, with :math:`W W^T = \\Sigma^{-1}` on the span of the features."""

    def __call__(self, predictor: LogitsFn, images: Images) -> Float[Array, "b"]:
        features = _member_features(predictor, images)
        white = jnp.einsum("mbf,mfr->mbr", features, self.whitening)
        centres = jnp.einsum("mkf,mfr->mkr", self.means, self.whitening)
        distances = jnp.sum((white[:, :, None] - centres[:, None]) ** 2, axis=-1)
        return jnp.mean(jnp.min(distances, axis=-1), axis=0)


@dataclasses.dataclass(frozen=True)
class Mahalanobis(Detector):
    r"""Squared Mahalanobis distance of the features to the nearest class.

    .. math:: \min_c (f(x) - \mu_c)^T \Sigma^{-1} (f(x) - \mu_c), \quad
        \Sigma = \frac{1}{n} \sum_i (f(x_i) - \mu_{y_i}) (f(x_i) - \mu_{y_i})^T

    with the means and the shared covariance of the training examples' features, those that the last layer reads.
    Directions in which the features hardly vary are left out. The paper also perturbs inputs and combines layers, which
    is not done here.

    Raises:
        ValueError: if ``cutoff`` is negative; when fitted, if the predictor has no features, or a class no example.

    References:
        Lee, Lee, Lee & Shin (arXiv 1807.03888), equations 1 and 2.
    """

    name: ClassVar[str] = "mahalanobis"
    fitted: ClassVar[bool] = True

    cutoff: float = 1e-6
    """Eigenvalues of the covariance below this fraction of the largest are left out."""

    def __post_init__(self):
        check_non_negative("cutoff", self.cutoff)

    def fit(self, predictor: LogitsFn, batches: Iterable[Batch]) -> MahalanobisScore:
        """Fit class means and the shared covariance, in float64 on the host.

        Args:
            predictor: a network, or an ensemble of networks.
            batches: training examples with classes.
        """
        features, labels = [], []
        for batch in batches:
            found, label, mask = to_host((_features(predictor, batch.image), batch.label, batch.mask))
            features.append(np.asarray(found, np.float64)[:, mask])
            labels.append(np.asarray(label)[mask])
        if not labels:
            raise ValueError("Expected training examples to fit the Mahalanobis distance to, got none.")
        values, classes = np.concatenate(features, axis=1), np.concatenate(labels)
        means, whitenings = zip(*(_fit(member, classes, self.cutoff) for member in values), strict=True)
        # Members may keep different numbers of directions.
        rank = max(whitening.shape[1] for whitening in whitenings)
        padded = [np.pad(whitening, ((0, 0), (0, rank - whitening.shape[1]))) for whitening in whitenings]
        return MahalanobisScore(jnp.asarray(np.stack(means), float), jnp.asarray(np.stack(padded), float))


def _fit(
    features: Float[np.ndarray, "n f"], labels: np.ndarray, cutoff: float
) -> tuple[Float[np.ndarray, "k f"], Float[np.ndarray, "f r"]]:
    counts = np.bincount(labels)
    if (counts == 0).any():
        raise ValueError(f"Expected training examples of every class, got none of {np.flatnonzero(counts == 0)}.")
    means = np.stack([features[labels == label].mean(axis=0) for label in range(len(counts))])
    centred = features - means[labels]
    values, vectors = linalg.eigh(centred.T @ centred / len(labels))
    kept = values > cutoff * values[-1]
    return means, vectors[:, kept] / np.sqrt(values[kept])


def _member_features(predictor: LogitsFn, images: Images) -> Float[Array, "m b f"]:
    if isinstance(predictor, HasFeatures):
        return predictor.output(images).features[None]
    if isinstance(predictor, Ensemble) and isinstance(predictor.stacked, HasFeatures):
        return jax.lax.map(lambda member: member.output(images).features, predictor.stacked)
    raise ValueError(
        f"Expected a predictor with features, such as a network or an ensemble of networks, got "
        f"{type(predictor).__name__}."
    )


_features = jax.jit(_member_features)
