"""Selective prediction and detection against scikit-learn, loops and closed forms."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from robust_jax import metrics


def predictions(size=200, *, seed=0, ties=False):
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0, 1, size)
    if ties:
        confidence = np.round(confidence, 1)
    return confidence, (generator.uniform(size=size) > confidence).astype(float)


def test_curve_against_a_loop():
    confidence, loss = predictions()
    order = sorted(range(len(loss)), key=lambda i: -confidence[i])
    expected = [np.mean([loss[i] for i in order[:n]]) for n in range(1, len(loss) + 1)]
    curve = metrics.risk_coverage(confidence, loss)
    np.testing.assert_allclose(curve.risk, expected)
    np.testing.assert_allclose(curve.coverage, np.arange(1, 201) / 200)
    assert metrics.aurc(confidence, loss) == pytest.approx(np.mean(expected))


def test_ties_count_as_in_random_order():
    confidence, loss = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([0.0, 1.0, 0.0, 0.0, 1.0])
    orders = [(0, *middle, 4) for middle in itertools.permutations((1, 2, 3))]
    risks = [np.cumsum(loss[list(order)]) / np.arange(1, 6) for order in orders]
    np.testing.assert_allclose(metrics.risk_coverage(confidence, loss).risk, np.mean(risks, axis=0))
    shuffled = [4, 2, 0, 1, 3]
    assert metrics.aurc(confidence[shuffled], loss[shuffled]) == pytest.approx(metrics.aurc(confidence, loss))


def test_excess_is_over_the_best_of_all_orders():
    confidence, loss = np.array([0.3, 0.8, 0.5, 0.9, 0.1]), np.array([0.0, 1.0, 0.0, 0.4, 1.0])
    best = min(metrics.aurc(-np.array(order), loss) for order in itertools.permutations(range(5)))
    assert metrics.excess_aurc(confidence, loss) == pytest.approx(metrics.aurc(confidence, loss) - best)
    assert metrics.excess_aurc(-loss, loss) == pytest.approx(0)


@pytest.mark.parametrize("ties", [False, True])
def test_augrc_is_the_published_function_of_auroc(ties):
    confidence, loss = predictions(ties=ties)
    accuracy, auroc = 1 - loss.mean(), roc_auc_score(1 - loss, confidence)
    expected = accuracy * (1 - accuracy) * (1 - auroc) + (1 - accuracy) ** 2 / 2
    assert metrics.augrc(confidence, loss) == pytest.approx(expected, abs=1e-12)


def test_risk_and_coverage_are_read_from_the_curve():
    confidence, loss = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.0, 0.0, 1.0, 0.0])
    assert [metrics.risk_at_coverage(confidence, loss, c) for c in (0, 0.5, 0.75, 1)] == [0, 0, 1 / 3, 0.25]
    assert [metrics.coverage_at_risk(confidence, loss, r) for r in (0, 0.25, 0.3, 1)] == [0.5, 1, 1, 1]
    assert metrics.coverage_at_risk(confidence, np.ones(4), 0.5) == 0
    # 0.07 · 100 is a little more than 7 in floating point.
    confidence, loss = -np.arange(100.0), (np.arange(100) == 7).astype(float)
    assert metrics.risk_at_coverage(confidence, loss, 0.07) == 0


def test_detection_against_scikit_learn():
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(0, 1, 500), generator.normal(1.5, 1, 60)
    found = metrics.detection_metrics(inside, outside)
    labels, scores = np.repeat([0, 1], [500, 60]), np.concatenate([inside, outside])
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, scores))
    for name, is_positive, sign in (("out", labels, 1), ("in", 1 - labels, -1)):
        false, true, _ = roc_curve(is_positive, sign * scores, drop_intermediate=False)
        assert found[f"fpr95_{name}"] == pytest.approx(false[true >= 0.95].min())
    assert found["aupr_in"] > found["aupr_out"], "the data are many more"
    assert metrics.detection_metrics(-outside, -inside)["aupr_out"] == pytest.approx(found["aupr_in"])


def test_detection_at_its_ends():
    apart = metrics.detection_metrics(np.zeros(10), np.ones(10))
    assert apart == {"auroc": 1.0, "aupr_out": 1.0, "aupr_in": 1.0, "fpr95_out": 0.0, "fpr95_in": 0.0}
    same = metrics.detection_metrics(np.zeros(10), np.zeros(10), level=0.9)
    assert same["auroc"] == 0.5
    assert same["fpr90_out"] == same["fpr90_in"] == 1


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: metrics.risk_coverage(np.zeros(3), np.zeros(2)), "as many confidences"),
        (lambda: metrics.aurc(np.zeros(0), np.zeros(0)), "and some"),
        (lambda: metrics.risk_at_coverage(np.zeros(3), np.zeros(3), 1.5), "coverage"),
        (lambda: metrics.coverage_at_risk(np.zeros(3), np.zeros(3), -1), "risk"),
        (lambda: metrics.detection_metrics(np.zeros(0), np.zeros(3)), "inside"),
        (lambda: metrics.detection_metrics(np.zeros(2), np.array([np.nan])), "outside"),
    ],
)
def test_bad_input(run, message):
    with pytest.raises(ValueError, match=message):
        run()
