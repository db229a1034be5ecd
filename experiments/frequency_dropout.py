"""Frequency dropout: feature maps through random filters in training (Islam & Glocker, 2022).

Two runs share everything but the filters, drawn for every step and channel after each spatial convolution; at `small`
scale for a tenth of the channels, since short training bears no more.

At `small` scale the images are 8,000 handwritten digits: in minutes on two cores a network learns these well enough for
its errors to be those of the corruptions.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Frequency Dropout: Feature-Level Regularization via Randomized Filtering",
    arxiv="2209.09844",
    claim="better accuracy, and better under domain shift",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def recipes(network: Any, rate: float | None = None) -> dict[str, dict[str, Any]]:
    """The network of each run; a share of channels is filtered, by default the published one."""
    filtered = models.FrequencyDropped(network, models.FrequencyDropout(rate))
    return {"standard": {"model": network}, "frequency_dropout": {"model": filtered}}


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
    """MNIST in 8,000 digits, on two cores."""
    network = models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch")
    return {
        name: train.Experiment(
            data=data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", num_train=8000, num_test=500),
            augmentation=augmentations.Chain((augmentations.RandomCrop(),)),
            optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.2),
            epochs=3,
            batch_size=64,
            suites=evaluation(severities=(1, 3, 5)),
            **recipe,
        )
        for name, recipe in recipes(network, 0.1).items()
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
