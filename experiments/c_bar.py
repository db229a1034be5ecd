"""C-bar: does robustness to ImageNet-C's corruptions carry over to others? (Mintun et al., 2021)

Every run is tested on the 15 corruptions of ImageNet-C and on ten that were chosen to be unlike them. A method that
augments with something like the former gains there, and little on the latter: the difference of the two mean errors
is in the table.

At `small` scale every run trains a published CIFAR-10 ResNet-20 on for one pass over 20,000 images and is tested on
500; at `paper` scale it starts from nothing.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness",
    arxiv="2102.11273",
    claim="WRN-40-2, error on CIFAR-10-C and on CIFAR-10-C-bar in %: standard 27.0 / 27.1, AutoAugment 19.4 / 21.0, "
    "AugMix 11.1 / 16.0, Patch Gaussian 17.0 / 23.8",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first, then one run for each augmentation."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def noises() -> dict[str, Any]:
    """What each run adds to its training images."""
    return {
        "standard": augmentations.Identity(),
        "gaussian": augmentations.Gaussian(sigma=0.1),
        "c2": augmentations.RandomLp("c2"),
    }


def evaluation(common: tuple[str, ...] = ("common",), bar: tuple[str, ...] = ("bar_cifar",), **kwargs: Any):
    """C first, since the difference is taken to it."""
    return {
        "clean": suites.Clean(),
        "common_corruptions": suites.CommonCorruptions(names=common, **kwargs),
        "corruptions_bar": suites.CorruptionsBar(names=bar, **kwargs),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and the corruptions that so few pixels allow: seconds a run."""
    common, bar = ("gaussian_noise", "brightness"), ("sparkles", "checkerboard_cutout")
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=models.WideResNet(depth=10, width=1),
            augmentation=noise,
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=4,
            batch_size=64,
            suites=evaluation(common, bar, severities=(1, 3, 5)),
        )
        for name, noise in noises().items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20, trained on for a while with each noise."""
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=20_000, num_test=500),
            model=models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            initial=f"{SHARED}/weights/cifar_resnet20.safetensors",
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            # Small enough to leave standard training its detail, large enough to teach noise.
            optimiser=train.Sgd(learning_rate=0.003, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.1),
            epochs=1,
            batch_size=128,
            suites=evaluation(),
        )
        for name, noise in noises().items()
    }


def paper() -> dict[str, train.Experiment]:
    """WRN-40-2, 200 epochs, as AugMix's code, which the paper trains with, has it; computed in bfloat16."""
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10"),
            model=models.WideResNet(num_classes=10, depth=40, width=2),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True, decay_all=True),
            schedule=train.Cosine(),
            precision="bfloat16",
            epochs=200,
            batch_size=128,
            suites=evaluation(),
        )
        for name, noise in noises().items()
    }
