"""ImageNet-C: training with and without a defence against common corruptions (Hendrycks & Dietterich, 2019).

The paper's own defence that needs neither more data nor another network is histogram equalisation of every image, in
training and in testing. Beside it stands training with noise of the L0, L2 and Linf norms (arXiv 2305.05400).

Beside the corruptions of ImageNet-C stand the films of CIFAR-10-P, along which predictions should not flip. All are
made on the device, anew for every run and the same for all of them. At `small` scale every run trains
a published CIFAR-10 ResNet-20 on for one pass over 20,000 images and is tested on 300; at `paper` scale it starts
from nothing.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
    arxiv="1903.12261",
    claim="ResNet-50 on ImageNet-C, mCE in % of AlexNet's: standard 76.7, histogram equalisation 74.5",
)

SHARED = "../shared"
# Those that images of 8×8 pixels are large enough for, and that compile in no time.
SMOKE_CORRUPTIONS = ("gaussian_noise", "fog", "brightness", "contrast")


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first, then the defences."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def defences(network: Any, tiles: tuple[int, int]) -> dict[str, tuple[Any, Any]]:
    """The network of each run, and what is done to its training images after the crop and the flip."""
    return {
        "standard": (network, augmentations.Identity()),
        "equalised": (models.Equalised(network, tiles=tiles), augmentations.Identity()),
        "c2": (network, augmentations.RandomLp("c2")),
    }


def evaluation(perturbations: tuple[str, ...] = ("auto",), **kwargs: Any) -> dict[str, Any]:
    return {
        "clean": suites.Clean(),
        "common_corruptions": suites.CommonCorruptions(**kwargs),
        "perturbations": suites.Perturbations(names=perturbations),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=model,
            augmentation=noise,
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=4,
            batch_size=64,
            suites=evaluation(("brightness", "translate"), names=SMOKE_CORRUPTIONS, severities=(1, 3, 5)),
        )
        for name, (model, noise) in defences(models.WideResNet(depth=10, width=1), tiles=(1, 1)).items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20, trained on for a while with each defence."""
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
            suites=evaluation(),
        )
        for name, (model, noise) in defences(network, tiles=(2, 2)).items()
    }


def paper() -> dict[str, train.Experiment]:
    """ResNet-50 on ImageNet, and WRN-28-4 on CIFAR-10, where most papers report the mean error without AlexNet's.

    ImageNet is trained on for 90 epochs on centre crops, padded and cropped again at random, and with bfloat16; the
    paper takes torchvision's weights, trained on crops of random sizes, and fine-tunes them on equalised images.
    """
    resnet = models.resnet50(
        num_classes=1000,
        stem="imagenet",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        zero_init_residual=True,
    )
    imagenet = {
        f"imagenet_{name}": train.Experiment(
            data=data.Tfds("imagenet2012", image_size=224, test_split="validation"),
            model=model,
            augmentation=augmentations.Chain(
                (augmentations.RandomCrop(padding=28), augmentations.HorizontalFlip(), noise)
            ),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=1e-4),
            schedule=train.Cosine(warmup_epochs=5),
            precision="bfloat16",
            epochs=90,
            batch_size=256,
            suites=evaluation(),
        )
        for name, (model, noise) in defences(resnet, tiles=(8, 8)).items()
    }
    cifar = {
        f"cifar10_{name}": train.Experiment(
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
        for name, (model, noise) in defences(
            models.WideResNet(num_classes=10, depth=28, width=4, dropout=0.3), tiles=(2, 2)
        ).items()
    }
    return imagenet | cifar
