"""The augmentations that papers on corruptions compare with: mixed pairs, covered patches, searched policies.

All runs share everything but what is done to the training images after the crop and the flip: Mixup (Zhang et al.,
2018), CutMix (Yun et al., 2019), Cutout (DeVries & Taylor, 2017), random erasing (Zhong et al., 2017), patches of
Gaussian noise (Lopes et al., 2019), AutoAugment (Cubuk et al., 2019), RandAugment (Cubuk et al., 2020), TrivialAugment
(Müller & Hutter, 2021); and NoisyMix (Lim et al., 2022), pairs of AugMix's views mixed in hidden layers with noise.

At `small` scale the images are 8,000 handwritten digits: in minutes on two cores a network learns these well enough for
its errors to be those of the corruptions.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="mixup: Beyond Empirical Risk Minimization, and others",
    arxiv="1710.09412",
    claim="WRN-28-4 on CIFAR-10, clean error / mean error over 19 corruptions in % (2305.05400): standard 5.67 / 31.3, "
    "Mixup 4.98 / 27.3, RandAugment 4.56 / 21.8, TrivialAugment 4.13 / 15.5",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def recipes(usual: tuple[Any, ...] = (), *, blocks: int, patch: int = 25, hole: int = 16) -> dict[str, dict[str, Any]]:
    """Augmentation, mixers and objective of each run; ``usual`` comes first in all of them.

    A network has three stages of ``blocks``, after each of which NoisyMix may mix.
    """
    layers = tuple(f"stage{stage}_block{blocks}" for stage in (1, 2, 3))
    steps = {
        "standard": augmentations.Identity(),
        "cutout": augmentations.Cutout(size=hole),
        "erasing": augmentations.RandomErasing(),
        "patch_gaussian": augmentations.PatchGaussian(size=patch),
        "auto_augment": augmentations.AutoAugment(),
        "rand_augment": augmentations.RandAugment(),
        "trivial_augment": augmentations.TrivialAugment(),
    }
    mixers = {"mixup": augmentations.Mixup(), "cutmix": augmentations.CutMix(probability=0.5)}
    single = {name: {"augmentation": augmentations.Chain((*usual, step))} for name, step in steps.items()}
    pairs = {name: {"augmentation": augmentations.Chain(usual), "mixers": (mixer,)} for name, mixer in mixers.items()}
    noisy = objectives.NoisyMix(layers=layers, augmentation=augmentations.AugMix())
    return {**single, **pairs, "noisymix": {"augmentation": augmentations.Chain(usual), "objective": noisy}}


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
        for name, recipe in recipes(blocks=1, patch=6, hole=4).items()
        if name in ("standard", "mixup", "cutmix", "noisymix")
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
        for name, recipe in recipes((augmentations.RandomCrop(),), blocks=1, patch=14, hole=10).items()
        if name not in ("cutout", "erasing", "auto_augment")
    }


def paper() -> dict[str, train.Experiment]:
    """WRN-28-4 on CIFAR-10 and CIFAR-100, 150 epochs, cosine with warm restarts; computed in bfloat16."""
    usual = (augmentations.RandomCrop(), augmentations.HorizontalFlip())
    return {
        f"{dataset}_{name}": train.Experiment(
            data=data.Tfds(dataset),
            model=models.WideResNet(num_classes=num_classes, depth=28, width=4, dropout=0.3),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True),
            schedule=train.WarmRestarts(period_epochs=10, multiplier=2),
            precision="bfloat16",
            epochs=150,
            batch_size=384,
            suites=evaluation(),
            **recipe,
        )
        for dataset, num_classes in (("cifar10", 10), ("cifar100", 100))
        for name, recipe in recipes(usual, blocks=4).items()
    }
