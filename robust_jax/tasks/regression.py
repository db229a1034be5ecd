"""Regression: predictions are real targets, or normal distributions of them."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_positive
from robust_jax.mathematics.gaussian import LEAST_VARIANCE, gaussian_nll, mean_and_variance
from robust_jax.types import Shaped


@dataclasses.dataclass(frozen=True)
class Regression:
    """Real targets f32[b, d], predicted as d means, or as d means and d variances through a softplus.

    Targets and predictions are standardised; measures are in the data's units: with the target's unit s, squared
    errors are multiplied by s² and the NLL increases by log s.

    Raises:
        ValueError: if a number is out of range, or ``scale`` has another length than ``num_targets``; when run, if
            predictions or targets have other shapes.
    """

    num_targets: int
    """Number of targets, d."""
    variance: bool = True
    """Whether the network predicts variances too, in 2d outputs (see ``mathematics.gaussian.mean_and_variance``);
    without, the likelihood has variance 1 in standardised units."""
    scale: tuple[float, ...] = ()
    """Unit of each standardised target in the data's units; () is 1 for each."""
    least_variance: float = LEAST_VARIANCE
    """Added to every variance, as in the objective."""

    def __post_init__(self):
        check_positive("num_targets", self.num_targets)
        check_positive("least_variance", self.least_variance)
        if len(self.scale) not in (0, self.num_targets):
            raise ValueError(f"Expected scale with {self.num_targets} entries or none, got scale={self.scale!r}.")
        for unit in self.scale:
            check_positive("scale", unit)

    @property
    def num_outputs(self) -> int:
        """Number of outputs of the network."""
        return 2 * self.num_targets if self.variance else self.num_targets

    def check(self, prediction: Shaped, label: Shaped) -> None:
        """Raise ``ValueError`` unless predictions are [b, d], or [b, 2d] with variances, and targets float [b, d]."""
        size = prediction.shape[0] if prediction.shape else None
        real = jnp.issubdtype(label.dtype, jnp.floating)
        if prediction.shape != (size, self.num_outputs) or label.shape != (size, self.num_targets) or not real:
            raise ValueError(
                f"Expected predictions [b, {self.num_outputs}] and labels float [b, {self.num_targets}] for {self}, "
                f"got predictions {prediction.shape} and labels {label.dtype} {label.shape}."
            )

    def normal(self, prediction: Float[Array, "b o"]) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """Return the predicted mean and variance, in standardised units."""
        if self.variance:
            return mean_and_variance(prediction, least_variance=self.least_variance)
        return prediction, jnp.ones_like(prediction)

    def rescaled(self, values: Float[Array, "... b d"], *, power: int = 1) -> Float[Array, "... b d"]:
        """Convert standardised means or targets, or with ``power=2`` variances, to the data's units."""
        if not self.scale:
            return values
        return values * jnp.asarray(self.scale, values.dtype).reshape((1,) * (values.ndim - 1) + (-1,)) ** power

    def log_likelihood(self, prediction: Float[Array, "b o"], label: Float[Array, "b d"]) -> Float[Array, "b"]:
        """Log-density of the targets in the data's units, in nats."""
        self.check(prediction, label)
        mean, variance = self.normal(prediction)
        return -gaussian_nll(self.rescaled(mean), self.rescaled(variance, power=2), self.rescaled(label))

    def measures(self, prediction: Float[Array, "b o"], label: Float[Array, "b d"]) -> dict[str, Float[Array, "b"]]:
        """Return ``squared_error``, the mean over the targets, and with variances ``nll``, of each example.

        The RMSE is the root of the mean squared error.
        """
        self.check(prediction, label)
        mean, _ = self.normal(prediction)
        errors = jnp.mean(self.rescaled(mean - label) ** 2, axis=-1)
        if not self.variance:
            return {"squared_error": errors}
        return {"squared_error": errors, "nll": -self.log_likelihood(prediction, label)}
