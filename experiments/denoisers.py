"""Denoisers under attack: noise of mean zero that undoes them (Yan et al., 2022).

Runs differ in the noise they are trained to remove: Gaussian noise of one level, or of a level drawn anew for every
image, to which the denoiser is blind. Both are tested on noise of the former level. The same noise is then perturbed a
little, at random, and by ObsAtk so as to be removed worst. PSNR is higher the better, so the table has its negative.

At `small` scale DnCNNs of a tenth of the size start from nothing, go twice through 10,000 images of CIFAR-10 and are
tested on 200.
"""

from __future__ import annotations

from typing import Any

from robust_jax import augmentations, data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Towards Adversarially Robust Deep Image Denoising",
    arxiv="2201.04397",
    claim="deep denoisers are vulnerable to the perturbations of mean zero that ObsAtk finds; training with them as "
    "well, HAT, makes denoisers robust, and better on the noise of real photographs",
)

SHARED = "../shared"
SIGMA = 25 / 255
# The levels of DnCNN-B (arXiv 1608.03981, section 4.1).
BLIND = (0.0, 55 / 255)


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """The denoiser of one level of noise first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def levels() -> dict[str, objectives.Denoising]:
    """The noise of each run."""
    return {"sigma25": objectives.Denoising(SIGMA), "blind": objectives.Denoising(BLIND)}


def evaluation(**kwargs: Any) -> dict[str, Any]:
    return {"denoising": suites.Denoising(SIGMA, **kwargs)}


def adam(learning_rate: float) -> train.AdamW:
    return train.AdamW(learning_rate=learning_rate, weight_decay=0.0, clip_norm=None)


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return {
        name: train.Experiment(
            data=data.Digits(),
            model=models.DnCNN(depth=4, width=16),
            objective=objective,
            optimiser=adam(0.01),
            epochs=6,
            batch_size=64,
            suites=evaluation(radii=(3 / 255, 7 / 255)),
        )
        for name, objective in levels().items()
    }


def small() -> dict[str, train.Experiment]:
    """CIFAR-10 as JPEG, on two cores: seven layers of 32 channels, from nothing."""
    return {
        name: train.Experiment(
            data=data.Tfds("cifar10_jpeg75", data_dir=f"{SHARED}/data/tfds", num_train=10_000, num_test=200),
            model=models.DnCNN(depth=7, width=32),
            objective=objective,
            augmentation=augmentations.HorizontalFlip(),
            optimiser=adam(0.003),
            epochs=2,
            batch_size=32,
            suites=evaluation(),
            execution=train.Execution(eval_batch_size=200),
        )
        for name, objective in levels().items()
    }


def paper() -> dict[str, train.Experiment]:
    """The networks of 17 and 20 layers, on ten million images of 64×64 pixels, in colour.

    The papers cut as many grey patches of 50×50 pixels from 400 photographs.
    """
    networks = {"sigma25": models.DnCNN(depth=17), "blind": models.DnCNN(depth=20)}
    return {
        name: train.Experiment(
            data=data.Tfds("imagenet_resized/64x64", num_test=1000, test_split="validation"),
            model=networks[name],
            objective=objective,
            augmentation=augmentations.HorizontalFlip(),
            optimiser=adam(0.001),
            epochs=8,
            batch_size=128,
            suites=evaluation(),
        )
        for name, objective in levels().items()
    }
