import numpy as np
import pytest
from scipy import stats

from robust_jax import metrics

VALUES = np.random.default_rng(0).normal(loc=3, size=400)


def test_interval_of_a_mean_against_the_normal_approximation():
    interval = metrics.bootstrap_interval(VALUES, num_resamples=4000)
    low, high = stats.norm.interval(0.95, VALUES.mean(), VALUES.std() / np.sqrt(400))
    assert interval.value == pytest.approx(VALUES.mean())
    assert interval.low == pytest.approx(low, abs=0.01)
    assert interval.high == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize("method", ["percentile", "basic"])
def test_interval_of_a_ratio_against_scipy(method):
    pairs = np.stack([VALUES, VALUES + np.random.default_rng(1).exponential(size=400)], axis=1)
    interval = metrics.bootstrap_interval(pairs, lambda m: m[..., 1] / m[..., 0], num_resamples=4000, method=method)
    expected = stats.bootstrap(
        (pairs[:, 0], pairs[:, 1]),
        lambda a, b, axis=-1: b.mean(axis=axis) / a.mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method=method,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert interval.low == pytest.approx(expected.low, abs=0.006)
    assert interval.high == pytest.approx(expected.high, abs=0.006)


def test_resamples_are_the_same_rows_for_every_column_and_repeat_with_the_seed():
    once = metrics.bootstrap_means(np.stack([VALUES, 2 * VALUES], axis=1), num_resamples=20)
    np.testing.assert_allclose(once[:, 1], 2 * once[:, 0])
    np.testing.assert_array_equal(once, metrics.bootstrap_means(np.stack([VALUES, 2 * VALUES], 1), num_resamples=20))
    other = metrics.bootstrap_means(VALUES[:, None], num_resamples=20, seed=1)
    assert not np.isclose(once[:, :1], other).any()


def test_every_resample_has_as_many_rows_as_there_are(monkeypatch):
    from robust_jax.metrics import intervals

    whole = metrics.bootstrap_means(np.ones((37, 1)), num_resamples=50)
    np.testing.assert_allclose(whole, 1)
    expected = metrics.bootstrap_means(VALUES[:37, None], num_resamples=50)
    # In pieces, too, as for large tables.
    monkeypatch.setattr(intervals, "CHUNK_DRAWS", 100)
    intervals._weights.cache_clear()
    pieces = metrics.bootstrap_means(VALUES[:37, None], num_resamples=50)
    intervals._weights.cache_clear()
    np.testing.assert_allclose(pieces.mean(), expected.mean(), atol=0.1)
    np.testing.assert_allclose(np.std(pieces), np.std(VALUES[:37]) / np.sqrt(37), rtol=0.4)


def test_several_statistics_equal_each_alone():
    pairs = np.stack([VALUES, VALUES**2], axis=1)
    second = lambda m: m[..., 1]  # noqa: E731
    both = metrics.bootstrap_intervals(pairs, {"square": (second, "percentile"), "basic": (second, "basic")})
    assert both["square"] == metrics.bootstrap_interval(pairs, second)
    assert both["basic"] == metrics.bootstrap_interval(pairs, second, method="basic")


def test_an_undefined_statistic_has_no_interval():
    values = np.array([0.0, 0.0, 1.0])
    with np.errstate(divide="ignore"):
        interval = metrics.bootstrap_interval(values, lambda m: 1 / m[..., 0])
    assert interval.value == pytest.approx(3)
    assert np.isnan([interval.low, interval.high]).all()


def test_basic_intervals_of_the_ece_cover_it_and_percentiles_do_not():
    generator = np.random.default_rng(0)
    covered = {"percentile": 0, "basic": 0}
    for _ in range(40):
        confidence = generator.uniform(0.4, 1, 500)
        correct = generator.uniform(size=500) < confidence - 0.02
        gaps = metrics.binned_gaps(confidence, correct)
        for method in covered:
            statistic = lambda means: np.abs(means).sum(axis=-1)  # noqa: E731
            interval = metrics.bootstrap_interval(gaps, statistic, num_resamples=200, method=method)
            covered[method] += interval.low <= 0.02 <= interval.high
    assert covered["basic"] >= 32
    assert covered["percentile"] < 20, covered


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (3, 3), (7, 20)])
def test_proportion_interval_against_scipy(successes, count):
    expected = stats.binomtest(successes, count).proportion_ci(method="wilson")
    interval = metrics.proportion_interval(successes, count)
    np.testing.assert_allclose(interval, [successes / count, expected.low, expected.high], atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_resamples": 0}, "num_resamples > 0"),
        ({"level": 1.5}, "level in \\[0, 1\\]"),
        ({"method": "percentil"}, "Did you mean 'percentile'"),
    ],
)
def test_bad_options_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        metrics.bootstrap_interval(VALUES, **changes)


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="number of examples > 0"):
        metrics.bootstrap_means(np.zeros((0, 1)))


def test_corruption_errors():
    np.testing.assert_allclose(metrics.mean_corruption_error([[0.0, 1.0], [1.0, 1.0]]), [0.5, 1.0])
    # Table 3 of arXiv 2305.05400: standard training on CIFAR-10, 5.67 % clean error and 9.7 % iCE.
    value = metrics.imperceptible_corruption_error(0.0567, np.mean([0.0567 * 1.097]))
    assert float(value) == pytest.approx(0.097)
    assert np.isnan(metrics.imperceptible_corruption_error(0.0, 0.1))
