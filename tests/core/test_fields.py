"""Fields of other types than their annotations, named before anything runs."""

import dataclasses
import typing

import numpy as np
import pytest

from robust_jax import attacks, augmentations, data, models, objectives, suites, train
from robust_jax.core.fields import check_fields

SMALL = {"data": data.Digits(), "model": models.Mlp(widths=(8,))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2.5}, r"Expected Experiment.epochs of type int, got 2.5\."),
        ({"epochs": np.int64(3)}, r"Expected Experiment.epochs of type int, got np.int64\(3\)\."),
        ({"model": "resnet"}, r"Expected Experiment.model of type Module, got 'resnet'\."),
        ({"objective": 3}, r"Expected Experiment.objective of type Objective, got 3\."),
        ({"objective": objectives.Trades}, r"of type Objective, got the class Trades; add \(\)\."),
        ({"augmentation": attacks.PGD()}, r"Expected Experiment.augmentation of type Augmentation \| None, got PGD"),
        ({"mixers": augmentations.Mixup()}, r"Expected Experiment.mixers of type tuple\[Mixer, \.\.\.\], got Mixup"),
        (
            {"trainable": "head/*"},
            r"Expected Experiment.trainable of type tuple\[str, \.\.\.\] \| None, got 'head/\*'\.",
        ),
        ({"precision": "float16"}, r"Expected Experiment.precision of type .*'bfloat16'.*, got 'float16'\."),
        (
            {"objective": objectives.Vat(num_iterations=2.0)},
            r"Expected objective.num_iterations of type int, got 2.0\.",
        ),
        (
            {"model": models.Mlp(widths=(8, 2.5))},
            r"Expected model.widths of type tuple\[int, \.\.\.\], got \(8, 2.5\)\.",
        ),
        (
            {"suites": {"random": suites.RandomLp(), "clean": suites.Clean(2.5)}},
            r"Expected suites\['clean'\]\.num_bins of type int, got 2.5\.",
        ),
    ],
)
def test_a_field_of_another_type_is_named(changes, message):
    with pytest.raises(TypeError, match=message):
        train.Experiment(**(SMALL | changes))


def test_what_has_the_methods_of_a_protocol_is_one():
    def darker(rng, img):
        return 0.5 * img

    experiment = train.Experiment(**SMALL, augmentation=darker, optimiser=train.Sgd(learning_rate=1))
    assert experiment.augmentation is darker
    check_fields(experiment)


def test_annotations_for_type_checkers_alone_are_not_read():
    @dataclasses.dataclass(frozen=True)
    class Own:
        size: "OnlyForTypeCheckers"

    with pytest.raises(NameError):
        typing.get_type_hints(Own)
    check_fields(Own(size=3))
