"""Confidence intervals: bootstrap (Efron & Tibshirani, 1993, chapter 13; Davison & Hinkley, 1997, chapter 5), Wilson.

Host statistics, in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from statistics import NormalDist
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from robust_jax.core.checks import check_choice, check_fraction, check_positive

BOOTSTRAP_SEED = 0
# Bounds the memory of one step: draws for the weights, and weights turned into float64.
CHUNK_DRAWS = 1 << 22

Name = TypeVar("Name", bound=Hashable)
Statistic = Callable[[Float[np.ndarray, "... m"]], Float[np.ndarray, "..."]]


class Interval(NamedTuple):
    """A value and its confidence interval; NaN bounds where it has none, or it is undefined on some resamples."""

    value: float
    low: float = np.nan
    high: float = np.nan


def proportion_interval(successes: float, count: int, *, level: float = 0.95) -> Interval:
    r"""A proportion and its score interval (Wilson, 1927); for few trials, where a bootstrap can have no width.

    .. math:: \frac{\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4n^2}}{1 + z^2 / n}

    Raises:
        ValueError: if there are no trials.
    """
    check_positive("count", count)
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / count
    half = z * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    low, high = ((p + z**2 / (2 * count) + sign * half) / (1 + z**2 / count) for sign in (-1, 1))
    return Interval(float(p), float(max(low, 0)), float(min(high, 1)))


def first_mean(means: Float[np.ndarray, "... m"]) -> Float[np.ndarray, "..."]:
    """The statistic that is the mean of the first column."""
    return means[..., 0]


def bootstrap_means(
    values: Float[np.ndarray, "n m"], *, num_resamples: int = 1000, seed: int = BOOTSTRAP_SEED
) -> Float[np.ndarray, "resamples m"]:
    """Column means of resampled rows: draws n rows with replacement, keeping each row's columns together.

    The same seed draws the same rows for every table of n rows, so intervals of different metrics are paired.

    Raises:
        ValueError: if there are no rows, or ``num_resamples`` is not positive.
    """
    values = np.asarray(values, np.float64)
    size = len(values)
    check_positive("number of examples", size)
    check_positive("num_resamples", num_resamples)
    weights = _weights(size, num_resamples, seed)
    # A product of float matrices goes through BLAS, one with integers does not.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.concatenate([rows.astype(np.float64) @ values / size for rows in _chunks(weights, size)])


def bootstrap_interval(
    values: Float[np.ndarray, "n m"],
    statistic: Statistic = first_mean,
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = BOOTSTRAP_SEED,
    method: str = "percentile",
) -> Interval:
    r"""The value and bootstrap interval of a statistic of column means, over resampled examples.

    With :math:`\hat\theta` the value and :math:`q_\alpha` quantiles of the resampled statistic,
    :math:`\alpha = (1 - level) / 2`,

    .. math:: \text{percentile: } [q_\alpha, q_{1-\alpha}]; \quad
        \text{basic: } [2\hat\theta - q_{1-\alpha}, 2\hat\theta - q_\alpha].

    Basic is for a statistic whose estimate is biased, as ECE is: resampling adds the bias once more, which
    percentiles keep and reflection removes.

    Args:
        values: per-example values, one column a quantity; a vector is one column.
        statistic: of the column means, over leading axes; by default the first mean itself.
        level: probability the interval should cover, in [0, 1].
        num_resamples: bootstrap samples.
        seed: of the resampling.
        method: ``"percentile"`` or ``"basic"``.

    Raises:
        ValueError: if there are no examples, or an option is outside its range.
    """
    intervals = bootstrap_intervals(
        values, {"": (statistic, method)}, level=level, num_resamples=num_resamples, seed=seed
    )
    return intervals[""]


def bootstrap_intervals(
    values: Float[np.ndarray, "n m"],
    statistics: Mapping[Name, tuple[Statistic, str]],
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = BOOTSTRAP_SEED,
) -> dict[Name, Interval]:
    """As :func:`bootstrap_interval`, for several statistics, each with its method, of the same resamples."""
    check_fraction("level", level)
    values = np.asarray(values, np.float64)
    values = values.reshape(len(values), -1)
    resampled = bootstrap_means(values, num_resamples=num_resamples, seed=seed)
    means = values.mean(axis=0)
    intervals = {}
    for name, (statistic, method) in statistics.items():
        check_choice("method", method, ("percentile", "basic"))
        found = percentile_interval(statistic(means), statistic(resampled), level=level)
        if method == "basic":
            found = Interval(found.value, 2 * found.value - found.high, 2 * found.value - found.low)
        intervals[name] = found
    return intervals


def percentile_interval(
    value: float | Float[np.ndarray, ""], resampled: Float[np.ndarray, "resamples"], *, level: float = 0.95
) -> Interval:
    """A value and the quantiles of what it is on resampled examples; without bounds if it is not finite on some."""
    if not np.isfinite(resampled).all():
        return Interval(float(value))
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


@functools.lru_cache(maxsize=1)
def _weights(size: int, num_resamples: int, seed: int) -> UInt8[np.ndarray, "resamples n"]:
    """How often each resample draws each example. The last is remembered: all cases of a suite are of one size."""
    generator = np.random.Generator(np.random.PCG64(seed))
    # Counts are Poisson(1) in the limit, so a byte holds them.
    weights = np.empty((num_resamples, size), np.uint8)
    for rows in _chunks(weights, size):
        draws = generator.integers(0, size, rows.shape)
        draws += np.arange(len(rows))[:, None] * size
        rows[:] = np.bincount(draws.ravel(), minlength=rows.size).reshape(rows.shape)
    weights.flags.writeable = False
    return weights


def _chunks(weights: UInt8[np.ndarray, "resamples n"], size: int) -> list[UInt8[np.ndarray, "chunk n"]]:
    step = max(1, CHUNK_DRAWS // size)
    return [weights[start : start + step] for start in range(0, len(weights), step)]
