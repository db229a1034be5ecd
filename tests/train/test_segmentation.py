"""Training with label maps and with clean images as labels."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from robust_jax import augmentations, data, models, objectives, suites, tasks, train
from robust_jax.metrics import mean_iou

GENERATOR = np.random.default_rng(0)
EXPERIMENT = train.Experiment(
    data=data.Shapes(num_train=80, num_test=16, image_size=16, validation=16),
    model=models.UNet(num_classes=3, widths=(8, 8)),
    augmentation=augmentations.Chain((augmentations.HorizontalFlip(), augmentations.RandomCrop(2))),
    optimiser=train.AdamW(learning_rate=0.02, weight_decay=0.0),
    epochs=4,
    batch_size=16,
    suites={"segmentation": suites.SegmentationSuite(("contrast",), severities=(2,))},
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    return folder, train.fit(EXPERIMENT, folder)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_task_is_implied_and_training_learns(trained):
    folder, result = trained
    assert result.task == tasks.Segmentation(3)
    found = [line for line in lines_of(folder) if "validation_mean_iou" in line]
    assert found[-1]["validation_nll"] < found[0]["validation_nll"]
    losses = [line["loss"] for line in lines_of(folder) if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_validation_iou_is_of_all_images(trained):
    folder, result = trained
    images, maps = EXPERIMENT.data.load("validation").decode()
    logits = result.predictor(images / np.float32(255))
    confusion = np.asarray(result.task.confusion(logits, maps)).sum(axis=0)
    last = [line for line in lines_of(folder) if "validation_mean_iou" in line][-1]
    np.testing.assert_allclose(last["validation_mean_iou"], mean_iou(confusion), rtol=1e-4)


def test_loss_is_the_mean_over_pixels_with_a_class():
    """The objective on label maps is the negative log-likelihood of the task, image by image."""
    model = models.UNet(num_classes=3, widths=(4,), norm="group")
    params, state = models.init(model, jax.random.key(0), (8, 8, 3))
    images = GENERATOR.uniform(size=(4, 8, 8, 3)).astype(np.float32)
    maps = GENERATOR.integers(-1, 3, (4, 8, 8)).astype(np.int32)
    batch = data.pipeline.as_batch(images, maps, np.arange(4))
    forward = models.forward_fn(model, state)
    loss = objectives.CrossEntropy()(jax.random.key(1), forward, params, batch, (), None)
    logits = models.predictor(model, {"params": params, **state})(images)
    task = tasks.Segmentation(3)
    np.testing.assert_allclose(loss.per_example, -task.log_likelihood(logits, maps), rtol=1e-5)
    np.testing.assert_allclose(loss.metrics["accuracy"], 1 - task.measures(logits, maps)["error"].mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"model": models.Mlp(3)},
            ValueError,
            r"Mlp on shapes does not fit its task. .* predictions \(1, 3\) and labels int32 \(1, 16, 16\)",
        ),
        ({"task": tasks.Classification(3)}, ValueError, r"predictions \(1, 16, 16, 3\) and labels int32 \(1, 16, 16\)"),
        ({"data": data.Digits(), "task": tasks.Segmentation(10)}, ValueError, r"UNet on digits .* labels int32 \(1,\)"),
        ({"model": models.UNet(2, widths=(4,))}, ValueError, r"logits \[b, h, w, 3\] .* predictions \(1, 16, 16, 2\)"),
        ({"mixers": (augmentations.Mixup(),)}, ValueError, "no mixers, since shapes has label maps, .* got Mixup"),
        (
            {"augmentation": augmentations.Chain((augmentations.HorizontalFlip(), augmentations.AugMix()))},
            TypeError,
            "moves label maps with their images, got AugMix",
        ),
        (
            {"model": models.UNet(3, widths=(4,) * 6)},
            ValueError,
            r"divide by 32, got shape \(1, 16, 16, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_training(fields, error, message):
    with pytest.raises(error, match=message):
        train.fit(dataclasses.replace(EXPERIMENT, **fields))


@pytest.mark.long
def test_pairs_of_noisy_and_clean_images(tmp_path):
    """They imply denoising: the network, which starts as the identity, learns to take off a constant."""
    clean = GENERATOR.uniform(size=(40, 8, 8, 1)).astype(np.float32)
    noisy = clean + np.float32(0.1) * GENERATOR.normal(size=clean.shape).astype(np.float32)
    experiment = train.Experiment(
        data=data.Arrays(train=(noisy + np.float32(0.3), clean), validation=8),
        model=models.DnCNN(depth=3, width=4),
        objective=objectives.Denoising(sigma=None),
        optimiser=train.AdamW(learning_rate=0.02, weight_decay=0.0),
        epochs=8,
        batch_size=8,
    )
    before = train.fit(dataclasses.replace(experiment, epochs=0))
    assert before.task == tasks.Denoising()
    images, labels = experiment.data.load("validation").decode()
    measures = before.task.measures(before.predictor(images), labels)
    np.testing.assert_allclose(measures["mse"], ((images - labels) ** 2).mean(axis=(1, 2, 3)), rtol=1e-4)
    after = train.fit(experiment, tmp_path)
    found = after.task.measures(after.predictor(images), labels)
    assert found["psnr"].mean() > measures["psnr"].mean() + 3
    last = [line for line in lines_of(tmp_path) if "validation_psnr" in line][-1]
    np.testing.assert_allclose(last["validation_psnr"], found["psnr"].mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"augmentation": augmentations.HorizontalFlip()}, "no augmentation, since arrays has clean images"),
        ({"objective": objectives.Denoising()}, r"sigma=None where labels are clean images .* got sigma=0.09"),
    ],
)
def test_what_clean_images_cannot_go_with(fields, message):
    pairs = np.zeros((8, 8, 8, 1), np.float32), np.zeros((8, 8, 8, 1), np.float32)
    experiment = train.Experiment(
        data=data.Arrays(train=pairs),
        model=models.DnCNN(depth=2, width=2),
        objective=objectives.Denoising(sigma=None),
        epochs=1,
        batch_size=8,
    )
    with pytest.raises(ValueError, match=message):
        train.fit(dataclasses.replace(experiment, **fields))
