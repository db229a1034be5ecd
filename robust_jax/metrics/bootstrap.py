"""Percentile bootstrap intervals (Efron & Tibshirani, 1993, chapter 13). Host statistics."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from robust_jax.core.checks import check_positive

SEED = 0


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_means(
    values: Float[np.ndarray, "n m"], *, num_resamples: int = 1000, seed: int = SEED
) -> Float[np.ndarray, "resamples m"]:
    """Column means of resampled rows: draws n rows with replacement, keeping each row's columns together.

    The same seed draws the same rows whatever the columns, so that intervals of different metrics are paired.
    """
    check_positive("num_resamples", num_resamples)
    return _resampling_weights(len(values), num_resamples, seed) @ np.asarray(values, np.float64)


def bootstrap_interval(
    values: Float[np.ndarray, "n m"],
    statistic: Callable[[Float[np.ndarray, "... m"]], Float[np.ndarray, "..."]] = lambda means: means[..., 0],
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = SEED,
) -> Interval:
    """The value and percentile interval of a statistic of column means, over resampled examples.

    Args:
        values: per-example values, one column a quantity; a vector is one column.
        statistic: of the column means, over leading axes; by default the first mean itself.
        level: probability the interval should cover.
        num_resamples: bootstrap samples.
        seed: of the resampling.
    """
    values = np.asarray(values, np.float64)
    values = values.reshape(len(values), -1)
    samples = statistic(bootstrap_means(values, num_resamples=num_resamples, seed=seed))
    return percentile_interval(float(statistic(values.mean(axis=0))), samples, level=level)


def percentile_interval(value: float, samples: Float[np.ndarray, "resamples"], *, level: float = 0.95) -> Interval:
    """The interval between quantiles of resampled values; NaN where the statistic is undefined on some of them."""
    if not np.isfinite(samples).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


# A suite asks for the same resampling for every case and metric; drawing it takes longer than using it.
@functools.lru_cache(maxsize=2)
def _resampling_weights(size: int, num_resamples: int, seed: int) -> Float[np.ndarray, "resamples n"]:
    """How often each example is drawn, divided by their number."""
    generator = np.random.Generator(np.random.PCG64(seed))
    counts = generator.multinomial(size, np.full(size, 1 / size), size=num_resamples)
    return (counts / size).astype(np.float64)
