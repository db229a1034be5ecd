"""The test images as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import numpy as np

from robust_jax import metrics
from robust_jax.core.checks import check_positive
from robust_jax.declarations import Column, Figure, Reliability
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, measure_batch, metric_rows, run_case
from robust_jax.suites.store import Table
from robust_jax.types import Row

NAME = "clean"


@dataclasses.dataclass(frozen=True)
class Clean(Suite):
    """Error, NLL, Brier score, ECE and its debiased square, and the bins of a reliability diagram."""

    num_bins: int = 15
    """Bins of the reliability diagram, the ECE and its square."""

    name: ClassVar[str] = NAME
    baseline: ClassVar[str | None] = NAME

    def __post_init__(self):
        check_positive("num_bins", self.num_bins)

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("clean error %", NAME, "error", scale=100),
            Column("NLL", NAME, "nll", digits=3, secondary=True),
            Column("Brier", NAME, "brier", digits=3, secondary=True),
            Column("ECE %", NAME, "ece", scale=100, secondary=True),
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        return (Reliability(),)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the rows, with 95 % bootstrap intervals over examples.

        That of the debiased square is normal, see :func:`~robust_jax.metrics.debiased_squared_calibration_interval`.
        Accuracies of bins, which may hold one example, have Wilson's.
        """
        table = clean_table(context)
        context.advance()
        fields = {**context.fields(self.name), "severity": None}
        yield from metric_rows(table, num_bins=self.num_bins, **fields, case="clean")
        correct = 1 - table["error"]
        squared = metrics.debiased_squared_calibration_interval(table["confidence"], correct, num_bins=self.num_bins)
        yield make_row("debiased_squared_ece", squared, context.data.num_examples, **fields, case="clean")
        yield from self._reliability(table, fields)

    def _reliability(self, table: Table, fields: dict) -> Iterator[Row]:
        correct = 1 - table["error"]
        bins = metrics.reliability_bins(table["confidence"], correct, num_bins=self.num_bins)
        index = metrics.bin_index(table["confidence"], self.num_bins)
        for i in np.flatnonzero(bins.count):
            case = f"bin {bins.edges[i]:.3f}-{bins.edges[i + 1]:.3f}"
            count = int(bins.count[i])
            confidence = metrics.bootstrap_interval(table["confidence"][index == i])
            yield make_row("confidence", confidence, count, **fields, case=case)
            yield make_row(
                "accuracy", metrics.proportion_interval(correct[index == i].sum(), count), count, **fields, case=case
            )


def clean_table(context: Context) -> Table:
    """Measure every image as it is, once for all suites that share the store."""
    return context.store.table(
        context.folder(NAME), NAME, lambda: run_case(partial(measure_batch, context.classifier()), context.data)
    )
