"""AugNet: augmentations inside the network, their ranges learned with it (Rommel et al., 2022).

Two data sets: digits turned at random by up to 60 degrees, whose class does not depend on the angle; and digits in
eight directions, of which the direction is to be told. In either a network alone is compared with the same behind a
layer of learned augmentations. Of the first data the layer should learn to turn images, of the second not to.

At `small` scale the digits are 4,000 of MNIST's.
"""

from __future__ import annotations

from typing import Any

from robust_jax import data, models, objectives, suites, train
from robust_jax.types import Paper, Scale

PAPER = Paper(
    title="Deep invariant networks with differentiable augmentation layers",
    arxiv="2202.02142",
    claim="learns the angles between which images of a class occur, and none beyond",
)

SHARED = "../shared"
TASKS = {"turned": {"degrees": 60.0}, "directions": {"directions": 8, "label": "direction"}}
OPERATIONS = ("rotate", "translate_x", "translate_y")


def get_runs(scale: Scale = "paper") -> dict[str, train.Experiment]:
    """Of each task the network alone first."""
    return {"smoke": smoke, "small": small, "paper": paper}[scale]()


def runs(
    source: Any, network: Any, num_classes: int, *, reward: float = 0.5, **settings: Any
) -> dict[str, train.Experiment]:
    """Four runs; ``num_classes`` are those of the source, ``reward`` is that of wide ranges."""
    found = {}
    for task, fields in TASKS.items():
        classes = fields.get("directions", num_classes)
        alone = network.clone(num_classes=classes)
        augmented = models.AugNet(alone, operations=OPERATIONS)
        for name, model, objective in (
            ("alone", alone, objectives.CrossEntropy()),
            ("augnet", augmented, objectives.Invariance(weight=reward)),
        ):
            found[f"{task}_{name}"] = train.Experiment(
                data=data.Turned(source, **fields),
                model=model,
                objective=objective,
                suites={"clean": suites.Clean(), "learned_ranges": suites.LearnedRanges()},
                **settings,
            )
    return found


def smoke() -> dict[str, train.Experiment]:
    """Handwritten digits, 8×8: seconds a run."""
    return runs(
        data.Digits(),
        models.ResNet(stage_sizes=(1,), width=8, norm="group"),
        10,
        optimiser=train.AdamW(learning_rate=3e-3),
        epochs=2,
        batch_size=64,
    )


def small() -> dict[str, train.Experiment]:
    """MNIST in 4,000 digits, on two cores: three seeds."""
    small_runs = runs(
        data.Tfds("mnist", data_dir=f"{SHARED}/data/tfds", num_train=4000, num_test=1000),
        models.ResNet(stage_sizes=(1, 1), width=16, stem="patch"),
        10,
        # Training is short, so that ranges must grow fast.
        reward=1.0,
        optimiser=train.AdamW(learning_rate=3e-3),
        epochs=12,
        batch_size=64,
    )
    return train.over_seeds(small_runs, 3)


def paper() -> dict[str, train.Experiment]:
    """All of MNIST, thirty epochs."""
    paper_runs = runs(
        data.Tfds("mnist"),
        models.ResNet(stage_sizes=(2, 2), width=32, norm="group"),
        10,
        optimiser=train.AdamW(learning_rate=1e-3),
        epochs=30,
        batch_size=128,
    )
    return train.over_seeds(paper_runs, 5)
