"""Uncertainty under dataset shift: methods compared as images turn, move and are corrupted (Ovadia et al., 2019).

One network as it is; its temperature fitted to held-out images; dropout left on, everywhere or before the last layer
alone; variational inference likewise, from the trained weights on; a Laplace approximation of the last layer, which the
paper does not have; and an ensemble. Networks without dropout are the same, so that these runs differ in what is
predicted with them. All train on the same images: what is held out for one is held out for all.

At `small` scale the images are 3,000 handwritten digits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from robust_jax import augmentations, data, models, posteriors, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Can You Trust Your Model's Uncertainty? Evaluating Predictive Uncertainty Under Dataset Shift",
    arxiv="1906.02530",
    claim="calibration on clean images, as by temperature scaling, does not carry over to shifted ones; ensembles of "
    "five do best under shift",
)

SHARED = "../shared"
ROTATIONS = tuple(float(degrees) for degrees in range(15, 181, 15))
TRANSLATIONS = tuple(range(2, 15, 2))
CORRUPTIONS = ("gaussian_noise", "impulse_noise", "motion_blur", "fog", "contrast", "pixelate")
"""Of the benchmark's 15, for two cores."""


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """One network first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(
    members: int,
    *,
    model: Any,
    dropout: float,
    head_dropout: float,
    num_samples: int,
    svi: posteriors.Svi,
    **settings: Any,
) -> dict[str, train.Experiment]:
    """Every method, on networks that are alike but for dropout."""
    plain = {"model": model, **settings}
    everywhere = {"model": model.clone(dropout=dropout, head_dropout=head_dropout), **settings}
    last_layer = {"model": model.clone(head_dropout=head_dropout), **settings}
    # Together, so that what comes before the last layer is computed once.
    of_last_layer = posteriors.MonteCarloDropout(num_samples, sample_map="vmap")
    return {
        "vanilla": train.Experiment(**plain),
        "temperature": train.Experiment(posterior=posteriors.TemperatureScaling(), **plain),
        "dropout": train.Experiment(posterior=posteriors.MonteCarloDropout(num_samples), **everywhere),
        "last_layer_dropout": train.Experiment(posterior=of_last_layer, **last_layer),
        "svi": train.Experiment(posterior=svi, **plain),
        "last_layer_svi": train.Experiment(posterior=dataclasses.replace(svi, weights="last_layer"), **plain),
        "last_layer_laplace": train.Experiment(posterior=posteriors.Laplace(curvature="kron"), **plain),
        "ensemble": train.Experiment(members=members, **plain),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8, one corruption and a little geometry: seconds a run."""
    return runs(
        2,
        data=data.Digits(validation=200),
        model=models.ResNet(stage_sizes=(1,), width=8),
        dropout=0.1,
        head_dropout=0.1,
        num_samples=2,
        svi=posteriors.Svi(steps=20, num_samples=2),
        optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
        epochs=2,
        batch_size=64,
        suites={
            "clean": suites.Clean(),
            "calibration": suites.Calibration(
                ("gaussian_blur",), severities=(3,), rotations=(45.0, 90.0), translations=(2,)
            ),
            "diversity": suites.Diversity(),
        },
    )


def small() -> dict[str, train.Experiment]:
    """MNIST in 3,000 digits, on two cores; three seeds."""
    found = runs(
        5,
        data=data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", validation=400, num_train=3000, num_test=250),
        model=models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch"),
        dropout=0.1,
        head_dropout=0.2,
        num_samples=5,
        svi=posteriors.Svi(learning_rate=0.005, steps=300, batch_size=64, initial_scale=0.03, num_samples=5),
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=0.2),
        epochs=3,
        batch_size=64,
        suites={
            "clean": suites.Clean(),
            "calibration": suites.Calibration(
                CORRUPTIONS, severities=(1, 3, 5), rotations=ROTATIONS[1::3], translations=TRANSLATIONS[1::3]
            ),
            "diversity": suites.Diversity(),
        },
    )
    return train.over_seeds(found, 3)


def paper() -> dict[str, train.Experiment]:
    """ResNet-20 on CIFAR-10, 200 epochs, dropout 0.1, ten members; computed in bfloat16."""
    return runs(
        10,
        data=data.Tfds("cifar10", validation=5000),
        model=models.ResNet(stage_sizes=(3, 3, 3), width=16),
        dropout=0.1,
        head_dropout=0.1,
        num_samples=128,
        svi=posteriors.Svi(steps=40_000, num_samples=128),
        augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=1),
        precision="bfloat16",
        epochs=200,
        batch_size=128,
        suites={
            "clean": suites.Clean(),
            "calibration": suites.Calibration(("all",), translations=TRANSLATIONS),
            "out_of_distribution": suites.OutOfDistribution({"svhn": data.Tfds("svhn_cropped")}),
            "diversity": suites.Diversity(),
        },
    )
