"""Members trained together: what they are alone, whichever way they are mapped; resumed to the same bits."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest
from tables import long_unless

from robust_jax import augmentations, data, models, train
from robust_jax.core.mesh import data_mesh
from robust_jax.core.platform import compiled_for
from robust_jax.train import prepare
from robust_jax.train.experiment import MEMBER_MAPS
from robust_jax.train.loop import CHECKPOINTS
from robust_jax.train.members import choose_member_map, example_batch, needs
from robust_jax.train.preemption import Preemption
from robust_jax.train.state import init_state

EXECUTION = train.Execution(num_devices=2, checkpoint_every=2, log_every=2)
EXPERIMENT = train.Experiment(
    data=data.Digits(),
    model=models.ResNet(stage_sizes=(1,), width=4),
    augmentation=augmentations.HorizontalFlip(),
    optimiser=train.Sgd(learning_rate=0.05),
    epochs=1,
    batch_size=280,
    members=2,
    seed=1,
    execution=EXECUTION,
)
STEPS = 5


def mapped(member_map, **execution):
    return dataclasses.replace(EXPERIMENT, execution=dataclasses.replace(EXECUTION, member_map=member_map, **execution))


def members_of(experiment, workdir=None):
    return [member.variables for member in train.fit_predictor(experiment, workdir).members]


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def assert_close(a, b, atol=1e-4):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b)


@pytest.fixture(scope="module")
def alone():
    """Each trained by itself."""
    return [train.fit(member).variables for member in train.member_experiments(EXPERIMENT)]


@pytest.fixture(scope="module")
def together():
    """As asked for."""
    return {}


def trained(together, member_map):
    if member_map not in together:
        together[member_map] = members_of(mapped(member_map))
    return together[member_map]


@pytest.mark.parametrize("member_map", long_unless(["map", "vmap"], MEMBER_MAPS))
def test_members_together_are_what_they_are_alone(alone, together, member_map):
    found = trained(together, member_map)
    assert_close(found, alone)
    if member_map in ("auto", "turn", "map"):
        assert_same_bits(found, alone)


def test_how_they_are_fed_changes_nothing(alone):
    assert_close(members_of(mapped("vmap", resident="no")), alone)


@pytest.mark.long
def test_map_is_one_loop_where_it_is_no_cpu(alone):
    """The program of an accelerator, which a CPU runs as well."""
    with compiled_for("gpu"):
        assert_close(members_of(mapped("map")), alone)


@pytest.mark.parametrize("member_map", ["auto", "devices"])
def test_one_member_is_the_network_to_the_bit(alone, member_map):
    """Which is the first of the two."""
    found = train.fit_predictor(dataclasses.replace(mapped(member_map), members=1, seed=2))
    assert_same_bits(found.members[0].variables, alone[0])
    assert found.predictor.model == EXPERIMENT.model


class Killed(Exception):
    """As by the system."""


def kill_at(monkeypatch, step, experiment, workdir):
    def reached(self, now):
        if now == step:
            raise Killed
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", reached)
        with pytest.raises(Killed):
            train.fit_predictor(experiment, workdir)


@pytest.mark.long
@pytest.mark.parametrize("member_map", ["map", "devices"])
def test_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, together, member_map):
    kill_at(monkeypatch, 3, mapped(member_map), tmp_path)
    # As if the kill had come between the saves of two members.
    (last,) = (tmp_path / "member_1" / CHECKPOINTS).glob("2")
    last.rename(tmp_path / "unsaved")
    assert_same_bits(members_of(mapped(member_map), tmp_path), trained(together, member_map))
    restored = train.restore_predictor(EXPERIMENT, tmp_path)
    assert_same_bits([member.variables for member in restored.members], trained(together, member_map))
    for i in range(2):
        lines = (tmp_path / f"member_{i}" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [2, 4, 5]


def test_preempted_members_stop_at_one_step(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", lambda self, step: step == 3)
        with pytest.raises(train.Preempted):
            train.fit_predictor(mapped("vmap"), tmp_path)
    restored = train.restore_predictor(EXPERIMENT, tmp_path)
    assert [member.step for member in restored.members] == [3, 3]


def test_members_far_apart_go_on_in_turn(tmp_path, alone):
    train.fit(train.member_experiments(EXPERIMENT)[0], tmp_path / "member_0")
    assert_same_bits(members_of(mapped("vmap"), tmp_path), alone)


def test_loss_that_is_not_finite_stops_the_run_and_names_the_member(monkeypatch):
    def broken(experiment, *args, **kwargs):
        state = init_state(experiment, *args, **kwargs)
        broken_params = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
        return state if experiment.seed == 2 else state._replace(params=broken_params)

    monkeypatch.setattr(prepare, "init_state", broken)
    with pytest.raises(train.NonFiniteLossError, match=r"of member 1 .* not finite at step 0"):
        train.fit_predictor(mapped("vmap"))


@pytest.fixture(scope="module")
def state():
    example = example_batch(EXPERIMENT, (8, 8, 1), 10)
    return init_state(EXPERIMENT, EXPERIMENT.optimiser(lambda step: 1.0), example)


def test_memory_is_estimated_and_refused(state):
    need = needs(EXPERIMENT, state, (8, 8, 1), 10)
    size = 4 * models.num_parameters(state.params)
    assert need.gradient == size
    # Parameters, momentum, and running statistics, steps and counts that are few.
    assert 2 * size < need.state < 3 * size
    # At the least every convolution's input in the residual block.
    assert need.activations > 3 * 280 * 8 * 8 * 4 * 4
    assert need.of("turn", 5, 1) < need.of("map", 5, 1) < need.of("vmap", 5, 1)
    assert need.of("map", 5, 2) < need.of("map", 5, 1)
    assert need.of("vmap", 5, 1) == 5 * need.of("turn", 5, 1)

    tight = need.of("map", 2, 2) / 1e9 * 1.01
    with pytest.raises(ValueError, match=r"member_map='vmap' with members=2; estimates: turn .* GB"):
        train.fit_predictor(mapped("vmap", member_memory=tight))


def test_auto_is_a_rule(state, caplog):
    need = needs(EXPERIMENT, state, (8, 8, 1), 10)

    def chosen(num_members, **execution):
        sizes = {"image_shape": (8, 8, 1), "num_classes": 10, "mesh": data_mesh(jax.devices()[:2])}
        return choose_member_map(mapped("auto", **execution), num_members, state, **sizes)

    with caplog.at_level(logging.INFO):
        assert chosen(2) == "map"
    assert "Estimated memory of 2 members on each device: turn" in caplog.text
    assert chosen(1) == "turn"
    assert chosen(2, member_memory=1e-9) == "turn"
    with compiled_for("gpu"):
        assert chosen(2) == "devices"
        assert chosen(3) == "vmap"
        assert chosen(3, member_memory=need.of("map", 3, 2) / 1e9) == "map"


def test_bad_input():
    with pytest.raises(ValueError, match="Did you mean 'vmap'"):
        train.Execution(member_map="vmaps")
    with pytest.raises(ValueError, match="member_memory > 0"):
        train.Execution(member_memory=0)
    with pytest.raises(ValueError, match="members to divide by the 2 devices with member_map='devices', got members=3"):
        train.fit_predictor(dataclasses.replace(mapped("devices"), members=3))
