"""MSCR: accuracy lost to noise that carries no example halfway to another class (Siedel et al., 2022).

Runs differ in the noise their training images get, drawn uniformly from a ball. They are tested under noise from the
balls of the radius eps_min, half the smallest distance between two classes of CIFAR-10's training images, and of
multiples of it.

At `small` scale every run trains a published CIFAR-10 ResNet-20 on for one pass over 20,000 images and is tested on
1,000; at `paper` scale it starts from nothing.
"""

from __future__ import annotations

import math
from typing import Any

from robust_jax import augmentations, corruptions, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Utilizing Class Separation Distance for the Evaluation of Corruption Robustness of Machine Learning "
    "Classifiers",
    arxiv="2206.13405",
    claim="on CIFAR-10, where eps_min = 0.10588 (Linf), training with noise brings MSCR near 0 and can raise the clean "
    "accuracy slightly",
)

SHARED = "../shared"
# Of CIFAR-10's training images, in the norms Linf, L2 and L1.
CIFAR_EPS = (0.10588, 1.3753, 32.93)


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first, then training with noise."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def noises(eps: float) -> dict[str, Any]:
    """What each run adds to its training images; the radius is that of the Linf ball."""
    return {
        "standard": augmentations.Identity(),
        "linf": corruptions.RandomLp(p=math.inf, eps=eps),
        "c2": augmentations.RandomLp("c2"),
    }


def evaluation(**kwargs: Any) -> dict[str, Any]:
    return {"clean": suites.Clean(), "class_separation": suites.ClassSeparation(**kwargs)}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, whose class separation is computed: seconds a run."""
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=models.WideResNet(depth=10, width=1),
            augmentation=noise,
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=4,
            batch_size=64,
            suites=evaluation(),
        )
        for name, noise in noises(0.2).items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20, trained on for a while with each noise."""
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=20_000, num_test=1000),
            model=models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            initial=f"{SHARED}/weights/cifar_resnet20.safetensors",
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            # Small enough to leave standard training its detail, large enough to teach noise.
            optimiser=train.Sgd(learning_rate=0.003, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.1),
            epochs=1,
            batch_size=128,
            suites=evaluation(eps=CIFAR_EPS, repeats=2),
        )
        for name, noise in noises(CIFAR_EPS[0]).items()
    }


def paper() -> dict[str, train.Experiment]:
    """WRN-28-10 on CIFAR-10, trained with Linf noise of several radii around eps_min; computed in bfloat16."""
    radii = {f"linf_x{factor:g}": factor * CIFAR_EPS[0] for factor in (0.25, 0.5, 1.0, 1.5, 2.0)}
    runs = {"standard": augmentations.Identity()}
    runs |= {name: corruptions.RandomLp(p=math.inf, eps=eps) for name, eps in radii.items()}
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10"),
            model=models.WideResNet(num_classes=10, depth=28, width=10, dropout=0.3),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True),
            schedule=train.WarmRestarts(period_epochs=10, multiplier=2),
            precision="bfloat16",
            epochs=150,
            batch_size=384,
            suites=evaluation(eps=CIFAR_EPS, repeats=4),
        )
        for name, noise in runs.items()
    }
