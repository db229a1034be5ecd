"""Detectors against scipy and scikit-learn, and what every one of them must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn.covariance import EmpiricalCovariance

from robust_jax import config, detectors, models, predictors
from robust_jax.types import Batch

NETWORK = models.Mlp(num_classes=3, widths=(6,))
SHAPE = (4, 4, 1)
IMAGES = jax.random.uniform(jax.random.key(1), (40, *SHAPE))
LABELS = jnp.arange(40) % 3
BATCHES = [
    Batch(IMAGES[:25], LABELS[:25], jnp.ones(25, bool), jnp.arange(25)),
    Batch(IMAGES[15:], LABELS[15:], jnp.arange(25) >= 10, jnp.arange(15, 40)),
]
DETECTORS = [
    detectors.MaxProbability(),
    detectors.Entropy(),
    detectors.Energy(),
    detectors.MaxLogit(),
    detectors.MutualInformation(),
    detectors.Mahalanobis(),
]
of_each = pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)


def network(seed):
    params, state = models.init(NETWORK, jax.random.key(seed), SHAPE)
    return models.predictor(NETWORK, {"params": params, **state})


ONE, TWO = network(0), predictors.ensemble([network(0), network(1)])


@jax.jit
def score(fitted, predictor, images):
    return fitted(predictor, images)


@of_each
def test_contract(detector):
    """One number per image, finite, the same compiled, in a batch or alone, and a component that can be saved."""
    predictor = ONE if detector.applies(ONE) else TWO
    fitted = detector.fit(predictor, BATCHES)
    scores = score(fitted, predictor, IMAGES)
    assert scores.shape == (40,)
    assert jnp.isfinite(scores).all()
    np.testing.assert_allclose(fitted(predictor, IMAGES), scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score(fitted, predictor, IMAGES[3:4])[0], scores[3], rtol=1e-4, atol=1e-5)
    assert config.from_json(config.to_json(detector)) == detector


@of_each
def test_new_weights_do_not_retrace(detector):
    traced = []

    @jax.jit
    def run(fitted, predictor, images):
        traced.append(1)
        return fitted(predictor, images)

    for members in ((0, 1), (2, 3)):
        several = predictors.ensemble([network(seed) for seed in members])
        run(detector.fit(several, BATCHES), several, IMAGES)
    assert len(traced) == 1


def test_every_detector_is_in_the_table():
    listed = {type(detector) for detector in DETECTORS}
    exported = {getattr(detectors, name) for name in detectors.__all__} - {detectors.Detector, detectors.Score}
    assert exported - {detectors.MahalanobisScore} == listed


def test_scores_of_logits_equal_scipys():
    logits = np.asarray(TWO.members(IMAGES), np.float64)
    probs = special.softmax(logits, axis=-1)
    mean = probs.mean(axis=0)
    expected = {
        "max_probability": -mean.max(axis=-1),
        "entropy": stats.entropy(mean, axis=-1),
        "energy": -special.logsumexp(logits, axis=-1).mean(axis=0),
        "max_logit": -logits.max(axis=-1).mean(axis=0),
        "mutual_information": stats.entropy(mean, axis=-1) - stats.entropy(probs, axis=-1).mean(axis=0),
    }
    for detector in DETECTORS[:-1]:
        np.testing.assert_allclose(detector(TWO, IMAGES), expected[detector.name], rtol=1e-4, atol=1e-5)


def test_mahalanobis_equals_scikit_learns():
    features = np.asarray(ONE.output(IMAGES).features, np.float64)
    means = np.stack([features[np.asarray(LABELS) == label].mean(axis=0) for label in range(3)])
    covariance = EmpiricalCovariance(assume_centered=True).fit(features - means[np.asarray(LABELS)])
    moved = IMAGES[:7] * 1.5
    centred = np.asarray(ONE.output(moved).features)[:, None] - means
    expected = np.stack([covariance.mahalanobis(centred[:, label]) for label in range(3)]).min(axis=0)
    found = detectors.Mahalanobis().fit(ONE, BATCHES)(ONE, moved)
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_mahalanobis_of_an_ensemble_is_the_mean_over_members():
    members = [network(0), network(1)]
    alone = [detectors.Mahalanobis().fit(member, BATCHES)(member, IMAGES) for member in members]
    np.testing.assert_allclose(
        detectors.Mahalanobis().fit(TWO, BATCHES)(TWO, IMAGES), np.mean(alone, axis=0), rtol=1e-3
    )


def test_bad_values():
    with pytest.raises(ValueError, match="predictor with features"):
        detectors.Mahalanobis().fit(predictors.as_predictor(lambda images: images[:, 0, 0]), BATCHES)
    with pytest.raises(ValueError, match="every class, got none of"):
        detectors.Mahalanobis().fit(ONE, [BATCHES[0]._replace(label=jnp.where(LABELS[:25] == 1, 2, LABELS[:25]))])
    with pytest.raises(ValueError, match="predictor with members"):
        detectors.MutualInformation()(ONE, IMAGES)
    with pytest.raises(ValueError, match="cutoff >= 0"):
        detectors.Mahalanobis(cutoff=-1.0)
