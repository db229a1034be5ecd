"""PRIME: mixtures of primitives of maximum entropy, in frequencies, colours and space (Modas et al., 2022).

Three runs share everything but what is done to the training images after the crop and the flip: nothing; PRIME; and
PRIME for two further views of each image, with the Jensen–Shannon divergence between the three predictions as a part of
the loss, as published.

At `small` scale the images are 8,000 handwritten digits: in minutes on two cores a network learns these well enough for
its errors to be those of the corruptions.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="PRIME: A Few Primitives Can Boost Robustness to Common Corruptions",
    arxiv="2112.13547",
    claim="ResNet-18 with divergence on CIFAR-10, mean error over 15 corruptions in %: 10.95; CIFAR-100: 31.7",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def recipes(usual: tuple[Any, ...] = ()) -> dict[str, dict[str, Any]]:
    """Augmentation and objective of each run; ``usual`` comes first in all of them."""
    mixed = augmentations.Prime()
    return {
        "standard": {"augmentation": augmentations.Chain(usual)},
        "prime": {"augmentation": augmentations.Chain((*usual, mixed))},
        "prime_jsd": {"augmentation": augmentations.Chain(usual), "objective": objectives.JensenShannon(mixed)},
    }


def evaluation(names: tuple[str, ...] = ("all",), *, lp: bool = True, **kwargs: Any) -> dict[str, Any]:
    noises = {"random_lp": suites.RandomLp()} if lp else {}
    return {"clean": suites.Clean(), **noises, "common_corruptions": suites.CommonCorruptions(names=names, **kwargs)}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and two corruptions: seconds a run."""
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=models.WideResNet(depth=10, width=1),
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=4,
            batch_size=64,
            suites=evaluation(("gaussian_blur", "contrast"), severities=(1, 3, 5), lp=False),
            **recipe,
        )
        for name, recipe in recipes().items()
    }


def small() -> dict[str, train.Experiment]:
    """MNIST in 8,000 digits, on two cores; three seeds."""
    runs = {
        name: train.Experiment(
            data=data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", num_train=8000, num_test=300),
            model=models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch"),
            optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.2),
            epochs=3,
            batch_size=64,
            suites=evaluation(severities=(1, 3, 5)),
            **recipe,
        )
        for name, recipe in recipes((augmentations.RandomCrop(),)).items()
    }
    return train.over_seeds(runs, 3)


def paper() -> dict[str, train.Experiment]:
    """The published recipe: ResNet-18 on CIFAR-10 and CIFAR-100, 100 epochs, one cycle; computed in bfloat16.

    There the gradient is clipped, and the learning rate rises for a quarter of the time along a cosine.
    """
    usual = (augmentations.RandomCrop(), augmentations.HorizontalFlip())
    return {
        f"{dataset}_{name}": train.Experiment(
            data=data.Tfds(dataset),
            model=models.resnet18(num_classes=num_classes),
            optimiser=train.Sgd(learning_rate=0.2, momentum=0.9, weight_decay=5e-4, decay_all=True, nesterov=True),
            schedule=train.Cosine(warmup_epochs=25),
            precision="bfloat16",
            epochs=100,
            batch_size=128,
            suites=evaluation(),
            **recipe,
        )
        for dataset, num_classes in (("cifar10", 10), ("cifar100", 100))
        for name, recipe in recipes(usual).items()
    }
