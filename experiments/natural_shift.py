"""Natural shift: does robustness to corruptions made by a program carry over to other photographs? (Taori et al., 2020)

The more accurate a model is on the test set, the more accurate it is on other data sets of the same classes, on one
line for all standard models if accuracies are plotted as logits. Only what lies above the line is robustness of its
own, which the paper calls effective. Runs whose names begin with ``standard`` are those the line is fitted to; the
others train with noise. The comparison shows both kinds of shift: corruptions, and other photographs.

At `small` scale the data set of other photographs is Tiny ImageNet: those of its classes that CIFAR-10 has, at 32×32.
Runs named after a number of epochs start from nothing, the others from a published CIFAR-10 ResNet-20.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Measuring Robustness to Natural Distribution Shifts in Image Classification",
    arxiv="2007.00644",
    claim="204 ImageNet models under 213 shifts: little or no robustness carries over from synthetic to natural ones; "
    "training on larger and more diverse data helps, and is far from closing the gap",
)

SHARED = "../shared"
# Those of Tiny ImageNet's classes here that CIFAR-10 has: stork, terrier, tabby, beach wagon, lifeboat.
TINY_CLASSES = {
    "n02002724": "bird",
    "n02094433": "dog",
    "n02123045": "cat",
    "n02814533": "automobile",
    "n03662601": "ship",
    "*": None,
}


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard models first, then those trained with noise."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def evaluation(shift: suites.NaturalShift, **kwargs: Any) -> dict[str, Any]:
    return {
        "clean": suites.Clean(),
        "common_corruptions": suites.CommonCorruptions(**kwargs),
        "natural_shift": shift,
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and coarse copies of them: seconds a run."""
    coarse = {f"coarse_{size}": data.Resized(data.Resized(data.Digits(), size), 8) for size in (5, 4)}
    runs = {
        "standard": (4, augmentations.Identity()),
        "standard_2_epochs": (2, augmentations.Identity()),
        "c2": (4, augmentations.RandomLp("c2")),
    }
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=models.WideResNet(depth=10, width=1),
            augmentation=noise,
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=epochs,
            batch_size=64,
            suites=evaluation(suites.NaturalShift(sets=coarse), names=("gaussian_noise",), severities=(1, 5)),
        )
        for name, (epochs, noise) in runs.items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG and Tiny ImageNet, on two cores: ResNet-20 of different accuracies, and with noise."""
    published = f"{SHARED}/weights/cifar_resnet20.safetensors"
    other = data.Tfds(
        "tiny_imagenet40", data_dir=f"{SHARED}/data/tfds", image_size=32, test_split="train", num_test=10_000
    )
    shift = suites.NaturalShift(sets={"tiny_imagenet": other}, class_maps={"tiny_imagenet": TINY_CLASSES})
    # Learning rates: small enough to leave published weights their detail, and as usual for random ones.
    runs = {
        "standard": (published, 0.003, 1, augmentations.Identity()),
        "standard_1_epoch": (None, 0.1, 1, augmentations.Identity()),
        "c2": (published, 0.003, 1, augmentations.RandomLp("c2")),
    }
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=20_000, num_test=1000),
            model=models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            initial=initial,
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            optimiser=train.Sgd(learning_rate=learning_rate, nesterov=True),
            schedule=train.Cosine(warmup_epochs=0.1),
            epochs=epochs,
            batch_size=128,
            suites=evaluation(shift, names=("common",), severities=(3,)),
        )
        for name, (initial, learning_rate, epochs, noise) in runs.items()
    }


def paper() -> dict[str, train.Experiment]:
    """ResNets of three sizes on ImageNet, and Wide ResNets on CIFAR-10, tested on what others collected for them.

    The paper compares models that others trained. Here they are trained for 90 epochs on centre crops, padded and
    cropped again at random, and with bfloat16.
    """
    imagenet = {
        "imagenet_v2": data.Tfds("imagenet_v2/matched-frequency", image_size=224),
        "imagenet_sketch": data.Tfds("imagenet_sketch", image_size=224),
        "imagenet_a": data.Tfds("imagenet_a", image_size=224),
        "imagenet_r": data.Tfds("imagenet_r", image_size=224),
    }
    # TFDS gives all of them 1,000 classes, of which -A and -R have 200.
    shift = suites.NaturalShift(sets=imagenet, subset="present")
    fields = {
        "num_classes": 1000,
        "stem": "imagenet",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "zero_init_residual": True,
    }
    networks = {
        "standard_resnet50": (models.resnet50(**fields), augmentations.Identity()),
        "standard_resnet34": (models.resnet34(**fields), augmentations.Identity()),
        "standard_resnet18": (models.resnet18(**fields), augmentations.Identity()),
        "gaussian_resnet50": (models.resnet50(**fields), augmentations.Gaussian(sigma=0.1)),
        "c2_resnet50": (models.resnet50(**fields), augmentations.RandomLp("c2", table="tiny_imagenet")),
    }
    on_imagenet = {
        name: train.Experiment(
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
            suites=evaluation(shift),
        )
        for name, (model, noise) in networks.items()
    }
    return on_imagenet | cifar()


def cifar() -> dict[str, train.Experiment]:
    """Wide ResNets on CIFAR-10, tested on CIFAR-10.1 and on STL-10's classes of the same kind."""
    sets = {"cifar10_1": data.Tfds("cifar10_1/v6"), "stl10": data.Tfds("stl10", image_size=32)}
    shift = suites.NaturalShift(sets=sets, class_maps={"stl10": {"car": "automobile", "monkey": None}})
    runs = {
        "standard_wrn28_4": (28, 4, augmentations.Identity()),
        "standard_wrn16_4": (16, 4, augmentations.Identity()),
        "standard_wrn10_1": (10, 1, augmentations.Identity()),
        "gaussian_wrn28_4": (28, 4, augmentations.Gaussian(sigma=0.1)),
        "c2_wrn28_4": (28, 4, augmentations.RandomLp("c2")),
    }
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10"),
            model=models.WideResNet(num_classes=10, depth=depth, width=width, dropout=0.3),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, decay_all=True),
            schedule=train.WarmRestarts(period_epochs=10, multiplier=2),
            precision="bfloat16",
            epochs=150,
            batch_size=384,
            suites=evaluation(shift),
        )
        for name, (depth, width, noise) in runs.items()
    }
