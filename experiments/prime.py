"""PRIME: mixtures of primitives of maximum entropy, in frequencies, colours and space (Modas et al., 2022).

Three runs share everything but what is done to the training images after the crop and the flip: nothing; PRIME; and
PRIME for two further views of each image, with the Jensen–Shannon divergence between the three predictions as a part of
the loss, as published.

At `small` scale every run trains a published CIFAR-10 ResNet-20 on for two passes over 8,000 images and is tested on
300, without the divergence, which takes three times as long; at `paper` scale it starts from nothing.
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
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20, trained on for a while with each recipe."""
    usual = (augmentations.RandomCrop(), augmentations.HorizontalFlip())
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=8000, num_test=300),
            model=models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            initial=f"{SHARED}/weights/cifar_resnet20.safetensors",
            # Small enough to leave standard training its detail, large enough to teach something else.
            optimiser=train.Sgd(learning_rate=0.02, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.1),
            epochs=2,
            batch_size=128,
            suites=evaluation(severities=(1, 3, 5)),
            **recipe,
        )
        for name, recipe in recipes(usual).items()
        if name != "prime_jsd"
    }


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
