"""DeepAugment: training images through networks whose weights are distorted, or random (Hendrycks et al., 2021).

All runs share everything but what is done to the training images after the crop and the flip: nothing; DeepAugment, a
denoiser or an autoencoder with distorted weights; Noise2Net, networks of random weights; and either after AugMix.

At `small` scale the images are 8,000 handwritten digits: in minutes on two cores a network learns these well enough for
its errors to be those of the corruptions.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="The Many Faces of Robustness: A Critical Analysis of Out-of-Distribution Generalization",
    arxiv="2006.16241",
    claim="ResNet-50 on ImageNet-C, mCE in % of AlexNet's: standard 76.7, DeepAugment 60.4, with AugMix 53.6",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def recipes(usual: tuple[Any, ...] = (), *, hidden: int = 16) -> dict[str, dict[str, Any]]:
    """Augmentation of each run; ``usual`` comes first in all of them."""
    distorted, random, mixed = (
        augmentations.DeepAugment(),
        augmentations.Noise2Net(hidden=hidden),
        augmentations.AugMix(),
    )
    steps = {
        "standard": (),
        "deepaugment": (distorted,),
        "noise2net": (random,),
        "deepaugment_augmix": (mixed, distorted),
        "noise2net_augmix": (mixed, random),
    }
    return {name: {"augmentation": augmentations.Chain((*usual, *own))} for name, own in steps.items()}


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
        for name, recipe in recipes(hidden=4).items()
        if name in ("standard", "deepaugment", "noise2net")
    }


def small() -> dict[str, train.Experiment]:
    """MNIST in 8,000 digits, on two cores."""
    return {
        name: train.Experiment(
            data=data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", num_train=8000, num_test=500),
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


def paper() -> dict[str, train.Experiment]:
    """WRN-40-2 on CIFAR-10 and CIFAR-100, 100 epochs; computed in bfloat16. The paper has a ResNet-50 on ImageNet."""
    usual = (augmentations.RandomCrop(), augmentations.HorizontalFlip())
    return {
        f"{dataset}_{name}": train.Experiment(
            data=data.Tfds(dataset),
            model=models.WideResNet(num_classes=num_classes, depth=40, width=2),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True, nesterov=True),
            schedule=train.Cosine(),
            precision="bfloat16",
            epochs=100,
            batch_size=128,
            suites=evaluation(),
            **recipe,
        )
        for dataset, num_classes in (("cifar10", 10), ("cifar100", 100))
        for name, recipe in recipes(usual).items()
    }
