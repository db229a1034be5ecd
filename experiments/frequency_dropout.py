"""Frequency dropout: feature maps through random filters in training (Islam & Glocker, 2022).

Two runs share everything but the filters, drawn for every step and channel after each spatial convolution.

At `small` scale every run trains a published CIFAR-10 ResNet-20 on for one pass over 8,000 images and is tested on
300; at `paper` scale it starts from nothing.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Frequency Dropout: Feature-Level Regularization via Randomized Filtering",
    claim="better accuracy under domain shift; the ranges of the filters are ours",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def recipes(network: Any) -> dict[str, dict[str, Any]]:
    """The network of each run."""
    few = models.FrequencyDropped(network, models.FrequencyDropout(rate=0.1, size=3))
    return {"standard": {"model": network}, "frequency_dropout": {"model": few}}


def evaluation(names: tuple[str, ...] = ("all",), *, lp: bool = True, **kwargs: Any) -> dict[str, Any]:
    noises = {"random_lp": suites.RandomLp()} if lp else {}
    return {"clean": suites.Clean(), **noises, "common_corruptions": suites.CommonCorruptions(names=names, **kwargs)}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and two corruptions: seconds a run."""
    return {
        name: train.Experiment(
            data=data.Digits(),
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=4,
            batch_size=64,
            suites=evaluation(("gaussian_blur", "contrast"), severities=(1, 3, 5), lp=False),
            **recipe,
        )
        for name, recipe in recipes(models.WideResNet(depth=10, width=1)).items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20, trained on for a while with each recipe."""
    network = models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=8000, num_test=300),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
            initial=f"{SHARED}/weights/cifar_resnet20.safetensors",
            # Small enough to leave standard training its detail, large enough to teach something else.
            optimiser=train.Sgd(learning_rate=0.003, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.1),
            epochs=1,
            batch_size=128,
            suites=evaluation(severities=(1, 3, 5)),
            **recipe,
        )
        for name, recipe in recipes(network).items()
    }


def paper() -> dict[str, train.Experiment]:
    """WRN-40-2 on CIFAR-10 and CIFAR-100, 100 epochs; computed in bfloat16."""
    return {
        f"{dataset}_{name}": train.Experiment(
            data=data.Tfds(dataset),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True, nesterov=True),
            schedule=train.Cosine(),
            precision="bfloat16",
            epochs=100,
            batch_size=128,
            suites=evaluation(),
            **recipe,
        )
        for dataset, num_classes in (("cifar10", 10), ("cifar100", 100))
        for name, recipe in recipes(models.WideResNet(num_classes=num_classes, depth=40, width=2)).items()
    }
