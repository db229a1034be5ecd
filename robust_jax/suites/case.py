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


def metric_rows(table: Table, *, num_bins: int = 15, **columns) -> Iterator[Row]:
    """Rows of the mean error, NLL and Brier score and of the ECE, with 95 % intervals over examples."""
    means = ("error", "nll", "brier")
    # The ECE is the sum over bins of the moduli of mean gaps between accuracy and confidence.
    gaps = (1 - table["error"]) - table["confidence"]
    in_bin = np.eye(num_bins)[metrics.bin_index(table["confidence"], num_bins)]
    values = np.concatenate([np.stack([table[name] for name in means], axis=1), in_bin * gaps[:, None]], axis=1)

    def statistics(m: np.ndarray) -> np.ndarray:
        return np.concatenate([m[..., :3], np.abs(m[..., 3:]).sum(axis=-1, keepdims=True)], axis=-1)

    samples = statistics(metrics.bootstrap_means(values))
    for i, name in enumerate((*means, "ece")):
        interval = metrics.percentile_interval(float(statistics(values.mean(axis=0))[i]), samples[:, i])
        yield make_row(name, interval, len(values), **columns)


def make_row(metric: str, interval: Interval, count: int, **columns) -> Row:
    """A row of one metric; the interval is left out where it is undefined."""
    low, high = (None if np.isnan(bound) else bound for bound in (interval.low, interval.high))
    return Row(metric=metric, value=interval.value, low=low, high=high, count=count, **columns)
