"""Tasks against scipy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from robust_jax import tasks
from robust_jax.mathematics.gaussian import (
    gaussian_mixture_nll,
    gaussian_nll,
    mean_and_variance,
    mean_and_variance_outputs,
)

GENERATOR = np.random.default_rng(0)
OUTPUTS = GENERATOR.normal(size=(40, 4)).astype(np.float32)
TARGETS = GENERATOR.normal(size=(40, 2)).astype(np.float32)
MEAN, VARIANCE = OUTPUTS[:, :2], np.log1p(np.exp(OUTPUTS[:, 2:])) + 1e-6
SCALE = (3.0, 0.01)


def test_regression_is_scipys_in_the_units_of_the_data():
    """Whoever multiplies predictions and targets by their units first has the same log-likelihood and errors."""
    task = tasks.Regression(2, scale=SCALE)
    mean, targets, sd = MEAN * SCALE, TARGETS * SCALE, np.sqrt(VARIANCE) * SCALE
    expected = scipy.stats.norm.logpdf(targets, mean, sd).sum(axis=1)
    np.testing.assert_allclose(task.log_likelihood(OUTPUTS, TARGETS), expected, rtol=1e-4, atol=1e-5)
    measures = task.measures(OUTPUTS, TARGETS)
    np.testing.assert_allclose(measures["nll"], -expected, rtol=1e-4, atol=1e-5)
    squared = sklearn.metrics.mean_squared_error(targets, mean)
    np.testing.assert_allclose(measures["squared_error"].mean(), squared, rtol=1e-5)


def test_regression_without_variance_has_variance_one():
    task = tasks.Regression(2, variance=False)
    expected = scipy.stats.norm.logpdf(TARGETS, MEAN).sum(axis=1)
    np.testing.assert_allclose(task.log_likelihood(MEAN, TARGETS), expected, rtol=1e-5)
    assert set(task.measures(MEAN, TARGETS)) == {"squared_error"}


@pytest.mark.parametrize("soft", [False, True])
def test_classification_is_scikit_learns(soft):
    probs = scipy.special.softmax(OUTPUTS.astype(float), axis=1)
    labels = GENERATOR.integers(0, 4, 40)
    labels[:20] = probs[:20].argmax(axis=1)
    given = np.eye(4, dtype=np.float32)[labels] if soft else labels
    measures = tasks.Classification(4).measures(jnp.asarray(OUTPUTS), jnp.asarray(given))
    accuracy = sklearn.metrics.accuracy_score(labels, probs.argmax(axis=1))
    np.testing.assert_allclose(1 - measures["error"].mean(), accuracy, rtol=1e-6)
    loss = sklearn.metrics.log_loss(labels, probs, labels=range(4))
    np.testing.assert_allclose(measures["nll"].mean(), loss, rtol=1e-5)
    per_class = [sklearn.metrics.brier_score_loss(labels == k, probs[:, k]) for k in range(4)]
    np.testing.assert_allclose(measures["brier"].mean(), sum(per_class), rtol=1e-5)
    likelihood = tasks.Classification(4).log_likelihood(jnp.asarray(OUTPUTS), jnp.asarray(given))
    np.testing.assert_allclose(likelihood, np.log(probs[np.arange(40), labels]), rtol=1e-5)


def test_outputs_invert_mean_and_variance():
    """From the least variance to where float32 ends."""
    variance = np.float32([[2e-6, 1e-3, 0.5, 30.0, 1e6, 1e30]])
    mean = np.zeros_like(variance)
    again = mean_and_variance(mean_and_variance_outputs(jnp.asarray(mean), jnp.asarray(variance)))
    np.testing.assert_allclose(again[1], variance, rtol=1e-5)
    least = mean_and_variance_outputs(jnp.zeros((1, 1)), jnp.full((1, 1), 1e-6))
    np.testing.assert_allclose(mean_and_variance(least)[1], 1e-6, rtol=1e-5)


def test_mixture_nll_is_the_log_of_the_mean_density():
    means, sds = GENERATOR.normal(size=(3, 40, 2)), GENERATOR.uniform(0.3, 2, (3, 40, 2))
    density = scipy.stats.norm.pdf(TARGETS, means, sds).prod(axis=-1).mean(axis=0)
    found = gaussian_mixture_nll(jnp.float32(means), jnp.float32(sds**2), jnp.asarray(TARGETS))
    np.testing.assert_allclose(found, -np.log(density), rtol=1e-4, atol=1e-5)
    one = gaussian_mixture_nll(jnp.float32(means[:1]), jnp.float32(sds[:1] ** 2), jnp.asarray(TARGETS))
    np.testing.assert_allclose(
        one, gaussian_nll(jnp.float32(means[0]), jnp.float32(sds[0] ** 2), TARGETS), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("prediction", "targets", "task"),
    [
        ((1, 10), (), tasks.Classification(10)),
        ((1, 2), (3.0,), tasks.Regression(1, scale=(3.0,))),
        ((1, 1), (3.0,), tasks.Regression(1, variance=False, scale=(3.0,))),
        ((1, 8, 8, 1), (), None),
    ],
)
def test_task_is_implied_by_data_and_network(prediction, targets, task):
    shape = jax.ShapeDtypeStruct(prediction, jnp.float32)
    assert tasks.infer_task(shape, num_classes=10, target_scale=targets) == task


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tasks.Classification(0), "num_classes > 0"),
        (lambda: tasks.Regression(0), "num_targets > 0"),
        (lambda: tasks.Regression(2, scale=(1.0,)), "scale with 2 entries or none"),
        (lambda: tasks.Regression(1, scale=(0.0,)), "scale > 0"),
        (
            lambda: tasks.Regression(1).measures(jnp.zeros((5, 10)), jnp.zeros((5, 1))),
            r"predictions \[b, 2\] and labels float \[b, 1\] for Regression\(num_targets=1.*got predictions \(5, 10\)",
        ),
        (
            lambda: tasks.Regression(1).measures(jnp.zeros((5, 2)), jnp.zeros(5, int)),
            r"got predictions \(5, 2\) and labels int32 \(5,\)",
        ),
        (
            lambda: tasks.Classification(3).measures(jnp.zeros((5, 3)), jnp.zeros((5, 1))),
            r"logits \[b, 3\] and labels int \[b\] or float \[b, 3\] .* labels float32 \(5, 1\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
