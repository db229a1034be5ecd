import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from robust_jax import metrics


def predictions(size, *, seed=0, gap=0.0):
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.2, 1, size)
    return confidence, (generator.uniform(size=size) < confidence - gap).astype(float)


def brute_force_ece(confidence, correct, bins):
    total = 0.0
    for i in range(bins):
        inside = [j for j, c in enumerate(confidence) if i / bins < c <= (i + 1) / bins]
        if inside:
            total += abs(sum(correct[j] - confidence[j] for j in inside)) / len(confidence)
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_ece_against_a_loop(bins):
    confidence, correct = predictions(300)
    value = metrics.expected_calibration_error(confidence, correct, num_bins=bins)
    assert value == pytest.approx(brute_force_ece(confidence, correct, bins), abs=1e-12)
    gaps = metrics.binned_gaps(confidence, correct, num_bins=bins)
    assert np.abs(gaps.mean(axis=0)).sum() == pytest.approx(value, abs=1e-12)


def test_bins_against_scikit_learn():
    confidence, correct = predictions(500)
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=15)
    bins = metrics.reliability_bins(confidence, correct)
    filled = bins.count > 0
    np.testing.assert_allclose(bins.accuracy[filled], accuracy)
    np.testing.assert_allclose(bins.confidence[filled], mean_confidence)
    assert bins.count.sum() == 500
    assert np.isnan(bins.accuracy[~filled]).all()
    assert (~filled).sum() == 3


def test_edges_belong_to_the_lower_bin_and_zero_to_the_first():
    np.testing.assert_array_equal(metrics.bin_index(np.array([0.0, 0.25, 0.2501, 0.5, 1.0]), 4), [0, 0, 1, 1, 3])


def test_overconfidence_by_a_constant():
    confidence, correct = np.full(1000, 0.8), np.repeat([1.0, 0.0], [600, 400])
    assert metrics.expected_calibration_error(confidence, correct) == pytest.approx(0.2)
    expected = 0.04 - 0.6 * 0.4 / 999
    assert metrics.debiased_squared_calibration_error(confidence, correct) == pytest.approx(expected)


def test_masked_predictions_do_not_count():
    confidence, correct = predictions(100)
    mask = np.arange(100) < 60
    for measure in (metrics.expected_calibration_error, metrics.debiased_squared_calibration_error):
        assert measure(confidence, correct, mask=mask) == measure(confidence[:60], correct[:60])
        assert np.isnan(measure(confidence, correct, mask=np.zeros(100, bool)))


def test_debiased_square_is_unbiased_where_the_plug_in_is_not():
    squares, plug_in = [], []
    for seed in range(300):
        confidence, correct = predictions(200, seed=seed)
        bins = metrics.reliability_bins(confidence, correct)
        filled = bins.count > 1
        plug_in.append(np.average((bins.accuracy - bins.confidence)[filled] ** 2, weights=bins.count[filled]))
        squares.append(metrics.debiased_squared_calibration_error(confidence, correct))
    error = np.std(squares) / np.sqrt(300)
    assert abs(np.mean(squares)) < 4 * error
    assert np.mean(plug_in) > 10 * error


def test_a_nan_confidence_shows():
    assert np.isnan(metrics.expected_calibration_error(np.array([0.5, np.nan]), np.array([1.0, 0.0])))


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="num_bins > 0"):
        metrics.reliability_bins(np.array([0.5]), np.array([1.0]), num_bins=0)
