"""You Only Cut Once: augmentations of the two halves of an image, each for itself (Han et al., 2022).

Each augmentation has a run with whole images and one with halves. All share everything but what is done to the training
images after the crop and the flip.

At `small` scale the images are 8,000 handwritten digits: in minutes on two cores a network learns these well enough for
its errors to be those of the corruptions.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="You Only Cut Once: Boosting Data Augmentation with a Single Cut",
    arxiv="2201.12078",
    claim="lower clean errors with most augmentations; nothing is said of corruptions",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def recipes(usual: tuple[Any, ...] = ()) -> dict[str, dict[str, Any]]:
    """Augmentation of each run; ``usual`` comes first in all of them."""
    wholes = {
        "rand_augment": augmentations.RandAugment(),
        "jitter": augmentations.ColourJitter(),
        "erasing": augmentations.RandomErasing(probability=1.0),
    }
    halves = {f"{name}_yoco": augmentations.Yoco(whole) for name, whole in wholes.items()}
    steps = {"standard": augmentations.Identity(), **wholes, **halves}
    return {name: {"augmentation": augmentations.Chain((*usual, step))} for name, step in steps.items()}


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
        if name in ("standard", "jitter_yoco", "erasing_yoco")
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
    """ResNet-18 on CIFAR-10 and CIFAR-100 for 200 epochs; computed in bfloat16."""
    usual = (augmentations.RandomCrop(), augmentations.HorizontalFlip())
    return {
        f"{dataset}_{name}": train.Experiment(
            data=data.Tfds(dataset),
            model=models.resnet18(num_classes=num_classes),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True),
            schedule=train.Cosine(),
            precision="bfloat16",
            epochs=200,
            batch_size=128,
            suites=evaluation(),
            **recipe,
        )
        for dataset, num_classes in (("cifar10", 10), ("cifar100", 100))
        for name, recipe in recipes(usual).items()
    }
