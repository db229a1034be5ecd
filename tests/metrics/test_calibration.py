import numpy as np
import pytest
from scipy import special
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


def class_probabilities(size=400, classes=4, *, seed=0, scale=2.0):
    generator = np.random.default_rng(seed)
    logits = scale * generator.normal(size=(size, classes))
    probs = special.softmax(logits, axis=1)
    labels = np.array([generator.choice(classes, p=p) for p in probs])
    return logits, probs, labels


def test_gaps_as_root_mean_square_and_maximum():
    confidence, correct = predictions(400, gap=0.1)
    bins = metrics.reliability_bins(confidence, correct)
    filled = bins.count > 0
    gaps, shares = (bins.accuracy - bins.confidence)[filled], bins.count[filled] / 400
    found = metrics.root_mean_squared_calibration_error(confidence, correct)
    assert found == pytest.approx(np.sqrt(np.sum(shares * gaps**2)))
    assert metrics.maximum_calibration_error(confidence, correct) == pytest.approx(np.abs(gaps).max())
    assert np.isnan(metrics.maximum_calibration_error(np.zeros(0), np.zeros(0)))


def test_equal_mass_bins_are_equal_and_keep_ties_together():
    confidence, correct = predictions(310)
    bins = metrics.equal_mass_bins(confidence, correct, num_bins=10)
    assert (bins.count == 31).all()
    order = np.argsort(confidence)
    parts = [part.mean() for part in np.split(correct[order], 10)]
    np.testing.assert_allclose(bins.accuracy, parts)
    expected = np.mean(
        [
            abs(np.mean(c - p))
            for c, p in zip(np.split(correct[order], 10), np.split(confidence[order], 10), strict=True)
        ]
    )
    assert metrics.adaptive_calibration_error(confidence, correct, num_bins=10) == pytest.approx(expected)
    tied = metrics.equal_mass_bins(np.repeat([0.3, 0.9], 50), np.repeat([0.0, 1.0], 50), num_bins=10)
    assert sorted(tied.count)[-2:] == [50, 50]
    assert np.isnan(metrics.adaptive_calibration_error(np.zeros(0), np.zeros(0)))


def test_classwise_error_against_a_loop():
    _, probs, labels = class_probabilities()
    expected = np.mean([brute_force_ece(probs[:, c], labels == c, 15) for c in range(4)])
    assert metrics.classwise_calibration_error(probs, labels) == pytest.approx(expected)


def test_brier_decomposition():
    """Exact with probabilities that are alike within bins; else the remainder is what is missing."""
    _, probs, labels = class_probabilities()
    parts = metrics.brier_decomposition(probs, labels)
    score = np.mean(np.sum((probs - np.eye(4)[labels]) ** 2, axis=1))
    assert parts.reliability - parts.resolution + parts.uncertainty + parts.remainder == pytest.approx(score)
    coarse = np.ceil(8 * probs) / 8
    assert metrics.brier_decomposition(coarse, labels, num_bins=8).remainder == pytest.approx(0, abs=1e-12)
    frequencies = np.bincount(labels, minlength=4) / len(labels)
    constant = metrics.brier_decomposition(np.tile(frequencies, (len(labels), 1)), labels)
    assert constant.reliability == pytest.approx(0, abs=1e-12)
    assert constant.resolution == pytest.approx(0, abs=1e-12)
    assert constant.uncertainty == pytest.approx(np.sum(frequencies * (1 - frequencies)))
    with pytest.raises(ValueError, match="labels"):
        metrics.brier_decomposition(probs, labels[:-1])


def test_temperature_undoes_a_scale():
    logits, probs, labels = class_probabilities(20_000)
    assert metrics.fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)
    fitted = metrics.fit_temperature(logits, labels)
    at = lambda t: -np.mean(np.log(special.softmax(logits / t, axis=1))[np.arange(len(labels)), labels])  # noqa: E731
    assert at(fitted) <= min(at(fitted * 1.01), at(fitted / 1.01))
    scaled, plain = metrics.calibrated_nll(5 * logits, labels), metrics.calibrated_nll(logits, labels)
    assert scaled == pytest.approx(plain, abs=1e-5)
    assert plain == pytest.approx(-np.mean(np.log(probs[np.arange(len(labels)), labels])), abs=2e-3)
    with pytest.raises(ValueError, match="labels"):
        metrics.fit_temperature(logits, labels[:3])
    with pytest.raises(ValueError, match="two examples"):
        metrics.calibrated_nll(logits[:1], labels[:1])


SPREADS = {
    "wide": lambda generator, size: generator.uniform(0.2, 1, size),
    "sure": lambda generator, size: generator.beta(20, 1, size),
    # A network that has seen it all: hardly an error.
    "very sure": lambda generator, size: generator.beta(50, 0.5, size),
}


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("size", [200, 1000, 10_000])
def test_debiased_error_of_a_calibrated_model_is_0_within_its_interval(size, spread):
    """In 95 % of many data sets or more; the plug-in estimate is not once 0."""
    draws, held = 200, 0
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        confidence = SPREADS[spread](generator, size)
        correct = generator.uniform(size=size) < confidence
        interval = metrics.debiased_squared_calibration_interval(confidence, correct)
        held += interval.low <= 0 <= interval.high
        assert metrics.expected_calibration_error(confidence, correct) > 0
    assert held >= 0.95 * draws - 2 * np.sqrt(draws * 0.95 * 0.05)


@pytest.mark.parametrize("size", [200, 1000, 10_000])
def test_interval_of_the_debiased_square_covers_the_truth(size):
    """Confidence 0.05 too high everywhere: the square is 0.0025."""
    draws, held = 200, 0
    for seed in range(draws):
        confidence, correct = predictions(size, seed=seed, gap=0.05)
        interval = metrics.debiased_squared_calibration_interval(confidence, correct)
        held += interval.low <= 0.05**2 <= interval.high
    assert held >= 0.88 * draws
    # Of many examples it tells the two apart.
    assert interval.low > 0 or size < 10_000


def test_interval_of_the_debiased_square_has_its_value_and_level():
    confidence, correct = predictions(300, gap=0.1)
    mask = np.arange(300) < 250
    found = metrics.debiased_squared_calibration_interval(confidence, correct, mask=mask)
    assert found.value == metrics.debiased_squared_calibration_error(confidence, correct, mask=mask)
    wider = metrics.debiased_squared_calibration_interval(confidence, correct, mask=mask, level=0.99)
    assert wider.low < found.low < found.value < found.high < wider.high
    assert np.isnan(metrics.debiased_squared_calibration_interval(np.zeros(0), np.zeros(0))).all()
    with pytest.raises(ValueError, match="level"):
        metrics.debiased_squared_calibration_interval(confidence, correct, level=1.5)
