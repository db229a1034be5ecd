"""Segmentation and denoising against scikit-learn, NumPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from robust_jax import metrics, tasks
from robust_jax.types import IGNORED

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(5, 7, 6, 4)).astype(np.float32)
LABELS = GENERATOR.integers(-1, 4, (5, 7, 6)).astype(np.int32)
LABELS[:, :3] = LOGITS[:, :3].argmax(axis=-1)
# Of the second image only two pixels have a class, of the third none; class 3 is nowhere in the fourth.
LABELS[1], LABELS[1, 0, :2], LABELS[2] = IGNORED, (0, 2), IGNORED
LABELS[3][LABELS[3] == 3] = 0
TASK = tasks.Segmentation(4)
COUNTED = LABELS >= 0


def test_confusion_and_iou_are_scikit_learns():
    confusion = np.asarray(TASK.confusion(LOGITS, LABELS))
    predicted = LOGITS.argmax(axis=-1)
    for i in range(5):
        expected = (
            sklearn.metrics.confusion_matrix(LABELS[i][COUNTED[i]], predicted[i][COUNTED[i]], labels=range(4))
            if COUNTED[i].any()
            else np.zeros((4, 4))
        )
        np.testing.assert_array_equal(confusion[i], expected)
    truth, found = LABELS[COUNTED], predicted[COUNTED]
    expected = sklearn.metrics.jaccard_score(truth, found, average=None, labels=range(4))
    total = confusion.sum(axis=0)
    np.testing.assert_allclose(metrics.class_iou(total), expected, rtol=1e-12)
    np.testing.assert_allclose(metrics.mean_iou(total), expected.mean(), rtol=1e-12)
    np.testing.assert_allclose(metrics.mean_iou(confusion.mean(axis=0)), expected.mean(), rtol=1e-12)
    np.testing.assert_allclose(metrics.pixel_error(total), 1 - sklearn.metrics.accuracy_score(truth, found), rtol=1e-12)


def test_iou_of_the_data_set_is_no_mean_over_images():
    """One image is all right, the other half wrong: 3/4 pixels right, IoU of class 0 2/3 and of class 1 1/2."""
    labels = jnp.asarray([[[0, 1]], [[0, 0]]])
    predicted = jnp.asarray([[[0, 1]], [[0, 1]]])
    logits = 2.0 * jax.nn.one_hot(predicted, 2)
    task = tasks.Segmentation(2)
    confusion = np.asarray(task.confusion(logits, labels))
    np.testing.assert_allclose(metrics.class_iou(confusion.sum(axis=0)), [2 / 3, 1 / 2])
    np.testing.assert_allclose(metrics.mean_iou(confusion.sum(axis=0)), 7 / 12)
    # Within the second image: 1/2 and 0.
    np.testing.assert_allclose(task.measures(logits, labels)["image_iou"], [1.0, 0.25])


def test_classes_that_do_not_occur_have_no_iou():
    confusion = np.diag([3, 2, 0])
    np.testing.assert_array_equal(metrics.class_iou(confusion), [1, 1, np.nan])
    assert metrics.mean_iou(confusion) == 1
    assert np.isnan(metrics.mean_iou(np.zeros((3, 3))))
    assert np.isnan(metrics.pixel_error(np.zeros((3, 3))))


def test_measures_are_means_over_the_pixels_with_a_class():
    measures = TASK.measures(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    log_probs = scipy.special.log_softmax(LOGITS.astype(float), axis=-1)
    of_label = np.take_along_axis(log_probs, np.maximum(LABELS, 0)[..., None], axis=-1)[..., 0]
    wrong = LOGITS.argmax(axis=-1) != LABELS
    for i in range(5):
        some = COUNTED[i].any()
        nll = -of_label[i][COUNTED[i]].mean() if some else 0
        error = wrong[i][COUNTED[i]].mean() if some else 0
        np.testing.assert_allclose(measures["nll"][i], nll, rtol=1e-5)
        np.testing.assert_allclose(measures["error"][i], error, rtol=1e-5)
        if some:
            truth, found = LABELS[i][COUNTED[i]], LOGITS[i].argmax(axis=-1)[COUNTED[i]]
            expected = sklearn.metrics.jaccard_score(truth, found, average="macro")
            np.testing.assert_allclose(measures["image_iou"][i], expected, rtol=1e-5)


def test_values_of_ignored_pixels_do_not_matter():
    other = np.where(COUNTED[..., None], LOGITS, 100 * LOGITS[::-1])
    before, after = TASK.measures(LOGITS, LABELS), TASK.measures(other, LABELS)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_denoising_is_the_mean_squared_error_and_its_decibels():
    clean = GENERATOR.uniform(size=(3, 4, 5, 2)).astype(np.float32)
    restored = clean + np.float32([0.1, 0.01, 0.0])[:, None, None, None]
    measures = tasks.Denoising().measures(jnp.asarray(restored), jnp.asarray(clean))
    np.testing.assert_allclose(measures["mse"], [1e-2, 1e-4, 0], rtol=1e-4)
    np.testing.assert_allclose(measures["psnr"], [20, 40, np.inf], rtol=1e-4)
    density = scipy.stats.norm.logpdf(clean, restored).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(tasks.Denoising().log_likelihood(restored, clean), density, rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "prediction", "label", "message"),
    [
        (TASK, (2, 4, 4, 4), np.zeros((2, 4, 5), int), r"got predictions \(2, 4, 4, 4\) and labels int64 \(2, 4, 5\)"),
        (TASK, (2, 4, 4, 3), np.zeros((2, 4, 4), int), r"logits \[b, h, w, 4\] .* Segmentation\(num_classes=4\)"),
        (TASK, (2, 4), np.zeros(2, int), r"got predictions \(2, 4\) and labels int64 \(2,\)"),
        (TASK, (2, 4, 4, 4), np.zeros((2, 4, 4)), "labels float64"),
        (tasks.Denoising(), (2, 4, 4, 3), np.zeros((2, 4, 4, 1)), r"got predictions \(2, 4, 4, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(task, prediction, label, message):
    with pytest.raises(ValueError, match=message):
        task.check(np.zeros(prediction), label)


def test_a_task_has_classes():
    with pytest.raises(ValueError, match="num_classes > 0"):
        tasks.Segmentation(0)
