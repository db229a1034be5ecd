"""Pure noise images for classes with few examples, and batch norm that tells them apart (Zada et al., 2022).

Ten classes that decline in number to a hundredth, of CIFAR-10 and at `small` scale of MNIST. All runs but the first
repeat examples until every class is as frequent; the last two replace a part of these by images of pure noise, with
batch statistics in common with the other images, or of their own (DAR-BN). The test set has all classes alike, so its
error is the balanced one.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Pure Noise to the Rescue of Insufficient Data: Improving Imbalanced Classification by Training on Random "
    "Noise Images",
    arxiv="2112.08810",
    claim="the best results of its day on long-tailed CIFAR-10, CIFAR-100, ImageNet and Places",
)

SHARED = "../shared"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def recipes(
    source: Any, most: int, imbalance: float, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> dict[str, dict[str, Any]]:
    """Data and objective of each run."""
    tailed = data.LongTailed(source, imbalance=imbalance, most=most)
    balanced = data.Oversampled(tailed)
    counts = data.long_tailed_counts(most, 10, imbalance)
    noise = objectives.PureNoise(counts, mean=mean, std=std, routed=False)
    routed = objectives.PureNoise(counts, mean=mean, std=std)
    return {
        "standard": {"data": tailed},
        "oversampled": {"data": balanced},
        "noise": {"data": balanced, "objective": noise},
        "noise_dar_bn": {"data": balanced, "objective": routed},
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return {
        name: train.Experiment(
            model=models.WideResNet(depth=10, width=1),
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=2,
            batch_size=64,
            suites={"clean": suites.Clean()},
            **recipe,
        )
        for name, recipe in recipes(data.Digits(), 100, 10, mean=(0.3,), std=(0.35,)).items()
    }


def small() -> dict[str, train.Experiment]:
    """MNIST with 200 images of the first class and 2 of the last, not augmented, on two cores; three seeds."""
    source = data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", num_test=2000)
    runs = {
        name: train.Experiment(
            model=models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch"),
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True, weight_decay=5e-4),
            schedule=train.Cosine(warmup_epochs=0.5),
            # As many steps with a quarter of the examples.
            epochs=16 if name != "standard" else 64,
            batch_size=100,
            suites={"clean": suites.Clean()},
            **recipe,
        )
        for name, recipe in recipes(source, 200, 100, mean=(0.1307,), std=(0.3081,)).items()
    }
    return train.over_seeds(runs, 3)


def paper() -> dict[str, train.Experiment]:
    """WRN-28-10, 200 epochs of the oversampled set; computed in bfloat16. The paper begins with noise at epoch 160."""
    return {
        name: train.Experiment(
            model=models.WideResNet(depth=28, width=10, dropout=0.3, mean=MEAN, std=STD),
            augmentation=augmentations.Chain(
                (augmentations.RandomCrop(), augmentations.HorizontalFlip(), augmentations.Cutout())
            ),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=2e-4, decay_all=True),
            schedule=train.Cosine(warmup_epochs=5),
            precision="bfloat16",
            epochs=200,
            batch_size=128,
            suites={"clean": suites.Clean()},
            **recipe,
        )
        for name, recipe in recipes(data.Tfds("cifar10"), 5000, 100).items()
    }
