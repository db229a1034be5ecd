"""Differences of members against scipy and loops; the same under jit and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from robust_jax import metrics
from robust_jax.mathematics.mixtures import mixture_logits

LOGITS = 2 * jax.random.normal(jax.random.key(0), (4, 6, 5))
PROBS = special.softmax(np.asarray(LOGITS, np.float64), axis=-1)
MEASURES = (metrics.mutual_information, metrics.disagreement, metrics.kl_divergence)


def test_mixture_is_the_mean_of_probabilities():
    np.testing.assert_allclose(np.exp(mixture_logits(LOGITS)), PROBS.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(mixture_logits(LOGITS[:1]), jax.nn.log_softmax(LOGITS[0]), atol=1e-6)


def test_entropy_and_information_against_scipy():
    np.testing.assert_allclose(metrics.entropy(LOGITS), stats.entropy(PROBS, axis=-1), rtol=1e-5)
    assert metrics.entropy(jnp.array([0.0, -jnp.inf])) == 0
    expected = stats.entropy(PROBS.mean(axis=0), axis=-1) - stats.entropy(PROBS, axis=-1).mean(axis=0)
    np.testing.assert_allclose(metrics.mutual_information(LOGITS), expected, atol=1e-5)
    # Members that are sure of as many classes as there are of them: log M.
    sure = 100 * jnp.eye(4)[:, None]
    np.testing.assert_allclose(metrics.mutual_information(sure), np.log(4), rtol=1e-5)


def test_pairs_against_loops():
    predicted = PROBS.argmax(axis=-1)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    np.testing.assert_allclose(
        metrics.disagreement(LOGITS), np.mean([predicted[i] != predicted[j] for i, j in pairs], axis=0), rtol=1e-6
    )
    expected = np.mean([stats.entropy(PROBS[i], PROBS[j], axis=-1) for i, j in pairs], axis=0)
    np.testing.assert_allclose(metrics.kl_divergence(LOGITS), expected, rtol=1e-4)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_equal_members_do_not_differ_and_transforms_agree(measure):
    same = jnp.broadcast_to(LOGITS[:1], (3, 6, 5))
    np.testing.assert_allclose(measure(same), 0, atol=1e-6)
    np.testing.assert_allclose(jax.jit(measure)(LOGITS), measure(LOGITS), atol=1e-6)
    many = jnp.stack([LOGITS, LOGITS[::-1] + 1])
    np.testing.assert_allclose(jax.vmap(measure)(many), [measure(one) for one in many], atol=1e-5)


def test_one_member_makes_no_pair():
    for measure in (metrics.disagreement, metrics.kl_divergence):
        with pytest.raises(ValueError, match="two members"):
            measure(LOGITS[:1])


def test_deep_ensemble_equivalent():
    nlls = [1.0, 0.8, 0.7, 0.7, 0.65]
    found = [metrics.deep_ensemble_equivalent(nll, nlls) for nll in (1.2, 1.0, 0.9, 0.7, 0.675, 0.1)]
    np.testing.assert_allclose(found, [1, 1, 1.5, 3, 4, 5])
    with pytest.raises(ValueError, match="one ensemble"):
        metrics.deep_ensemble_equivalent(0.3, [])
