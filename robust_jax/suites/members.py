"""How good a prediction is by how many members it is averaged over."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_positive
from robust_jax.declarations import Column
from robust_jax.predictors import HasMembers
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import measure, metric_rows, run_case
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Row

NAME = "members"
METRICS = ("error", "nll", "brier", "confidence")


@dataclasses.dataclass(frozen=True)
class Members(Suite):
    """Error, NLL, Brier score and ECE of the first members of an ensemble, or draws of a posterior.

    Members are told apart for one run of the network over the data, so all numbers are measured at once. Of a number n
    the metrics are means over as many groups of n members as there are, ``N members`` is their case, and n their
    severity.

    Raises:
        ValueError: if there are no counts or one is not positive; when run, if the predictor has no members or fewer
            than asked for.
    """

    counts: tuple[int, ...] = (1, 2, 5)
    """How many are averaged."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        if not self.counts:
            raise ValueError("Expected one number of members or more in counts, got none.")
        for count in self.counts:
            check_positive("counts", count)

    @property
    def columns(self) -> tuple[Column, ...]:
        cases = [(f"{count} members", float(count), count) for count in self.counts]
        return (
            *(Column(f"NLL of {n}", case, "nll", level, digits=3, secondary=True) for case, level, n in cases),
            *(Column(f"error % of {n}", case, "error", level, scale=100, secondary=True) for case, level, n in cases),
        )

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the rows of each count, with 95 % bootstrap intervals over examples."""
        tables = self._tables(context)
        context.advance()
        for count, table in tables.items():
            fields = {**context.fields(self.name), "severity": float(count)}
            yield from metric_rows(table, **fields, case=f"{count} members")

    def _tables(self, context: Context) -> dict[int, Table]:
        folder, store = context.folder(NAME), context.store
        tables = {count: store.get(folder, f"{count} members") for count in self.counts}
        found = {count: table for count, table in tables.items() if table is not None}
        if len(found) < len(tables):
            if not isinstance(context.predictor, HasMembers):
                raise ValueError(
                    "Expected a predictor with members, such as an ensemble or draws of a posterior, got one model."
                )
            together = run_case(partial(_measure_counts, self.counts, context.classifier()), context.data)
            for count in self.counts:
                found[count] = {name: together[f"{name} {count}"] for name in METRICS}
                store.put(folder, f"{count} members", found[count])
        return found


@partial(jax.jit, static_argnums=0)
def _measure_counts(
    counts: tuple[int, ...], predictor: HasMembers, batch: Batch
) -> dict[str, Float[Array, "b groups"]]:
    logits = predictor.members(batch.image)
    found = {}
    for count in counts:
        groups = len(logits) // count
        if groups == 0:
            raise ValueError(f"Expected counts <= {len(logits)}, the members there are, got counts={counts!r}.")
        grouped = logits[: groups * count].reshape(groups, count, *logits.shape[1:])
        mixed = jax.vmap(predictor.combine)(grouped)
        measured = jax.vmap(lambda mean: measure(lambda images: mean, batch.image, batch.label))(mixed)
        found |= {f"{name} {count}": jnp.swapaxes(measured[name], 0, 1) for name in METRICS}
    return found
