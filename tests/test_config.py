"""Configurations: round trips, differences, and what a file may not do."""

import json

import pytest

from robust_jax import augmentations, config, data, models, objectives, train
from robust_jax.config import ConfigError


def experiment(**changes) -> train.Experiment:
    fields = {
        "data": data.Digits(),
        "model": models.WideResNet(depth=10, width=1),
        "augmentation": augmentations.Chain(
            (augmentations.RandomCrop(), augmentations.RandomLp(((float("inf"), 0.1),)))
        ),
        "averaging": train.Ema(),
    }
    return train.Experiment(**(fields | changes))


def test_json_round_trip_keeps_everything():
    before = experiment()
    after = config.from_json(config.to_json(before))
    assert after == before
    assert hash(after) == hash(before)
    assert after.augmentation.steps[1].cases[0][0] == float("inf")
    json.loads(config.to_json(before), parse_constant=pytest.fail)


def test_execution_takes_no_part_in_comparison():
    assert experiment() == experiment(execution=train.Execution(steps_per_call=4))
    assert hash(experiment()) == hash(experiment(execution=train.Execution(steps_per_call=4)))
    assert experiment() != experiment(seed=1)


def test_diff_names_paths():
    before, after = experiment(), experiment(model=models.WideResNet(depth=16, width=1), averaging=None)
    differences = config.diff(before, after)
    assert ("model.depth", 10, 16) in differences
    assert ("averaging.decay", 0.999, None) in differences
    assert config.diff(before, before) == []


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"component": "models.WideResNett"}, "Did you mean 'WideResNet'"),
        ({"component": "modles.WideResNet"}, "Did you mean 'models'"),
        ({"component": "os.system", "command": "true"}, "not one of robust_jax's"),
        ({"component": "models.nn.Dense"}, "unknown component"),
        ({"component": "models.forward_fn"}, "unknown component"),
        ({"component": "models.WideResNet", "dept": 10}, "no field 'dept'. Did you mean 'depth'"),
        ({"component": "models.WideResNet", "depth": "ten"}, "config.depth: expected int, got 'ten'"),
        ({"component": "models.WideResNet", "depth": True}, "expected int, got True"),
        ({"component": "objectives.CrossEntropy", "label_smoothing": 2.0}, "label_smoothing in"),
        ({"component": "train.Execution", "resident": "maybe"}, "resident"),
    ],
)
def test_bad_trees_are_one_clear_error(tree, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        config.from_tree(tree)


def test_malformed_json_is_named():
    with pytest.raises(ConfigError, match="not valid JSON"):
        config.from_json("{")


def test_classes_of_the_caller_are_built_only_where_given():
    class Doubled(objectives.CrossEntropy):
        pass

    text = config.to_json(Doubled(0.1))
    with pytest.raises(ConfigError, match="not one of robust_jax's"):
        config.from_json(text)
    assert config.from_json(text, extra=(Doubled,)) == Doubled(0.1)


def test_what_is_no_literal_is_refused():
    with pytest.raises(TypeError, match="Expected a literal"):
        config.to_json(experiment(augmentation=lambda key, image: image))
