"""Spatial smoothing: Monte-Carlo dropout that needs fewer draws (Park & Kim, 2022).

Dropout between the convolutions of a residual network, without and with feature maps smoothed before they are made
smaller. Predictions of one network are averaged over different numbers of draws.

At `small` scale the images are 4,000 photographs of CIFAR-10, compressed as JPEG.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, posteriors, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Blurs Behave Like Ensembles: Spatial Smoothings to Improve Accuracy, Uncertainty, and Robustness",
    arxiv="2105.12639",
    claim="ResNet-18 on CIFAR-100: with smoothing, two draws of MC dropout are as good as fifty without",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Monte-Carlo dropout without smoothing first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(model: Any, num_samples: int, **settings: Any) -> dict[str, train.Experiment]:
    """Without and with smoothing."""
    dropout = posteriors.MonteCarloDropout(num_samples)
    return {
        "mc_dropout": train.Experiment(model=model, posterior=dropout, **settings),
        "smoothed": train.Experiment(model=model.clone(smoothing=10.0), posterior=dropout, **settings),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and two corruptions: seconds a run."""
    return runs(
        models.ResNet(stage_sizes=(1, 1), width=8, dropout=0.3),
        5,
        data=data.Digits(),
        optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
        epochs=2,
        batch_size=64,
        suites={
            "clean": suites.Clean(),
            "members": suites.Members(counts=(1, 2, 5)),
            "common_corruptions": suites.CommonCorruptions(("gaussian_blur", "contrast"), severities=(3,)),
        },
    )


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 in 4,000 images, on two cores; three seeds."""
    found = runs(
        models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch", dropout=0.3),
        50,
        data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=4000, num_test=1000),
        augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=0.5),
        epochs=10,
        batch_size=64,
        suites={"clean": suites.Clean(), "members": suites.Members(counts=(1, 2, 5, 50))},
    )
    return train.over_seeds(found, 3)


def paper() -> dict[str, train.Experiment]:
    """ResNet-18 on CIFAR-100, 200 epochs; computed in bfloat16."""
    return runs(
        models.resnet18(num_classes=100, dropout=0.3),
        50,
        data=data.Tfds("cifar100"),
        augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True, nesterov=True),
        schedule=train.Cosine(warmup_epochs=1),
        precision="bfloat16",
        epochs=200,
        batch_size=128,
        suites={
            "clean": suites.Clean(),
            "members": suites.Members(counts=(1, 2, 5, 50)),
            "common_corruptions": suites.CommonCorruptions(),
        },
    )
