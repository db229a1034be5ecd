"""Percentile bootstrap intervals (Efron & Tibshirani, 1993, chapter 13). Host statistics, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from robust_jax.core.checks import check_positive

BOOTSTRAP_SEED = 0
CHUNK = 100


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_means(
    values: Float[np.ndarray, "n m"], *, num_resamples: int = 1000, seed: int = BOOTSTRAP_SEED
) -> Float[np.ndarray, "resamples m"]:
    """Column means of resampled rows: draws n rows with replacement, keeping each row's columns together.

    The same seed draws the same rows for every metric, so intervals of a set of columns are paired.
    """
    check_positive("num_resamples", num_resamples)
    values = np.asarray(values, np.float64)
    size = len(values)
    generator = np.random.Generator(np.random.PCG64(seed))
    means = []
    for start in range(0, num_resamples, CHUNK):
        count = min(CHUNK, num_resamples - start)
        means.append(generator.multinomial(size, np.full(size, 1 / size), size=count) @ values / size)
    return np.concatenate(means)


def bootstrap_interval(
    values: Float[np.ndarray, "n m"],
    statistic: Callable[[Float[np.ndarray, "... m"]], Float[np.ndarray, "..."]] = lambda means: means[..., 0],
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = BOOTSTRAP_SEED,
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
    value = float(statistic(values.mean(axis=0)))
    # nanquantile sorts; a statistic that is undefined on some resamples, such as x / 0, has no interval.
    if not np.isfinite(samples).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
