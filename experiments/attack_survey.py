"""A survey of attacks: every one of them on the same network and images, in one table.

Gradient, minimum-norm, score and decision attacks stand beside each other with what they break, how small their
perturbations are, how often they ask the network, and how long they take. The second network was trained on with
noise from the L0, L2 and Linf norms, which helps against random noise, and little against any attack.

At `small` scale both are a published CIFAR-10 ResNet-20, attacked on 16 images with fewer steps than the papers take;
the second is trained on for a pass over 4,000 images. At `paper` scale steps are those of the papers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from robust_jax import attacks, augmentations, data, models, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Threat of Adversarial Attacks on Deep Learning in Computer Vision: A Survey",
    arxiv="1801.00553",
    claim="an overview of attacks by scope, norm, knowledge of the network and strength, without a common measurement",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """The standard network first, then one trained with noise."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def published() -> tuple[attacks.Attack, ...]:
    """The attacks, with the steps of their papers; radii are those usual for CIFAR-10."""
    linf, l2, l1 = {"eps": 8 / 255}, {"norm": "L2", "eps": 0.5}, {"norm": "L1", "eps": 12.0}
    return (
        attacks.FGSM(**linf),
        attacks.RFGSM(**linf),
        attacks.BIM(**linf),
        attacks.MIFGSM(**linf),
        attacks.NIFGSM(**linf),
        attacks.PGD(**linf),
        attacks.PGD(**l2),
        attacks.APGD(**linf),
        attacks.APGD(**l2),
        attacks.APGD(**l1, large_radii=True),
        attacks.APGDT(**linf),
        attacks.FAB(),
        attacks.FABT(norm="L2"),
        attacks.DeepFool(),
        attacks.DeepFool(norm="Linf"),
        attacks.DDN(),
        attacks.CarliniWagnerL2(),
        attacks.CarliniWagnerL0(),
        attacks.CarliniWagnerLinf(),
        attacks.EAD(),
        attacks.JSMA(),
        attacks.Square(**linf),
        attacks.Square(**l2),
        attacks.SPSA(**linf),
        attacks.NES(**linf),
        attacks.OnePixel(),
        attacks.BoundaryAttack(),
        attacks.HopSkipJump(),
        attacks.ParameterSearch(),
        attacks.ParameterPGD(),
    )


def shorter(attack: attacks.Attack, factor: int) -> attacks.Attack:
    """The attack with so many times fewer steps, queries or samples, but no fewer than ten, and five searches."""
    fields = ("steps", "queries", "samples", "generations", "population", "max_samples")
    counts = {name: getattr(attack, name) for name in fields if hasattr(attack, name)}
    fewer = {name: min(count, max(count // factor, 10)) for name, count in counts.items()}
    return dataclasses.replace(attack, **fewer, **({"searches": 5} if hasattr(attack, "searches") else {}))


def survey(factor: int = 1) -> dict[str, Any]:
    chosen = published()
    return {
        "clean": suites.Clean(),
        "attack_survey": suites.AttackSurvey(chosen if factor == 1 else tuple(shorter(a, factor) for a in chosen)),
    }


def noises() -> dict[str, Any]:
    """What each run adds to its training images."""
    return {"standard": augmentations.Identity(), "c2": augmentations.RandomLp("c2")}


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and a few of the attacks: seconds a run."""
    few = (
        attacks.FGSM(eps=0.1),
        attacks.PGD(eps=0.1, steps=5),
        attacks.FAB(norm="L2", steps=5),
        attacks.DeepFool(steps=5),
        attacks.Square(eps=0.1, queries=20),
    )
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=models.WideResNet(depth=10, width=1),
            augmentation=noise,
            optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
            epochs=2,
            batch_size=64,
            suites={"clean": suites.Clean(), "attack_survey": suites.AttackSurvey(few)},
        )
        for name, noise in noises().items()
    }


def small() -> dict[str, train.Experiment]:
    """Photographs, on two cores: a published ResNet-20, and the same trained on for a little while with noise."""
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_lossless4000", data_dir=f"{SHARED}/data/tfds", num_test=16),
            model=models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            initial=f"{SHARED}/weights/cifar_resnet20.safetensors",
            augmentation=noise,
            optimiser=train.Sgd(learning_rate=0.003, nesterov=True),
            epochs=int(name != "standard"),
            batch_size=128,
            suites=survey(factor=20),
        )
        for name, noise in noises().items()
    }


def paper() -> dict[str, train.Experiment]:
    """The attacks as published, on 1,000 test images and a WRN-28-10."""
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10", num_test=1000),
            model=models.WideResNet(depth=28, width=10),
            augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip(), noise)),
            optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
            epochs=200,
            batch_size=128,
            suites=survey(),
        )
        for name, noise in noises().items()
    }
