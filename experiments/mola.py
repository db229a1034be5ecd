"""Mixtures of Laplace approximations: an ensemble whose members are normal distributions (Eschenhagen et al., 2021).

One network, its Laplace approximation, an ensemble, and the mixture of the approximations of its members. Their weights
are the same, so that runs differ in what is predicted with them. The approximations are of the last layer, with a
Kronecker-factored curvature and the prior precision of the greatest marginal likelihood.

At `small` scale the images are 4,000 handwritten digits; the other kinds are clothes (Fashion-MNIST).
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, posteriors, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Mixtures of Laplace Approximations for Improved Post-Hoc Uncertainty in Deep Learning",
    arxiv="2111.03577",
    claim="better calibrated than an ensemble or one Laplace approximation under shift and on unknown classes",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """One network first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(members: int, **settings: Any) -> dict[str, train.Experiment]:
    """With and without members and their approximations."""
    laplace = posteriors.Laplace(curvature="kron")
    return {
        "single": train.Experiment(**settings),
        "laplace": train.Experiment(posterior=laplace, **settings),
        "ensemble": train.Experiment(members=members, **settings),
        "mixture": train.Experiment(members=members, posterior=laplace, **settings),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and two corruptions: seconds a run."""
    return runs(
        2,
        data=data.Digits(),
        model=models.ResNet(stage_sizes=(1,), width=8),
        optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
        epochs=2,
        batch_size=64,
        suites={
            "clean": suites.Clean(),
            "common_corruptions": suites.CommonCorruptions(("gaussian_blur", "contrast"), severities=(3,)),
        },
    )


def small() -> dict[str, train.Experiment]:
    """MNIST in 4,000 digits, on two cores; three seeds."""
    found = runs(
        5,
        data=data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", num_train=4000, num_test=500),
        model=models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch"),
        augmentation=augmentations.RandomCrop(),
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=0.2),
        epochs=3,
        batch_size=64,
        suites={
            "clean": suites.Clean(),
            "common_corruptions": suites.CommonCorruptions(severities=(3,)),
            "out_of_distribution": suites.OutOfDistribution(
                {"fashion": data.Tfds("fashion_mnist900", data_dir=f"{SHARED}/data/tfds")}
            ),
        },
    )
    return train.over_seeds(found, 3)


def paper() -> dict[str, train.Experiment]:
    """WRN-16-4 on CIFAR-10, five members, 100 epochs; computed in bfloat16."""
    return runs(
        5,
        data=data.Tfds("cifar10"),
        model=models.WideResNet(depth=16, width=4),
        augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True, nesterov=True),
        schedule=train.Cosine(),
        precision="bfloat16",
        epochs=100,
        batch_size=128,
        suites={
            "clean": suites.Clean(),
            "common_corruptions": suites.CommonCorruptions(),
            "out_of_distribution": suites.OutOfDistribution({"svhn": data.Tfds("svhn_cropped")}),
        },
    )
