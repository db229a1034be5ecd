"""RMSE and NLL of predicted normal distributions on the test set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.core.checks import check_positive
from robust_jax.declarations import Column
from robust_jax.mathematics.gaussian import LEAST_VARIANCE, gaussian_mixture_nll, gaussian_nll
from robust_jax.posteriors import GaussianEnsemble, gaussian_mixture
from robust_jax.predictors import as_predictor
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, run_case
from robust_jax.suites.store import Table
from robust_jax.tasks import Regression
from robust_jax.types import Batch, LogitsFn, Row

NAME = "regression"
CASE = "test"


@dataclasses.dataclass(frozen=True)
class RegressionSuite(Suite):
    r"""RMSE and NLL of a regression network or ensemble, in the data's units.

    ``nll`` is of the normal distribution with the mean and variance of the members' mixture, as published;
    ``mixture_nll`` of the mixture's own density. They are equal for one network. The predictor returns means and
    variances [b, 2d], or means [b, d] without ``variance``; the members of a
    :class:`~robust_jax.posteriors.GaussianEnsemble` are mixed.

    Raises:
        ValueError: if ``least_variance`` is not positive; when run, if the data have no real targets or the
            predictions do not fit them.

    References:
        Lakshminarayanan, Pritzel & Blundell (arXiv 1612.01474), sections 2.4 and 3.2.
    """

    variance: bool = True
    """Whether the predictor returns variances beside means; without, there is an RMSE only."""
    least_variance: float = LEAST_VARIANCE
    """Added to every variance, as in the objective."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        check_positive("least_variance", self.least_variance)

    @property
    def columns(self) -> tuple[Column, ...]:
        nlls = (Column("Gaussian NLL", CASE, "nll", digits=3), Column("mixture NLL", CASE, "mixture_nll", digits=3))
        return (Column("RMSE", CASE, "rmse", digits=4), *(nlls if self.variance else ()))

    def rows(self, context: Context) -> Iterator[Row]:
        """Yield the rows of the case ``test``, with 95 % bootstrap intervals over examples."""
        data, predictor = context.data, context.predictor
        if not data.target_scale:
            raise ValueError(f"Expected data with real targets, got {data.name} with {data.num_classes} classes.")
        predictor = predictor if isinstance(predictor, GaussianEnsemble) else as_predictor(predictor)
        scale = data.target_scale
        task = Regression(len(scale), self.variance, scale=scale, least_variance=self.least_variance)
        folder = context.folder(NAME, self)
        table = context.store.table(folder, CASE, lambda: run_case(partial(_measure, task, predictor), data))
        context.advance()
        fields = {**context.fields(self.name), "severity": None}
        yield from _rows(table, **fields)


def _rows(table: Table, **fields) -> Iterator[Row]:
    count = len(table["squared_error"])
    rmse = metrics.bootstrap_interval(table["squared_error"], lambda means: np.sqrt(means[..., 0]))
    yield make_row("rmse", rmse, count, **fields, case=CASE)
    for name in ("nll", "mixture_nll"):
        if name in table:
            yield make_row(name, metrics.bootstrap_interval(table[name]), count, **fields, case=CASE)


@partial(jax.jit, static_argnums=0)
def _measure(task: Regression, predictor: LogitsFn, batch: Batch) -> dict[str, Float[Array, "b"]]:
    several = isinstance(predictor, GaussianEnsemble)
    outputs = predictor.members(batch.image) if several else predictor(batch.image)[None]
    task.check(outputs[0], batch.label)
    means, variances = jax.vmap(task.normal)(outputs)
    means, variances = task.rescaled(means), task.rescaled(variances, power=2)
    targets = task.rescaled(batch.label)
    mean, variance = gaussian_mixture(means, variances)
    found = {"squared_error": jnp.mean((mean - targets) ** 2, axis=-1)}
    if task.variance:
        found["nll"] = gaussian_nll(mean, variance, targets)
        found["mixture_nll"] = gaussian_mixture_nll(means, variances, targets)
    return found
