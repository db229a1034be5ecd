"""The segmentation suite against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from robust_jax import corruptions, data, suites
from robust_jax.core.keys import example_keys, named_key
from robust_jax.core.mesh import data_mesh

KEY = jax.random.key(0)
SHAPES = data.Shapes(num_test=10, image_size=24)
SUITE = suites.SegmentationSuite(("contrast", "gaussian_noise"), severities=(1, 3))


def predictor(images):
    """Brighter than a threshold is a disc, much brighter a square."""
    level = images.mean(axis=-1, keepdims=True)
    return jnp.concatenate([0 * level, 20 * (level - 0.5), 40 * (level - 0.57)], axis=-1)


def evaluation(batch_size=4, source=None):
    source = SHAPES.load("test") if source is None else source
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:1]))


def context(predictor=predictor, source=None, **more):
    return suites.Context(KEY, predictor, evaluation(source=source), **more)


@pytest.fixture(scope="module")
def rows():
    return list(SUITE.rows(context()))


def scores(images, maps):
    predicted = np.asarray(predictor(jnp.asarray(images))).argmax(axis=-1)
    jaccard = sklearn.metrics.jaccard_score(maps.ravel(), predicted.ravel(), average=None, labels=range(3))
    return jaccard, 1 - sklearn.metrics.accuracy_score(maps.ravel(), predicted.ravel())


def test_cases_are_scikit_learns(rows):
    """Padded batches and corruptions by example, each applied here on its own."""
    images, maps = SHAPES.load("test").decode()
    images = images / np.float32(255)
    found = {(row.case, row.severity, row.metric): row.value for row in rows}
    jaccard, error = scores(images, maps)
    assert 0.2 < jaccard.mean() < 0.9
    for i, name in enumerate(("background", "disc", "square")):
        np.testing.assert_allclose(found["clean", None, f"iou_{name}"], jaccard[i], rtol=1e-6)
    np.testing.assert_allclose(found["clean", None, "mean_iou"], jaccard.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["clean", None, "error"], error, rtol=1e-6)
    values = []
    for name in SUITE.corruption_names:
        keys = example_keys(named_key(KEY, name), jnp.arange(10))
        for severity in SUITE.severities:
            damaged = corruptions.corrupt_batch(keys, jnp.asarray(images), name, jnp.float32(severity), preset="auto")
            jaccard, _ = scores(damaged, maps)
            values.append(jaccard.mean())
            np.testing.assert_allclose(found[name, severity, "mean_iou"], values[-1], atol=2e-3)
    np.testing.assert_allclose(found["all", None, "mean_iou"], np.mean(values), atol=2e-3)
    np.testing.assert_allclose(found["contrast", None, "mean_iou"], np.mean(values[:2]), atol=2e-3)


def test_intervals_and_counts(rows):
    for row in rows:
        assert row.count == 10
        assert row.low <= row.value <= row.high
    assert len({(row.case, row.severity) for row in rows}) == SUITE.num_cases + 3


def test_finished_cases_are_not_computed_again(rows, tmp_path):
    store = suites.CaseStore(tmp_path)
    kept = list(SUITE.rows(context(store=store)))
    assert kept == rows

    def broken(images):
        raise AssertionError("was called")

    assert list(SUITE.rows(context(broken, store=store))) == rows


def test_samples_show_label_and_prediction():
    samples = SUITE.samples(context(), num_images=3)
    _, maps = SHAPES.load("test").decode()
    assert samples.images.shape == (3, 3, 24, 24, 3)
    np.testing.assert_array_equal(samples.images[:, 1, ..., 0], np.array([0, 128, 255])[maps[:3]])


def test_predictions_and_labels_that_are_not_of_pixels():
    with pytest.raises(ValueError, match=r"logits \[b, h, w, 3\] .* got predictions \(4, 3\)"):
        list(SUITE.rows(context(lambda images: images.mean(axis=(1, 2)))))
    digits = data.Digits().load("test").subset(np.arange(4))
    with pytest.raises(ValueError, match=r"labels int32 \(4,\)"):
        list(SUITE.rows(context(lambda images: jnp.zeros((*images.shape[:3], 10)), digits)))


def test_corruptions_that_move_pixels_are_refused():
    assert "elastic_transform" not in suites.SegmentationSuite().corruption_names
    with pytest.raises(ValueError, match="label maps keep their place, got elastic_transform"):
        suites.SegmentationSuite(("all",))
