"""Subnetwork inference (Daxberger et al., 2021): a full covariance over few weights, or a coarse one over all?

One network, and Laplace approximations of it: of all weights with a diagonal covariance, of the last layer, and with a
full covariance of as many weights as memory allows, chosen at random, by their variance under the diagonal, or by that
along a path of SGD (SWAG), as the paper has it for large networks. All predict with the network linearised in its
weights, and take the prior precision of the greatest marginal likelihood.

At `small` scale the images are 4,000 handwritten digits, and the subnetwork has 1,000 of 75,000 weights.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, posteriors, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Bayesian Deep Learning via Subnetwork Inference",
    arxiv="2010.14689",
    claim="better calibrated under shift than a diagonal Laplace approximation, the last layer's, and random weights",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """The network alone first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(
    num_weights: int, swag: posteriors.Swag, byte_budget: int = 2**29, **settings: Any
) -> dict[str, train.Experiment]:
    """One network, and approximations of it."""
    subnetworks = {
        "random": posteriors.RandomWeights(num_weights),
        "by_laplace": posteriors.LargestVariance(num_weights),
        "by_swag": posteriors.LargestVariance(num_weights, swag),
    }
    found = {
        "map": None,
        "diagonal": posteriors.Laplace("all", "diag"),
        "last_layer": posteriors.Laplace("last_layer", "full"),
        **{name: posteriors.Laplace(rule, "full", byte_budget=byte_budget) for name, rule in subnetworks.items()},
    }
    return {name: train.Experiment(posterior=posterior, **settings) for name, posterior in found.items()}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and two corruptions: seconds a run."""
    return runs(
        50,
        posteriors.Swag(epochs=2, batch_size=64, rank=0),
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
    """MNIST in 4,000 digits, on two cores."""
    return runs(
        1000,
        posteriors.Swag(epochs=5, learning_rate=0.02, batch_size=64, collects_per_epoch=4, rank=0),
        data=data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", num_train=4000, num_test=300),
        model=models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch"),
        augmentation=augmentations.RandomCrop(),
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=0.2),
        epochs=3,
        batch_size=64,
        # What is linearised is fastest on a CPU in batches that its caches hold.
        execution=train.Execution(eval_batch_size=20),
        suites={
            "clean": suites.Clean(),
            "common_corruptions": suites.CommonCorruptions(severities=(3,)),
            "out_of_distribution": suites.OutOfDistribution(
                {"fashion": data.Tfds("fashion_mnist900", data_dir=f"{SHARED}/data/tfds")}
            ),
        },
    )


def paper() -> dict[str, train.Experiment]:
    """ResNet-18 on CIFAR-10, 42,438 weights, 350 epochs; a covariance of 7 GB."""
    return runs(
        42_438,
        posteriors.Swag(epochs=20, rank=0),
        byte_budget=2**37,
        data=data.Tfds("cifar10"),
        model=models.resnet18(stem="cifar"),
        augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True, nesterov=True),
        schedule=train.Cosine(),
        epochs=350,
        batch_size=128,
        suites={
            "clean": suites.Clean(),
            "common_corruptions": suites.CommonCorruptions(),
            "out_of_distribution": suites.OutOfDistribution({"svhn": data.Tfds("svhn_cropped")}),
        },
    )
