"""Deep ensembles: networks of several seeds whose probabilities are averaged (Lakshminarayanan et al., 2017).

One network against five, clean, under common corruptions, and asked about images of other kinds. All share everything
but their seeds, of initialisation, order and augmentation. At `smoke` and `paper` scale there is a third run, whose
members are trained on adversarial images beside the clean ones, one step of 1 % of the range away.

At `small` scale the images are 4,000 handwritten digits; the other kinds are clothes (Fashion-MNIST).
"""

from __future__ import annotations

from typing import Any

from robust_jax import attacks, augmentations, data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
    arxiv="1612.01474",
    claim="WRN-28-10 on CIFAR-10, four members against one (NLL, accuracy in %, ECE): .114, 96.6, .010 against .159, "
    "96.0, .023; corrupted .81, 77.9, .087 against 1.05, 76.1, .153",
)

SHARED = "../shared"


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """One network first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(members: int, *, adversarial: bool, **settings: Any) -> dict[str, train.Experiment]:
    """One network, and several; and as many that are trained adversarially."""
    found = {
        "single": train.Experiment(**settings),
        "ensemble": train.Experiment(members=members, **settings),
    }
    if adversarial:
        objective = objectives.Adversarial(attacks.FGSM(eps=0.01))
        found["adversarial_ensemble"] = train.Experiment(members=members, objective=objective, **settings)
    return found


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, and two corruptions: seconds a run."""
    return runs(
        2,
        adversarial=True,
        data=data.Digits(),
        model=models.ResNet(stage_sizes=(1,), width=8),
        optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
        epochs=2,
        batch_size=64,
        suites={
            "clean": suites.Clean(),
            "common_corruptions": suites.CommonCorruptions(("gaussian_blur", "contrast"), severities=(3,)),
        },
    )


def small() -> dict[str, train.Experiment]:
    """MNIST in 4,000 digits, on two cores; three seeds."""
    found = runs(
        5,
        adversarial=False,
        data=data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", num_train=4000, num_test=500),
        model=models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch"),
        augmentation=augmentations.RandomCrop(),
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=0.2),
        epochs=3,
        batch_size=64,
        suites={
            "clean": suites.Clean(),
            "common_corruptions": suites.CommonCorruptions(severities=(3,)),
            "out_of_distribution": suites.OutOfDistribution(
                {"fashion": data.Tfds("fashion_mnist900", data_dir=f"{SHARED}/data/tfds")}
            ),
        },
    )
    return train.over_seeds(found, 3)


def paper() -> dict[str, train.Experiment]:
    """WRN-28-10 on CIFAR-10, four members, 200 epochs; computed in bfloat16."""
    return runs(
        4,
        adversarial=True,
        data=data.Tfds("cifar10"),
        model=models.WideResNet(depth=28, width=10),
        augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        optimiser=train.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=2e-4, decay_all=True, nesterov=True),
        schedule=train.Cosine(warmup_epochs=1),
        precision="bfloat16",
        epochs=200,
        batch_size=128,
        suites={
            "clean": suites.Clean(),
            "common_corruptions": suites.CommonCorruptions(),
            "out_of_distribution": suites.OutOfDistribution({"svhn": data.Tfds("svhn_cropped")}),
        },
    )
