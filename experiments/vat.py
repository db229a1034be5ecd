"""Virtual adversarial training with few labels (Miyato, Maeda, Koyama & Ishii, 2018).

A network is trained on 100 labelled digits. Beside it stand the same with a second stream of unlabelled digits, whose
predictions should be certain (entropy), should not change under the worst small perturbation (VAT), or both.

At `small` scale the labelled digits are ten of every class and the unlabelled ones 30,000 of MNIST, three draws of the
labels. The network has a quarter of the units of the paper's and takes 2,000 steps in place of 50,000, so the radius is
4.0 in place of 0.3: it was chosen on hidden labels of the unlabelled images, with other draws. Smaller radii need more
steps; without batch norm predictions away from the 100 images became uniform, or two classes became one.
"""

from __future__ import annotations

from typing import Any

from robust_jax import data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Virtual Adversarial Training: a Regularization Method for Supervised and Semi-Supervised Learning",
    arxiv="1704.03976",
    claim="1.4 % error on MNIST with 100 labels, where the labels alone leave more than 20 %",
)


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Labels alone first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(eps: float, unlabelled: train.Stream, **settings: Any) -> dict[str, train.Experiment]:
    """Labels alone, and three uses of unlabelled images."""
    extra = {"unlabelled": unlabelled}
    return {
        "labelled": train.Experiment(**settings),
        "entropy": train.Experiment(
            objective=objectives.Vat(eps=eps, weight=0.0, entropy_weight=1.0), extra=extra, **settings
        ),
        "vat": train.Experiment(objective=objectives.Vat(eps=eps), extra=extra, **settings),
        "vat_entropy": train.Experiment(objective=objectives.Vat(eps=eps, entropy_weight=1.0), extra=extra, **settings),
    }


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return runs(
        0.3,
        train.Stream(data.Digits(), batch_size=64),
        data=data.FewLabels(data.Digits(), per_class=6),
        model=models.Mlp(widths=(64,)),
        optimiser=train.AdamW(learning_rate=2e-3, weight_decay=0.0),
        epochs=20,
        batch_size=60,
        suites={"clean": suites.Clean()},
    )


def small() -> dict[str, train.Experiment]:
    """MNIST with 100 labels and 30,000 images without, on two cores; three draws of the labels."""
    digits = data.Tfds("mnist", num_train=30_000, num_test=2000)
    found = {}
    for draw in range(3):
        per_draw = runs(
            4.0,
            train.Stream(digits, batch_size=200),
            data=data.FewLabels(digits, per_class=10, draw=draw),
            model=models.Mlp(widths=(300, 300), norm="batch", mean=(0.0,), std=(1.0,)),
            optimiser=train.AdamW(learning_rate=2e-3, weight_decay=0.0),
            schedule=train.Cosine(),
            epochs=2000,
            batch_size=100,
            suites={"clean": suites.Clean()},
            seed=draw,
            execution=train.Execution(checkpoint_every=1000, log_every=100),
        )
        found |= {f"{name}_seed{draw}": experiment for name, experiment in per_draw.items()}
    return found


def paper() -> dict[str, train.Experiment]:
    """MNIST as in the authors' first code: 50,000 steps of 100 labelled and 250 unlabelled images."""
    digits = data.Tfds("mnist")
    return runs(
        0.3,
        train.Stream(digits, batch_size=250),
        data=data.FewLabels(digits, per_class=10),
        model=models.Mlp(widths=(1200, 1200), norm="batch", mean=(0.0,), std=(1.0,)),
        optimiser=train.AdamW(learning_rate=2e-3, weight_decay=0.0),
        schedule=train.Cosine(),
        epochs=50_000,
        batch_size=100,
        suites={"clean": suites.Clean()},
        execution=train.Execution(checkpoint_every=5000, log_every=500),
    )
