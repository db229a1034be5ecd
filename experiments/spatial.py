"""Rotations and translations: random ones do some harm, the worst of a grid a lot (Engstrom et al., 2019).

Every run is tested on images turned by up to 30° and moved by up to 3 pixels of 32: by a random amount, by the worst
of 10, and of a grid of 775. Beside standard training stands training on images that are turned and moved at random
within the same limits. Both are tested, too, by a majority over 10 random rotations and translations of what they are
given. In the paper that helps; after the short training of `small` it does not show: turned images are new to the
standard network, whose votes are worse than its answers, and the other is as good without.

At `small` scale every run trains a published CIFAR-10 ResNet-20 on for one pass over 20,000 images and is tested on
200; at `paper` scale it starts from nothing.
"""

from __future__ import annotations

from typing import Any

from robust_jax import attacks, augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Exploring the Landscape of Spatial Robustness",
    arxiv="1712.02779",
    claim="a standard CIFAR-10 network is correct on more than 90 % of test images and on less than 10 % under the "
    "worst rotation and translation of a grid; training with random ones helps, and so does a majority over random "
    "ones of the input, and both are far from closing the gap",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def defences() -> dict[str, Any]:
    """What is done to training images after the crop and the flip."""
    return {"standard": augmentations.Identity(), "augmented": augmentations.RotateTranslate()}


def evaluation(grid_of_votes: tuple[int, ...] | None = None, *, votes: int = 10, **kwargs: Any) -> dict[str, Any]:
    """The suites; a grid of votes takes ten times as long as a grid."""
    return {
        "clean": suites.Clean(),
        "spatial": suites.Spatial(**kwargs),
        "votes": suites.Spatial(**{**kwargs, "grid": grid_of_votes, "first_order_steps": 0, "votes": votes}),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=models.ResNet(stage_sizes=(1, 1), width=8),
            augmentation=noise,
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=4,
            batch_size=64,
            suites=evaluation(grid=(3, 3, 5), first_order_steps=4, votes=3),
        )
        for name, noise in defences().items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20, trained on for a while with and without turned images."""
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=20_000, num_test=200),
            model=models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            initial=f"{SHARED}/weights/cifar_resnet20.safetensors",
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            # Large enough to learn what turned images look like in one pass.
            optimiser=train.Sgd(learning_rate=0.01, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.1),
            epochs=1,
            batch_size=128,
            suites=evaluation(),
        )
        for name, noise in defences().items()
    }


def paper() -> dict[str, train.Experiment]:
    """ResNet-32 on CIFAR-10 for 80,000 steps, with wider limits in training, and with a mirrored border, as well.

    Its learning rate falls in steps; here it is a cosine.
    """
    runs = defences() | {
        "augmented_40": augmentations.RotateTranslate(shift=4 / 32, degrees=40.0),
        "augmented_mirrored_border": augmentations.RotateTranslate(border="reflect"),
    }
    threats = {"augmented_mirrored_border": attacks.Spatial(border="reflect")}
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10"),
            model=models.cifar_resnet(32),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=2e-4),
            schedule=train.Cosine(),
            epochs=205,
            batch_size=128,
            suites=evaluation((5, 5, 31), threat=threats.get(name, attacks.Spatial()), first_order_steps=200),
        )
        for name, noise in runs.items()
    }
