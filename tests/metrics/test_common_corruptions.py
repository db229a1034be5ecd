"""Summaries of error matrices against sums written out; baselines against a line and a least-squares fit."""

import numpy as np
import pytest

from robust_jax import corruptions, metrics
from robust_jax.metrics import common_corruptions as means

NAMES = corruptions.COMMON + corruptions.EXTRA
ERRORS = np.random.default_rng(0).uniform(0.2, 0.9, (19, 5))
CLEAN = 0.15


def test_names_are_those_of_the_corruptions():
    assert means.COMMON == corruptions.COMMON
    assert means.EXTRA == corruptions.EXTRA
    assert sum(means.GROUPS.values(), ()) == corruptions.COMMON
    assert [len(group) for group in means.GROUPS.values()] == [3, 4, 4, 4]
    assert set(means.NOISE) == {name for name in NAMES if "noise" in name}


def test_means_over_15_and_over_19():
    assert metrics.mean_error_15(ERRORS, NAMES) == pytest.approx(ERRORS[:15].mean())
    assert metrics.mean_error_19(ERRORS, NAMES) == pytest.approx(ERRORS.mean())
    assert metrics.mean_error_15_without_noise(ERRORS, NAMES) == pytest.approx(ERRORS[3:15].mean())
    without = np.delete(ERRORS, [0, 1, 2, NAMES.index("speckle_noise")], axis=0)
    assert metrics.mean_error_19_without_noise(ERRORS, NAMES) == pytest.approx(without.mean())
    assert metrics.mean_error(ERRORS, NAMES, ("fog", "snow")) == pytest.approx((ERRORS[9] + ERRORS[7]).sum() / 10)
    # The order of the names is that of the matrix, whatever it is.
    order = np.random.default_rng(1).permutation(19)
    shuffled = [NAMES[i] for i in order]
    for summary in (metrics.mean_error_15, metrics.alexnet_mce, metrics.mean_error_19_without_noise):
        assert summary(ERRORS[order], shuffled) == pytest.approx(summary(ERRORS, NAMES))


def test_alexnet_scores_one():
    alexnet = np.repeat(np.array(list(means.ALEXNET_ERRORS.values()))[:, None], 5, axis=1)
    assert metrics.alexnet_mce(alexnet, means.COMMON) == pytest.approx(1)
    assert metrics.relative_alexnet_mce(alexnet, means.ALEXNET_CLEAN_ERROR, means.COMMON) == pytest.approx(1)


def test_alexnet_mce_divides_sums_over_severities():
    expected = np.mean([ERRORS[c].sum() / (5 * means.ALEXNET_ERRORS[name]) for c, name in enumerate(means.COMMON)])
    assert metrics.alexnet_mce(ERRORS, NAMES) == pytest.approx(expected)
    relative = [
        (ERRORS[c] - CLEAN).sum() / (5 * (means.ALEXNET_ERRORS[name] - means.ALEXNET_CLEAN_ERROR))
        for c, name in enumerate(means.COMMON)
    ]
    assert metrics.relative_alexnet_mce(ERRORS, CLEAN, NAMES) == pytest.approx(np.mean(relative))


def test_worst_severity_need_not_be_the_fifth():
    errors = np.array([[0.1, 0.2, 0.3], [0.5, 0.1, 0.2]])
    assert metrics.worst_severity_error(errors, ("a", "b")) == pytest.approx(0.4)
    assert metrics.worst_severity_error(errors, ("a", "b"), ("b",)) == pytest.approx(0.5)


def test_retained_accuracy():
    assert metrics.retained_accuracy(ERRORS, CLEAN, NAMES) == pytest.approx((1 - ERRORS.mean()) / 0.85)
    assert metrics.retained_accuracy(np.full((19, 5), CLEAN), CLEAN, NAMES) == pytest.approx(1)
    assert np.isnan(metrics.retained_accuracy(ERRORS, 1.0, NAMES))


def test_leading_axes_are_resamples():
    stacked = np.random.default_rng(2).uniform(size=(7, 19, 5))
    clean = np.linspace(0.1, 0.3, 7)
    for summary in (metrics.alexnet_mce, metrics.mean_error_19, metrics.worst_severity_error):
        np.testing.assert_allclose(summary(stacked, NAMES), [summary(errors, NAMES) for errors in stacked])
    for summary in (metrics.relative_alexnet_mce, metrics.retained_accuracy):
        expected = [summary(errors, c, NAMES) for errors, c in zip(stacked, clean, strict=True)]
        np.testing.assert_allclose(summary(stacked, clean, NAMES), expected)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="No errors under 'fog'"):
        metrics.mean_error_15(np.delete(ERRORS, 9, axis=0), [name for name in NAMES if name != "fog"])
    with pytest.raises(ValueError, match="Did you mean 'snow'"):
        metrics.mean_error(ERRORS, NAMES, ("snwo",))
    with pytest.raises(ValueError, match="19 corruptions"):
        metrics.mean_error_15(ERRORS[:15], NAMES)


def test_baseline_recovers_a_line_between_logits():
    logit, sigmoid = lambda a: np.log(a / (1 - a)), lambda z: 1 / (1 + np.exp(-z))
    accuracy = np.array([0.55, 0.62, 0.7, 0.74, 0.8])
    shifted = sigmoid(0.9 * logit(accuracy) - 0.6)
    baseline = metrics.fit_baseline(accuracy, shifted)
    assert baseline == pytest.approx((0.9, -0.6, 0), abs=1e-12)
    np.testing.assert_allclose(baseline(accuracy), shifted)
    np.testing.assert_allclose(metrics.effective_robustness(accuracy, shifted + 0.05, baseline), 0.05)
    assert metrics.relative_robustness(0.6, 0.55) == pytest.approx(0.05)


def test_baseline_is_a_least_squares_fit():
    generator = np.random.default_rng(3)
    accuracy, shifted = generator.uniform(0.3, 0.9, (2, 40))
    x, y = np.log(accuracy / (1 - accuracy)), np.log(shifted / (1 - shifted))
    (slope, intercept), (squares,), *_ = np.polyfit(x, y, 1, full=True)
    assert metrics.fit_baseline(accuracy, shifted) == pytest.approx((slope, intercept, np.sqrt(squares / 40)))


def test_baseline_needs_models_that_differ():
    with pytest.raises(ValueError, match="two or more models"):
        metrics.fit_baseline([0.5, 0.5], [0.4, 0.3])
    with pytest.raises(ValueError, match=r"in \(0, 1\), got 0.4 to 1"):
        metrics.fit_baseline([0.5, 1.0], [0.4, 0.9])
    assert np.isfinite(metrics.fit_baseline([0.5, 1.0], [0.4, 0.9], num_examples=100)).all()
