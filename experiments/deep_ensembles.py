"""Deep ensembles: networks of several seeds, combined as a mixture (Lakshminarayanan et al., 2017).

Classification compares one network with five, clean, under common corruptions, and asked about images of other kinds:
scores of the logits and the Mahalanobis distance of the features tell those apart.
Regression compares them on the RMSE and the NLL of nine UCI sets with their published splits: every network predicts a
mean and a variance, and the ensemble is a mixture of normal distributions. All share everything but their seeds, of
initialisation, order and augmentation. A third run trains its members on adversarial inputs beside the clean ones, one
step of 1 % of the range away; classification has it at `smoke` and `paper` scale only.

At `small` scale the images are 4,000 handwritten digits; the other kinds are clothes (Fashion-MNIST). Of each UCI set
it takes the first split; at `paper` scale all 20, or five of protein, and seeds are splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_jax import attacks, augmentations, data, detectors, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
    arxiv="1612.01474",
    claim="WRN-28-10 on CIFAR-10, four members against one (NLL, accuracy in %, ECE): .114, 96.6, .010 against .159, "
    "96.0, .023; corrupted .81, 77.9, .087 against 1.05, 76.1, .153. UCI regression, five members (RMSE, NLL): Boston "
    "3.28, 2.41, concrete 6.03, 3.06, energy 2.09, 1.38, kin8nm .09, −1.20, naval .00, −5.63, power 4.11, 2.79, "
    "protein 4.71, 2.83, wine .64, .94, yacht 1.58, 1.18",
)

SHARED = "../shared"
DETECTORS = (
    detectors.MaxProbability(),
    detectors.Entropy(),
    detectors.Energy(),
    detectors.MutualInformation(),
    detectors.Mahalanobis(),
)
SMALL_SETS = ("bostonHousing", "concrete", "energy", "wine-quality-red", "yacht")
PROTEIN = "protein-tertiary-structure"
LARGE_SETS = ("kin8nm", "naval-propulsion-plant", "power-plant", PROTEIN)


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """One network first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def classification(members: int, *, adversarial: bool, **settings: Any) -> dict[str, train.Experiment]:
    """Return one network, and several; and as many that are trained adversarially."""
    found = {
        "single": train.Experiment(**settings),
        "ensemble": train.Experiment(members=members, **settings),
    }
    if adversarial:
        objective = objectives.Adversarial(attacks.FGSM(eps=0.01))
        found["adversarial_ensemble"] = train.Experiment(members=members, objective=objective, **settings)
    return found


def regression(
    name: str, splits: Sequence[Any], *, members: int = 5, width: int = 50, **settings: Any
) -> dict[str, train.Experiment]:
    """Return the same three for a table, of which ``splits`` are the published ones; the seed is the split."""
    objective, adversarial = objectives.GaussianNll(), objectives.AdversarialGaussianNll(eps=0.01)
    settings |= {
        "model": models.Mlp(num_classes=2, widths=(width,), mean=(0.0,), std=(1.0,)),
        "suites": {"regression": suites.RegressionSuite()},
        # Networks of a few thousand parameters: as one, and kept when they are trained.
        "execution": train.Execution(member_map="vmap", log_every=1000, checkpoint_every=100_000),
    }
    found = {}
    for recipe, own in (
        ("single", {"objective": objective}),
        ("ensemble", {"objective": objective, "members": members}),
        ("adversarial_ensemble", {"objective": adversarial, "members": members}),
    ):
        for seed, data_set in enumerate(splits):
            found[f"{name}_{recipe}_seed{seed}"] = train.Experiment(data=data_set, seed=seed, **own, **settings)
    return found


def uci(name: str, num_splits: int) -> list[data.Tabular]:
    """Return the first published splits of a set."""
    return [data.Tabular(name, number, data_dir=f"{SHARED}/data/uci") for number in range(num_splits)]


def smoke() -> dict[str, train.Experiment]:
    """Return runs of seconds: handwritten digits, 8×8, with two corruptions, and a table of 442 patients."""
    images = classification(
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
    table = regression("diabetes", [data.Diabetes()], members=2, optimiser=adam(0.03), epochs=5, batch_size=32)
    return images | table


def adam(learning_rate: float) -> train.AdamW:
    """Return Adam without weight decay."""
    return train.AdamW(learning_rate=learning_rate, weight_decay=0.0, clip_norm=None)


def small() -> dict[str, train.Experiment]:
    """Return three seeds of MNIST in 4,000 digits, and one split of each UCI set, on two cores."""
    images = classification(
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
                {"fashion": data.Tfds("fashion_mnist900", data_dir=f"{SHARED}/data/tfds")}, detectors=DETECTORS
            ),
        },
    )
    found = train.over_seeds(images, 3)
    for name in SMALL_SETS:
        found |= regression(name, uci(name, 1), optimiser=adam(0.03), epochs=40, batch_size=32)
    for name in LARGE_SETS:
        # The inputs of protein have long tails, where means run away at the rate of the others.
        rate = 0.01 if name == PROTEIN else 0.03
        found |= regression(name, uci(name, 1), optimiser=adam(rate), epochs=20, batch_size=128)
    return found


def paper() -> dict[str, train.Experiment]:
    """Return four WRN-28-10 on CIFAR-10, 200 epochs in bfloat16, and the published recipe on all splits of UCI."""
    found = classification(
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
            "out_of_distribution": suites.OutOfDistribution({"svhn": data.Tfds("svhn_cropped")}, detectors=DETECTORS),
        },
    )
    for name in SMALL_SETS + LARGE_SETS:
        found |= regression(
            name,
            uci(name, 5 if name == PROTEIN else 20),
            width=100 if name == PROTEIN else 50,
            optimiser=adam(0.1),
            schedule=train.Constant(),
            epochs=40,
            batch_size=100,
        )
    return found
