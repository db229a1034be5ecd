"""The minimal sample distance of augmentations from a corruption."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from robust_jax.metrics import sample_distance


def test_is_the_least_euclidean_distance(monkeypatch):
    rng = np.random.default_rng(0)
    images, mean = rng.normal(size=(50, 7, 12)), rng.normal(size=12)
    features = sample_distance.transform_features(images)
    expected = cdist(images.mean(1), mean[None]).min()
    assert sample_distance.minimal_sample_distance(features, mean) == pytest.approx(expected, rel=1e-12)
    # Nor does it depend on how many are held at once.
    monkeypatch.setattr(sample_distance, "_CHUNK_ENTRIES", 30)
    assert sample_distance.minimal_sample_distance(features, mean) == pytest.approx(expected, rel=1e-12)


def test_one_augmentation_in_many_is_enough():
    mean = np.full(4, 1000.0, np.float32)
    features = np.zeros((1000, 4), np.float32)
    features[617] = mean + np.float32(0.5)
    assert sample_distance.minimal_sample_distance(features, mean) == 1.0
    assert np.linalg.norm(features.mean(0) - mean) > 1000


@pytest.mark.parametrize(("features", "mean"), [((0, 3), (3,)), ((5, 3), (4,)), ((3,), (3,))])
def test_shapes_that_do_not_fit_are_named(features, mean):
    with pytest.raises(ValueError, match="augmented_features of shape"):
        sample_distance.minimal_sample_distance(np.zeros(features), np.zeros(mean))
