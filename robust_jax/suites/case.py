"""One case of a suite: what was predicted for every example, and the rows made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.core.mesh import to_host
from robust_jax.data import Evaluation
from robust_jax.metrics import Interval
from robust_jax.predictors import Draws, Predictor, as_predictor
from robust_jax.suites.store import Table
from robust_jax.tasks import Classification
from robust_jax.types import Batch, Images, Labels, LogitsFn, Row

# Enough to keep the devices busy, and no more: each holds its images in memory until its program has run.
BATCHES_IN_FLIGHT = 4
IMAGES_CHECKED = 2
"""Images whose logits are checked for their shape, which is not computed."""


class Batches(Protocol):
    """Examples in masked batches, as of :class:`~robust_jax.data.Evaluation`."""

    def batches(self) -> Iterator[Batch]: ...


@dataclasses.dataclass(frozen=True)
class RowLabels:
    """What a suite cannot know of the rows it yields."""

    run: str = ""
    """Name of the run."""
    model: str = ""
    """Name of the model."""
    seed: int = 0
    """Seed of the run."""


def admitted(predictor: LogitsFn, data: Evaluation, *, image_shape: tuple[int, int, int] | None = None) -> LogitsFn:
    """Convert any callable to a predictor, and check its output before anything is computed.

    Args:
        predictor: any callable from images to logits.
        data: the data that it is to predict.
        image_shape: (h, w, c) of the images that it will see; None for those of the data.

    Raises:
        TypeError: if it is not callable.
        ValueError: unless it returns a logit for each class of the data, which must have classes.
    """
    predictor = as_predictor(predictor)
    if data.num_classes == 0:
        raise ValueError(f"Expected data with classes, got {data.name} with real targets; use suites.RegressionSuite.")
    images = jax.ShapeDtypeStruct((IMAGES_CHECKED, *(image_shape or data.image_shape)), jnp.float32)
    found, expected = jax.eval_shape(_call, predictor, images).shape, (IMAGES_CHECKED, data.num_classes)
    if found != expected:
        raise ValueError(
            f"Expected logits of shape [b, {data.num_classes}] for the {data.num_classes} classes of {data.name}, "
            f"got {found} for {IMAGES_CHECKED} images."
        )
    return predictor


@jax.jit
def _call(predictor: Predictor, images: Images) -> Array:
    # Attacks bind the keys of what is random.
    return (predictor.bind(jax.random.key(0)) if isinstance(predictor, Draws) else predictor)(images)


def measure(predictor: LogitsFn, images: Images, labels: Labels) -> dict[str, Float[Array, "b"]]:
    """Return error, NLL, Brier score, confidence and entropy of every example.

    Raises:
        ValueError: if labels are neither classes nor probabilities of as many classes as there are logits.
    """
    logits = predictor(images)
    return {
        **Classification(logits.shape[-1]).measures(logits, labels),
        "confidence": metrics.confidence(logits),
        "entropy": metrics.entropy(logits),
    }


@jax.jit
def measure_batch(predictor: LogitsFn, batch: Batch) -> dict[str, Array]:
    """As :func:`measure`, compiled: one program for all suites that have the network see batches of one shape."""
    return measure(predictor, batch.image, batch.label)


def run_case(program: Callable[[Batch], dict[str, Array]], data: Batches) -> Table:
    """Runs a compiled program over all batches and returns its arrays on the host, padding removed."""
    parts = []
    for batch in data.batches():
        parts.append((program(batch), batch.mask))
        if len(parts) > BATCHES_IN_FLIGHT:
            jax.block_until_ready(parts[-1 - BATCHES_IN_FLIGHT])
    values, masks = zip(*to_host(parts), strict=True)
    mask = np.concatenate(masks)
    return {name: np.concatenate([part[name] for part in values])[mask] for name in values[0]}


def metric_rows(table: Table, *, num_bins: int = 15, **fields) -> Iterator[Row]:
    """Rows of the mean error, NLL and Brier score and of the ECE, with 95 % intervals over examples.

    Args:
        table: arrays ``[n]``, or ``[n, repeats]`` where each example was predicted several times.
        num_bins: of the ECE.
        fields: the other fields of the rows.
    """
    size = len(table["error"])
    table = {name: values.reshape(size, -1) for name, values in table.items()}
    names = ("error", "nll", "brier")
    means = np.stack([table[name].mean(axis=1) for name in names], axis=1)
    gaps = metrics.binned_gaps(table["confidence"], 1 - table["error"], num_bins=num_bins).mean(axis=1)
    statistics: dict[str, tuple[metrics.Statistic, str]] = {
        name: (lambda m, i=i: m[..., i], "percentile") for i, name in enumerate(names)
    }
    # Percentiles of the ECE lie above it on few examples, and often do not cover the truth; see bootstrap_interval.
    statistics["ece"] = (lambda m: np.abs(m[..., len(names) :]).sum(axis=-1), "basic")
    intervals = metrics.bootstrap_intervals(np.concatenate([means, gaps], axis=1), statistics)
    ece = intervals["ece"]
    intervals["ece"] = ece._replace(low=np.maximum(ece.low, 0), high=np.maximum(ece.high, 0))
    for name, interval in intervals.items():
        yield make_row(name, interval, size, **fields)


def make_row(metric: str, interval: Interval, count: int, **fields) -> Row:
    """A row of one metric; the interval is left out where it is undefined."""
    low, high = (None if np.isnan(bound) else float(bound) for bound in (interval.low, interval.high))
    return Row(metric=metric, value=interval.value, low=low, high=high, count=count, **fields)
