"""Corruptions as interventions on the imaging process, results by the variable intervened on (Drenkow et al., 2021).

The review describes how an image comes about by a causal model, and a corruption as a soft intervention on one of its
variables. Here these are illumination, weather, optics, motion, sensor, processing and transmission. Every corruption
of ImageNet-C and C-bar declares its own, and the table has a mean error for every variable. Of the tactics that the
review finds in the literature, runs show one of preprocessing and one of augmentation.

At `small` scale every run trains a published CIFAR-10 ResNet-20 on for one pass over 20,000 images and is tested on
300; at `paper` scale it starts from nothing.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="A Systematic Review of Robustness in Deep Learning for Computer Vision: Mind the gap?",
    arxiv="2112.00639",
    claim="a review, without a table of its own: natural corruptions often cost as much performance as adversarial "
    "conditions do",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first, then the tactics."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def tactics(network: Any, tiles: tuple[int, int]) -> dict[str, tuple[Any, Any]]:
    """The network of each run, and what is done to its training images after the crop and the flip."""
    return {
        "standard": (network, augmentations.Identity()),
        "preprocessing": (models.Equalised(network, tiles=tiles), augmentations.Identity()),
        "augmentation": (network, augmentations.RandomLp("c2")),
    }


def evaluation(names: tuple[str, ...] = ("all", "bar_cifar"), **kwargs: Any) -> dict[str, Any]:
    """One suite of all corruptions, so that its means by variable are over both benchmarks."""
    return {"clean": suites.Clean(), "interventions": suites.Interventions(names=names, **kwargs)}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and one corruption of each variable but a few: seconds a run."""
    names = ("gaussian_noise", "fog", "brightness", "gaussian_blur")
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=model,
            augmentation=noise,
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=4,
            batch_size=64,
            suites=evaluation(names, severities=(1, 3, 5)),
        )
        for name, (model, noise) in tactics(models.WideResNet(depth=10, width=1), tiles=(1, 1)).items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20, trained on for a while with each tactic."""
    network = models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=20_000, num_test=300),
            model=model,
            initial=f"{SHARED}/weights/cifar_resnet20.safetensors",
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            # Small enough to leave standard training its detail, large enough to teach something else.
            optimiser=train.Sgd(learning_rate=0.003, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.1),
            epochs=1,
            batch_size=128,
            suites=evaluation(severities=(1, 3, 5)),
        )
        for name, (model, noise) in tactics(network, tiles=(2, 2)).items()
    }


def paper() -> dict[str, train.Experiment]:
    """WRN-28-4 on CIFAR-10, 150 epochs, cosine with warm restarts; computed in bfloat16."""
    network = models.WideResNet(num_classes=10, depth=28, width=4, dropout=0.3)
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10"),
            model=model,
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True),
            schedule=train.WarmRestarts(period_epochs=10, multiplier=2),
            precision="bfloat16",
            epochs=150,
            batch_size=384,
            suites=evaluation(),
        )
        for name, (model, noise) in tactics(network, tiles=(2, 2)).items()
    }
