"""Universal perturbations beside those of single images: are they local, and free of place? (Park et al., 2021)

All runs attack one network towards one class. A universal perturbation is fitted to images of the test set and tried
on others; the baseline fits one to each image, within the same radius. The table has the share of images that are
taken for the target with their perturbation, and with that of another image; then how much of the former is left when
a square patch of the perturbation stands alone, and when it is moved by a few pixels.

A perturbation of a single image within the same radius has strength to spare, of which its patches live. The run
`per_image_weak` has a radius at which it succeeds about as often as the universal one.

At `small` scale the network is a published CIFAR-10 ResNet-20 as it is.
"""

from __future__ import annotations

from typing import Any

from robust_jax import attacks, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="On Distinctive Properties of Universal Perturbations",
    arxiv="2112.15329",
    claim="targeted universal perturbations are semantically local and spatially invariant, which targeted "
    "perturbations of single images are not",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Perturbations of single images first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def perturbations(norm: str, eps: float, weak_eps: float, *, steps: int, batches: int) -> dict[str, Any]:
    """The attack of each run."""
    one = attacks.PGD(norm=norm, eps=eps, steps=steps, start="zero", keep="last")
    weak = attacks.PGD(norm=norm, eps=weak_eps, steps=steps, start="zero", keep="last")
    return {
        "per_image": one,
        "per_image_weak": weak,
        "universal": attacks.UniversalPGD(norm=norm, eps=eps, steps=batches),
    }


def evaluation(attack: Any, **kwargs: Any) -> dict[str, Any]:
    return {"clean": suites.Clean(), "universal": suites.Universal(attack, **kwargs)}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=models.ResNet(stage_sizes=(1, 1), width=8),
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=4,
            batch_size=64,
            suites=evaluation(attack, num_fit=128, num_test=64, patch=4, stride=2, offsets=(-1, 0, 1)),
        )
        for name, attack in perturbations("Linf", 0.4, 0.3, steps=10, batches=40).items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: a published ResNet-20."""
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=128, num_test=1400),
            model=models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            initial=f"{SHARED}/weights/cifar_resnet20.safetensors",
            epochs=0,
            suites=evaluation(attack, num_fit=1024, num_test=376),
        )
        for name, attack in perturbations("Linf", 8 / 255, 1.25 / 255, steps=10, batches=80).items()
    }


def paper() -> dict[str, train.Experiment]:
    """ResNet-50 on ImageNet, trained for 90 epochs, and perturbations of L2 norm 6 towards ten classes.

    The paper has ten classes made of ImageNet's. Here they are ten of ImageNet's own, as far apart as a hundred.
    """
    resnet = models.resnet50(
        num_classes=1000,
        stem="imagenet",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        zero_init_residual=True,
    )
    return {
        name: train.Experiment(
            data=data.Tfds("imagenet2012", image_size=224, test_split="validation"),
            model=resnet,
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=1e-4),
            schedule=train.Cosine(warmup_epochs=5),
            precision="bfloat16",
            epochs=90,
            batch_size=256,
            suites=evaluation(
                attack,
                targets=tuple(range(0, 1000, 100)),
                num_fit=10_000,
                num_test=2000,
                patch=64,
                stride=32,
                offsets=(-32, -16, -8, 0, 8, 16, 32),
            ),
        )
        for name, attack in perturbations("L2", 6.0, 1.0, steps=50, batches=2000).items()
    }
