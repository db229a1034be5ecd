"""MART: adversarial training that weighs misclassified examples (Wang et al., 2020).

Adversarial training on the same attack stands beside it. Both are judged by PGD of 20 steps and by AutoAttack, since
PGD alone overstates the robustness of MART.
"""

from __future__ import annotations

from typing import Any

from robust_jax import attacks, augmentations, data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Improving Adversarial Robustness Requires Revisiting Misclassified Examples",
    claim="more robust than adversarial training, since the loss weighs misclassified examples more",
)


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Adversarial training first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(eps: float, steps: int, warm_up: float, lam: float, **settings: Any) -> dict[str, train.Experiment]:
    """Adversarial training on the boundary of its attack, and MART on the same images."""
    near = attacks.PGD(eps=eps, steps=steps, relative_step=2.5 / steps, start=attacks.Gaussian(0.001), keep="last")
    return {
        "pgd_at": train.Experiment(objective=objectives.Adversarial(near, weight=1.0, warm_up=warm_up), **settings),
        "mart": train.Experiment(objective=objectives.Mart(near, lam=lam, warm_up=warm_up), **settings),
    }


def judged(eps: float, steps: int) -> dict[str, Any]:
    """Clean error, PGD and AutoAttack."""
    return {
        "clean": suites.Clean(),
        "pgd": suites.Adversarial(attacks.PGD(steps=steps), (eps,)),
        "autoattack": suites.AutoAttack(attacks.AutoAttack(), (eps,)),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return runs(
        0.1,
        2,
        0.0,
        6.0,
        data=data.Digits(),
        model=models.Mlp(widths=(32,)),
        optimiser=train.Sgd(learning_rate=0.1, nesterov=True),
        epochs=2,
        batch_size=64,
        suites={"clean": suites.Clean(), "pgd": suites.Adversarial(attacks.PGD(steps=5), (0.1,))},
    )


def small() -> dict[str, train.Experiment]:
    """MNIST in 4,000 digits, radius 0.15, on two cores."""
    return runs(
        0.15,
        5,
        0.3,
        6.0,
        data=data.Tfds("mnist", num_train=4000, num_test=500),
        model=models.ResNet(stage_sizes=(1, 1), width=16, stem="patch"),
        optimiser=train.Sgd(learning_rate=0.05, weight_decay=5e-4, nesterov=True),
        schedule=train.Cosine(warmup_epochs=0.2),
        epochs=8,
        batch_size=64,
        suites=judged(0.15, 20),
    )


def paper() -> dict[str, train.Experiment]:
    """WRN-34-10 on CIFAR-10, radius 0.031, 90 epochs; the rate falls by cosine where the code's falls in steps."""
    return runs(
        0.031,
        10,
        0.0,
        6.0,
        data=data.Tfds("cifar10"),
        model=models.WideResNet(depth=34, width=10, mean=(0.0,), std=(1.0,)),
        augmentation=augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip())),
        optimiser=train.Sgd(learning_rate=0.1, weight_decay=7e-4, decay_all=True),
        schedule=train.Cosine(),
        epochs=90,
        batch_size=128,
        suites=judged(0.031, 20),
    )
