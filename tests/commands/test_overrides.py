"""Overrides of components held in fields that are annotated with protocols."""

import dataclasses

import pytest

from robust_jax import augmentations, data, models, suites, train
from robust_jax.commands.options import Run
from robust_jax.commands.overrides import override_experiment

EXPERIMENT = train.Experiment(
    data=data.Resized(data.Digits(), image_size=16),
    model=models.Equalised(models.ResNet(stage_sizes=(1,), width=8)),
    augmentation=augmentations.Chain((augmentations.RandomCrop(padding=2), augmentations.HorizontalFlip())),
    suites={"clean": suites.Clean()},
)


def overridden(*flags):
    return override_experiment(Run("file.py"), EXPERIMENT, list(flags), prog="robust-jax run file.py")


def test_a_component_is_parsed_as_what_it_is():
    crop, flip = EXPERIMENT.augmentation.steps
    assert overridden("--augmentation.steps.0.padding", "4") == dataclasses.replace(
        EXPERIMENT, augmentation=augmentations.Chain((dataclasses.replace(crop, padding=4), flip))
    )
    assert overridden("--data.data.validation", "0.1").data == data.Resized(data.Digits(validation=0.1), image_size=16)
    assert overridden("--model.network.width", "4").model.network == models.ResNet(stage_sizes=(1,), width=4)


def test_nothing_else_changes():
    assert overridden("--epochs", "7") == dataclasses.replace(EXPERIMENT, epochs=7)


def test_an_unknown_field_of_a_component_is_refused(capsys):
    with pytest.raises(SystemExit):
        overridden("--augmentation.steps.0.pading", "4")
    assert "--augmentation.steps.0.padding" in capsys.readouterr().err
