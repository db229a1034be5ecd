"""Rows of what needs the probabilities of all classes: calibrated NLL, classwise ECE, the parts of the Brier score."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from jaxtyping import Array

from robust_jax import metrics
from robust_jax.metrics import Interval
from robust_jax.suites.base import Context
from robust_jax.suites.case import make_row, run_case
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Row


def class_probability_rows(context: Context, **fields) -> Iterator[Row]:
    """Of images as they are: ``calibrated_nll``, with a 95 % interval over examples at fixed temperatures.

    And without intervals, since they are biased statistics of bins: ``adaptive_ece``, ``classwise_ece``, ``rmsce``,
    ``mce``; ``reliability`` and ``resolution`` of the Brier score. There are no rows of fewer than two examples.

    Args:
        context: predictor, examples and store.
        fields: the other fields of the rows.
    """
    table = _log_probabilities(context)
    log_probs, labels = table["log_probs"].astype(np.float64), table["label"]
    if len(labels) < 2:
        return
    row = lambda metric, interval: make_row(metric, interval, len(labels), **fields)  # noqa: E731
    yield row("calibrated_nll", metrics.bootstrap_interval(metrics.calibrated_nlls(log_probs, labels)))
    probs = np.exp(log_probs)
    of_top = probs.max(axis=1), probs.argmax(axis=1) == labels
    parts = metrics.brier_decomposition(probs, labels)
    values = {
        "adaptive_ece": metrics.adaptive_calibration_error(*of_top),
        "classwise_ece": metrics.classwise_calibration_error(probs, labels),
        "rmsce": metrics.root_mean_squared_calibration_error(*of_top),
        "mce": metrics.maximum_calibration_error(*of_top),
        "reliability": parts.reliability,
        "resolution": parts.resolution,
    }
    for metric, value in values.items():
        yield row(metric, Interval(value))


def _log_probabilities(context: Context) -> Table:
    return context.store.table(
        context.folder("probabilities"),
        "clean",
        lambda: run_case(partial(_predict_batch, context.classifier()), context.data),
    )


@jax.jit
def _predict_batch(predictor: jax.tree_util.Partial, batch: Batch) -> dict[str, Array]:
    return {"log_probs": jax.nn.log_softmax(predictor(batch.image)), "label": batch.label}
