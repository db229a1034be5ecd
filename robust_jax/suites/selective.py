"""Rows of selective prediction: how much is wrong among what one is surest of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from robust_jax import metrics
from robust_jax.suites.case import make_row
from robust_jax.suites.store import Table
from robust_jax.types import Row

COVERAGES = tuple(round(0.05 * i, 2) for i in range(1, 21))
"""Shares of examples at which the curve is read."""
NUM_RESAMPLES = 200
RESAMPLING_SEED = 0
AREAS = {"aurc": metrics.aurc, "e_aurc": metrics.excess_aurc, "augrc": metrics.augrc}


def selective_rows(table: Table, **fields) -> Iterator[Row]:
    """The areas ``aurc``, ``e_aurc`` and ``augrc``, of case ``clean``, and ``risk``, of case ``coverage``.

    The loss is the error, the severity of a risk its coverage. Intervals resample examples; those of E-AURC and of
    risks at low coverage are biased upwards with few errors.

    Args:
        table: arrays ``[n]``, with confidence and error.
        fields: the other fields of the rows, but case and severity.
    """
    confidence, error = (np.asarray(table[name], np.float64) for name in ("confidence", "error"))
    values = _measures(confidence, error)
    generator = np.random.default_rng(RESAMPLING_SEED)
    draws = generator.integers(0, len(error), (NUM_RESAMPLES, len(error)))
    resampled = np.stack([_measures(confidence[draw], error[draw]) for draw in draws], axis=1)
    places = [(name, "clean", 0.0) for name in AREAS] + [("risk", "coverage", coverage) for coverage in COVERAGES]
    for (metric, case, severity), value, samples in zip(places, values, resampled, strict=True):
        interval = metrics.percentile_interval(value, samples)
        yield make_row(metric, interval, len(error), **fields, case=case, severity=severity)


def _measures(confidence: Float[np.ndarray, "n"], error: Float[np.ndarray, "n"]) -> Float[np.ndarray, "m"]:
    risks = metrics.risk_coverage(confidence, error).risk
    at = np.ceil(np.array(COVERAGES) * len(risks) - 1e-9).astype(int)
    return np.array([*(area(confidence, error) for area in AREAS.values()), *risks[np.maximum(at, 1) - 1]])
