"""The test images as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from robust_jax import metrics
from robust_jax.core.checks import check_positive
from robust_jax.suites.case import RowLabels, admitted, make_row, measure_batch, metric_rows, run_case
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.types import Evaluation, LogitsFn, PRNGKey, Row

NAME = "clean"


@dataclasses.dataclass(frozen=True)
class Clean:
    """Error, NLL, Brier score, ECE and its debiased square, and the bins of a reliability diagram."""

    num_bins: int = 15
    """Bins of the reliability diagram, the ECE and its square."""

    def __post_init__(self):
        check_positive("num_bins", self.num_bins)

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
        """Yields the rows, with 95 % bootstrap intervals over examples.

        That of the debiased square is normal, see :func:`~robust_jax.metrics.debiased_squared_calibration_interval`.
        Accuracies of bins, which may hold one example, have Wilson's.

        Args:
            key: not used.
            predictor: any callable from images to logits.
            data: the examples.
            store: where a finished case is kept and looked for.
            labels: of the rows.
            advance: called after every case.
        """
        del key
        table = clean_table(predictor, data, store or CaseStore())
        advance()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME, "severity": None}
        yield from metric_rows(table, num_bins=self.num_bins, **columns, case="clean")
        correct = 1 - table["error"]
        squared = metrics.debiased_squared_calibration_interval(table["confidence"], correct, num_bins=self.num_bins)
        yield make_row("debiased_squared_ece", squared, data.num_examples, **columns, case="clean")
        yield from self._reliability(table, columns)

    def _reliability(self, table: Table, columns: dict) -> Iterator[Row]:
        correct = 1 - table["error"]
        bins = metrics.reliability_bins(table["confidence"], correct, num_bins=self.num_bins)
        index = metrics.bin_index(table["confidence"], self.num_bins)
        for i in np.flatnonzero(bins.count):
            case = f"bin {bins.edges[i]:.3f}-{bins.edges[i + 1]:.3f}"
            count = int(bins.count[i])
            confidence = metrics.bootstrap_interval(table["confidence"][index == i])
            yield make_row("confidence", confidence, count, **columns, case=case)
            yield make_row(
                "accuracy", metrics.proportion_interval(correct[index == i].sum(), count), count, **columns, case=case
            )


def clean_table(predictor: LogitsFn, data: Evaluation, store: CaseStore) -> Table:
    """Per-example measures of the images as they are, computed once for all suites that share the store."""
    suite = f"{NAME}_{digest(identity(data))}"
    table = store.get(suite, NAME)
    if table is None:
        table = run_case(partial(measure_batch, admitted(predictor, data)), data)
        store.put(suite, NAME, table)
    return table
