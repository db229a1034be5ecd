"""RMSE and NLL of predicted normal distributions on the test set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.core.checks import check_positive
from robust_jax.mathematics.gaussian import LEAST_VARIANCE, gaussian_mixture_nll, gaussian_nll
from robust_jax.posteriors import GaussianEnsemble, gaussian_mixture
from robust_jax.predictors import as_predictor
from robust_jax.suites.case import RowLabels, make_row, run_case
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.tasks import Regression
from robust_jax.types import Batch, Evaluation, LogitsFn, PRNGKey, Row

NAME = "regression"


@dataclasses.dataclass(frozen=True)
class RegressionSuite:
    r"""RMSE and NLL of a regression network or ensemble, in the data's units.

    ``nll`` is of the normal distribution with the mean and variance of the members' mixture, as published;
    ``mixture_nll`` of the mixture's own density. They are equal for one network.

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

    def __post_init__(self):
        check_positive("least_variance", self.least_variance)

    @property
    def num_cases(self) -> int:
        return 1

    def rows(
        self,
        key: PRNGKey,
        predictor: LogitsFn,
        data: Evaluation,
        *,
        store: CaseStore | None = None,
        labels: RowLabels = RowLabels(),
        advance: Callable[[], None] = lambda: None,
    ) -> Iterator[Row]:
        """Yield the rows of the case ``test``, with 95 % bootstrap intervals over examples.

        Args:
            key: not used.
            predictor: images to means and variances [b, 2d], or to means [b, d] without ``variance``; the members of a
                :class:`~robust_jax.posteriors.GaussianEnsemble` are mixed.
            data: the examples, with real targets.
            store: where the finished case is kept and looked for.
            labels: of the rows.
            advance: called at the end.
        """
        del key
        if not data.target_scale:
            raise ValueError(f"Expected data with real targets, got {data.name} with {data.num_classes} classes.")
        store = store or CaseStore()
        folder = f"{NAME}_{digest(identity(data), data.target_scale, self)}"
        table = store.get(folder, "test")
        if table is None:
            predictor = predictor if isinstance(predictor, GaussianEnsemble) else as_predictor(predictor)
            task = Regression(
                len(data.target_scale), self.variance, scale=data.target_scale, least_variance=self.least_variance
            )
            table = run_case(partial(_measure, task, predictor), data)
            store.put(folder, "test", table)
        advance()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME, "severity": None}
        yield from _rows(table, **columns)


def _rows(table: Table, **columns) -> Iterator[Row]:
    count = len(table["squared_error"])
    rmse = metrics.bootstrap_interval(table["squared_error"], lambda means: np.sqrt(means[..., 0]))
    yield make_row("rmse", rmse, count, **columns, case="test")
    for name in ("nll", "mixture_nll"):
        if name in table:
            yield make_row(name, metrics.bootstrap_interval(table[name]), count, **columns, case="test")


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
