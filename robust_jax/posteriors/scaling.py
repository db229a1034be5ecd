"""Temperature and vector scaling: logits recalibrated by numbers fitted on held-out examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree
from scipy import optimize, special

from robust_jax import models
from robust_jax.mathematics.temperature import fit_temperature, mean_nll
from robust_jax.posteriors.held_out import check_every_class, held_out_logits
from robust_jax.predictors import Scaled, as_predictor
from robust_jax.types import Batch, LogitsFn, Model, PRNGKey


@dataclasses.dataclass(frozen=True)
class TemperatureScaling:
    r"""Logits divided by the temperature T of the least NLL on held-out examples.

    .. math:: \min_T -\frac{1}{n} \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    No prediction changes its class. In an experiment of several members each has a temperature of its own.

    References:
        Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), section 4.2.
    """

    fit_splits: ClassVar[tuple[str, ...]] = ("validation",)

    def fit(self, key: PRNGKey | None, model: Model, variables: PyTree, batches: Iterable[Batch]) -> Scaled:
        """The temperature of a network.

        Args:
            key: not used.
            model: a network, with ``apply(variables, images, train=False) -> Output``.
            variables: trained.
            batches: examples that it has not been trained on.

        Raises:
            ValueError: as :meth:`recalibrate`.
        """
        del key
        return self.recalibrate(models.predictor(model, variables), batches)

    def recalibrate(self, predictor: LogitsFn, batches: Iterable[Batch]) -> Scaled:
        """The temperature of any classifier, such as a whole ensemble.

        Raises:
            ValueError: if there are no examples, logits are not finite, or all predictions are right: then every lower
                temperature is better.
        """
        logits, labels = _some_wrong(*held_out_logits(predictor, batches))
        temperature = fit_temperature(logits, labels)
        return Scaled(as_predictor(predictor), jnp.full(1, 1 / temperature, jnp.float32), jnp.zeros(1))


@dataclasses.dataclass(frozen=True)
class VectorScaling:
    r"""A scale w and a shift b of each class's logit, of the least NLL on held-out examples.

    .. math:: \min_{w, b} -\frac{1}{n} \sum_i \log \mathrm{softmax}(w \odot z_i + b)_{y_i}

    The problem is convex; the shifts add up to 0.

    References:
        Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), section 4.2.
    """

    fit_splits: ClassVar[tuple[str, ...]] = ("validation",)

    def fit(self, key: PRNGKey | None, model: Model, variables: PyTree, batches: Iterable[Batch]) -> Scaled:
        """Scales and shifts of a network; arguments as :meth:`TemperatureScaling.fit`.

        Raises:
            ValueError: as :meth:`recalibrate`.
        """
        del key
        return self.recalibrate(models.predictor(model, variables), batches)

    def recalibrate(self, predictor: LogitsFn, batches: Iterable[Batch]) -> Scaled:
        """Scales and shifts of any classifier.

        Raises:
            ValueError: if there are fewer examples than the 2 k numbers or none of some class, logits are not finite,
                or all predictions are right.
        """
        logits, labels = _some_wrong(*held_out_logits(predictor, batches))
        size, num_classes = logits.shape
        if size < 2 * num_classes:
            raise ValueError(
                f"Expected {2 * num_classes} held-out examples or more for {num_classes} classes, got {size}."
            )
        check_every_class(labels, num_classes)
        scale, shift = _fit_vector(logits.astype(np.float64), labels)
        return Scaled(as_predictor(predictor), jnp.asarray(scale, jnp.float32), jnp.asarray(shift, jnp.float32))


def _some_wrong(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]):
    if (logits.argmax(axis=1) == labels).all():
        raise ValueError(f"All {len(labels)} held-out predictions are right, so no scale is best: hold out more.")
    return logits, labels


def _fit_vector(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    size, num_classes = logits.shape
    is_class = np.eye(num_classes)[labels]

    def loss(numbers: Float[np.ndarray, "2k"]) -> tuple[float, Float[np.ndarray, "2k"]]:
        scale, shift = np.split(numbers, 2)
        z = logits * scale + shift
        slope = (special.softmax(z, axis=1) - is_class) / size
        return mean_nll(z, labels), np.concatenate([(slope * logits).sum(axis=0), slope.sum(axis=0)])

    start = np.repeat([1.0, 0.0], num_classes)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14})
    scale, shift = np.split(found.x, 2)
    return scale, shift
