"""Random Lp-norm corruptions: training with noise from one norm, from three, from nine (Siedel et al., 2023).

All runs of a table share everything but the noise their training images get, after the crop and the flip. A norm and
a radius are drawn for every image; the original draws them, and one noise tensor, for eight images at a time.

At `small` scale every run trains a published CIFAR-10 ResNet-20 on for one pass over 20,000 images and is tested on
1,000; at `paper` scale it starts from nothing.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Investigating the Corruption Robustness of Image Classifiers with Random Lp-norm Corruptions",
    arxiv="2305.05400",
    claim="WRN-28-4 on CIFAR-10, clean error / mCE_Lp / iCE in %: standard 5.67 / 32.0 / 9.7, C1 7.10 / 8.7 / 1.6, "
    "C2 6.71 / 8.2 / 1.6, C3 6.43 / 10.6 / 0.1",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first, then one run for each kind of noise."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def noises(table: str = "cifar") -> dict[str, Any]:
    """What each run adds to its training images."""
    return {
        "standard": augmentations.Identity(),
        "gaussian": augmentations.Gaussian(sigma=0.1),
        "l0": augmentations.RandomLp("l0", table=table),
        "c1": augmentations.RandomLp("c1", table=table),
        "c2": augmentations.RandomLp("c2", table=table),
        "c3": augmentations.RandomLp("c3", table=table),
    }


def evaluation(table: str = "cifar", **kwargs: Any) -> dict[str, Any]:
    return {"clean": suites.Clean(), "random_lp": suites.RandomLp(table=table, **kwargs)}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
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
        for name, noise in noises().items()
        if name in ("standard", "gaussian", "c2")
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20, trained on for a while with each noise.

    A network of minutes is at home in noise already, since it has not yet learned the fine detail that noise hides;
    one that was trained for 200 epochs has.
    """
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
            suites=evaluation(imperceptible_repeats=2),
        )
        for name, noise in noises().items()
        if name in ("standard", "gaussian", "l0", "c2")
    }


def paper() -> dict[str, train.Experiment]:
    """The published recipe: WRN-28-4, 150 epochs, cosine with warm restarts; CIFAR-10, CIFAR-100, TinyImageNet.

    Unlike there, the network computes in bfloat16; ``--precision float32`` takes that back.
    """
    datasets = {
        "cifar10": (data.Tfds("cifar10"), 10, "cifar"),
        "cifar100": (data.Tfds("cifar100"), 100, "cifar"),
        "tiny_imagenet": (data.ImageFolder("tiny-imagenet-200"), 200, "tiny_imagenet"),
    }
    return {
        f"{dataset}_{name}": train.Experiment(
            data=source,
            model=models.WideResNet(num_classes=num_classes, depth=28, width=4, dropout=0.3),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True),
            schedule=train.WarmRestarts(period_epochs=10, multiplier=2),
            precision="bfloat16",
            epochs=150,
            batch_size=384,
            suites=evaluation(table),
        )
        for dataset, (source, num_classes, table) in datasets.items()
        for name, noise in noises(table).items()
    }
