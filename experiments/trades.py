"""TRADES: accuracy against robustness by the divergence from clean to adversarial predictions (Zhang et al., 2019).

Standard training stands beside adversarial training on PGD's images and TRADES at two weights β. All are judged by PGD
of 20 steps at half and all of the radius they train for.

At `small` scale the images are 4,000 digits of MNIST, the radius is 0.15, and the attack of training takes five steps;
the radius grows over the first third of training, without which small networks stay at chance.
"""

from __future__ import annotations

from typing import Any

from robust_jax import attacks, augmentations, data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Theoretically Principled Trade-off between Robustness and Accuracy",
    arxiv="1901.08573",
    claim="more robust than adversarial training at equal clean accuracy; β trades one for the other",
)


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Standard training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(eps: float, steps: int, warm_up: float, **settings: Any) -> dict[str, train.Experiment]:
    """Standard training, adversarial training, and TRADES at two weights."""
    relative = 2.5 / steps
    pgd = attacks.PGD(eps=eps, steps=steps, relative_step=relative, keep="last")
    near = attacks.PGD(eps=eps, steps=steps, relative_step=relative, start=attacks.Gaussian(0.001), keep="last")
    return {
        "standard": train.Experiment(**settings),
        "pgd_at": train.Experiment(objective=objectives.Adversarial(pgd, weight=1.0, warm_up=warm_up), **settings),
        "trades_beta1": train.Experiment(objective=objectives.Trades(near, beta=1.0, warm_up=warm_up), **settings),
        "trades_beta6": train.Experiment(objective=objectives.Trades(near, beta=6.0, warm_up=warm_up), **settings),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return runs(
        0.1,
        2,
        0.0,
        data=data.Digits(),
        model=models.Mlp(widths=(32,)),
        optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
        epochs=2,
        batch_size=64,
        suites={"clean": suites.Clean(), "pgd": suites.Adversarial(attacks.PGD(steps=5), (0.05, 0.1))},
    )


def small() -> dict[str, train.Experiment]:
    """MNIST in 4,000 digits, radius 0.15, on two cores."""
    return runs(
        0.15,
        5,
        0.3,
        data=data.Tfds("mnist", num_train=4000, num_test=500),
        model=models.ResNet(stage_sizes=(1, 1), width=16, stem="patch"),
        optimiser=train.Sgd(learning_rate=0.05, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=0.2),
        epochs=8,
        batch_size=64,
        suites={
            "clean": suites.Clean(),
            "pgd": suites.Adversarial(attacks.PGD(steps=20), (0.075, 0.15)),
        },
    )


def paper() -> dict[str, train.Experiment]:
    """WRN-34-10 on CIFAR-10, radius 0.031, 76 epochs; the rate falls by cosine where the code's falls at epoch 75."""
    return runs(
        0.031,
        10,
        0.0,
        data=data.Tfds("cifar10"),
        model=models.WideResNet(depth=34, width=10, mean=(0.0,), std=(1.0,)),
        augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=2e-4, decay_all=True),
        schedule=train.Cosine(),
        epochs=76,
        batch_size=128,
        suites={
            "clean": suites.Clean(),
            "pgd": suites.Adversarial(attacks.PGD(steps=20, step_size=0.003), (0.031,)),
            "autoattack": suites.AutoAttack(attacks.AutoAttack(), (0.031,)),
        },
    )
