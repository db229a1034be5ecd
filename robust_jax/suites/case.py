"""One case of a suite: what was predicted for every example, and the rows made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.metrics import Interval
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Evaluation, Images, Labels, LogitsFn, Row


@dataclasses.dataclass(frozen=True)
class RowLabels:
    """What a suite cannot know of the rows it yields."""

    run: str = ""
    """Name of the run."""
    model: str = ""
    """Name of the model."""
    seed: int = 0
    """Seed of the run."""


def as_predictor(predictor: LogitsFn) -> jax.tree_util.Partial:
    """Any logits function as an argument that passes through jit."""
    return predictor if isinstance(predictor, jax.tree_util.Partial) else jax.tree_util.Partial(predictor)


def measure(predictor: LogitsFn, images: Images, labels: Labels) -> dict[str, Float[Array, "b"]]:
    """Error, NLL, Brier score and confidence of every example."""
    logits = predictor(images)
    return {
        "error": metrics.errors(logits, labels),
        "nll": metrics.nll(logits, labels),
        "brier": metrics.brier(logits, labels),
        "confidence": metrics.confidence(logits),
    }


def run_case(program: Callable[[Batch], dict[str, Array]], data: Evaluation) -> Table:
    """Runs a compiled program over all batches and returns its arrays on the host, padding removed."""
    parts = [(program(batch), batch.mask) for batch in data.batches()]
    values, masks = zip(*to_host(parts), strict=True)
    mask = np.concatenate(masks)
    return {name: np.concatenate([part[name] for part in values])[mask] for name in values[0]}


def to_host(tree):
    """Whole arrays on every process."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)


def metric_rows(table: Table, **columns) -> Iterator[Row]:
    """Rows of the mean error, NLL and Brier score and of the ECE, with intervals over examples."""
    count = len(table["error"])
    means = np.stack([table[name] for name in ("error", "nll", "brier")], axis=1)
    for i, name in enumerate(("error", "nll", "brier")):
        interval = metrics.bootstrap_interval(means, lambda m, i=i: m[..., i])
        yield make_row(name, interval, count, **columns)
    yield make_row("ece", calibration_interval(table), count, **columns)


def calibration_interval(table: Table, *, num_bins: int = 15) -> Interval:
    """ECE and its interval: a sum of moduli of mean gaps, one a bin."""
    gaps = (1 - table["error"]) - table["confidence"]
    columns = np.eye(num_bins)[metrics.bin_index(table["confidence"], num_bins)] * gaps[:, None]
    return metrics.bootstrap_interval(columns, lambda means: np.abs(means).sum(axis=-1))


def make_row(metric: str, interval: Interval, count: int, **columns) -> Row:
    """A row of one metric; the interval is left out where it is undefined."""
    low, high = (None if np.isnan(bound) else bound for bound in (interval.low, interval.high))
    return Row(metric=metric, value=interval.value, low=low, high=high, count=count, **columns)
