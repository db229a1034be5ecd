"""Transfer by a linear classifier on frozen features (Kornblith, Shlens & Le, 2019).

A network is trained on one data set; its layers are then frozen and a linear classifier on its features is trained on
another. Beside it stand the same classifier on the features of a random network, and the same network trained on the
second data set alone. The pretrained run has two stages: `pretrain` on the first data set with its own head, `probe`
with a head drawn anew, the only part that moves. Batch norms of frozen layers use their running averages.

At `small` scale the first data set is 10,000 images of CIFAR-10 and the second 4,000 of Tiny ImageNet at 32×32, in the
classes that are at hand.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from robust_jax import augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Do Better ImageNet Models Transfer Better?",
    arxiv="1805.08974",
    claim="logistic regression on the features of a pretrained network transfers; better networks transfer better",
)

HEAD = ("head/*",)


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Random features first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(pretrain: train.Stage, probe: train.Stage, **settings: Any) -> dict[str, train.Experiment]:
    """A probe on random features, the network from scratch, and a probe on pretrained features."""
    base = train.Experiment(**settings)
    on_random = dataclasses.replace(probe, reset=None)
    return {
        "random_features": dataclasses.replace(base, stages=(on_random,)),
        "scratch": base,
        "probe": dataclasses.replace(base, stages=(pretrain, probe)),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits twice, 8×8: seconds a run."""
    return runs(
        train.Stage("pretrain"),
        train.Stage("probe", trainable=HEAD, reset=HEAD, optimiser=train.Sgd(learning_rate=0.3, weight_decay=0.0)),
        data=data.Digits(),
        model=models.ResNet(stage_sizes=(1,), width=8),
        optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
        epochs=2,
        batch_size=64,
        suites={"clean": suites.Clean()},
    )


def small() -> dict[str, train.Experiment]:
    """From 10,000 images of CIFAR-10 to 4,000 of Tiny ImageNet, on two cores."""
    network = models.WideResNet(depth=10, width=2, num_classes=40)
    return runs(
        train.Stage(
            "pretrain",
            data=data.Tfds("cifar10", num_train=10_000),
            model=network.clone(num_classes=10),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        ),
        train.Stage(
            "probe",
            trainable=HEAD,
            reset=HEAD,
            optimiser=train.Sgd(learning_rate=0.3, weight_decay=0.0),
            epochs=8,
        ),
        data=data.Tfds("tiny_imagenet", image_size=32, num_train=4000, num_test=1000, test_split="validation"),
        model=network,
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=0.2),
        epochs=4,
        batch_size=64,
        suites={"clean": suites.Clean()},
    )


def paper() -> dict[str, train.Experiment]:
    """ResNet-50, from ImageNet to CIFAR-100 at 224×224; for the paper's regression by L-BFGS stands SGD."""
    network = models.resnet50(num_classes=100)
    return runs(
        train.Stage(
            "pretrain",
            data=data.Tfds("imagenet2012", image_size=224, test_split="validation"),
            model=network.clone(num_classes=1000),
            augmentation=augmentations.Chain((augmentations.RandomResizedCrop(), augmentations.HorizontalFlip())),
            epochs=90,
        ),
        train.Stage(
            "probe", trainable=HEAD, reset=HEAD, optimiser=train.Sgd(learning_rate=0.3, weight_decay=0.0), epochs=30
        ),
        data=data.Tfds("cifar100", image_size=224),
        model=network,
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=1e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=5),
        precision="bfloat16",
        epochs=90,
        batch_size=256,
        suites={"clean": suites.Clean()},
    )
