import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from robust_jax import metrics

LOGITS = np.random.default_rng(0).normal(size=(40, 5), scale=2).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 5, 40)
SOFT = np.random.default_rng(2).dirichlet(np.ones(5), 40).astype(np.float32)


def test_errors_are_one_less_accuracy():
    error = metrics.errors(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert float(error.mean()) == pytest.approx(1 - sk.accuracy_score(LABELS, LOGITS.argmax(1)))
    np.testing.assert_array_equal(error, LOGITS.argmax(1) != LABELS)


def test_nll_is_scikit_learns_log_loss():
    value = metrics.nll(jnp.asarray(LOGITS), jnp.asarray(LABELS)).mean()
    assert float(value) == pytest.approx(sk.log_loss(LABELS, softmax(LOGITS.astype(float), axis=1)), rel=1e-5)


def test_brier_is_the_squared_distance_to_the_label():
    expected = ((softmax(LOGITS, axis=1) - np.eye(5)[LABELS]) ** 2).sum(1)
    np.testing.assert_allclose(metrics.brier(jnp.asarray(LOGITS), jnp.asarray(LABELS)), expected, rtol=1e-5)


def test_confidence_is_the_largest_probability():
    np.testing.assert_allclose(metrics.confidence(jnp.asarray(LOGITS)), softmax(LOGITS, axis=1).max(1), rtol=1e-5)


def test_soft_labels():
    logits, soft = jnp.asarray(LOGITS), jnp.asarray(SOFT)
    probs = softmax(LOGITS.astype(float), axis=1)
    np.testing.assert_allclose(metrics.nll(logits, soft), -(SOFT * np.log(probs)).sum(1), rtol=1e-5)
    np.testing.assert_allclose(metrics.brier(logits, soft), ((probs - SOFT) ** 2).sum(1), rtol=1e-4)
    np.testing.assert_array_equal(metrics.errors(logits, soft), LOGITS.argmax(1) != SOFT.argmax(1))


@pytest.mark.parametrize("name", ["errors", "nll", "brier"])
@pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["hard", "soft"])
def test_same_under_jit_and_vmap(name, labels):
    function = getattr(metrics, name)
    logits, labels = jnp.asarray(LOGITS), jnp.asarray(labels)
    expected = function(logits, labels)
    assert expected.shape == (40,)
    assert expected.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(function)(logits, labels), expected, rtol=1e-6)
    stacked = jax.vmap(function, in_axes=(0, None))(jnp.stack([logits, logits]), labels)
    np.testing.assert_allclose(stacked, [expected, expected], rtol=1e-6)


def test_impossible_classes_cost_nothing_unless_they_happen():
    logits = jnp.array([[0.0, -jnp.inf, 0.0], [0.0, -jnp.inf, 0.0]])
    np.testing.assert_allclose(metrics.nll(logits, jnp.array([0, 1])), [np.log(2), np.inf], rtol=1e-6)
    np.testing.assert_allclose(metrics.nll(logits[:1], jnp.array([[0.5, 0.0, 0.5]])), [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_nan_logits_are_an_error_and_show(label):
    logits, labels = jnp.array([[0.0, jnp.nan]]), jnp.array([label])
    assert metrics.errors(logits, labels)[0] == 1
    assert np.isnan(metrics.nll(logits, labels)[0])
    assert np.isnan(metrics.confidence(logits)[0])
