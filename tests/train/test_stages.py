"""Stages, extra streams and parameters that do not move."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import config, data, models, train
from robust_jax.core.mesh import data_mesh
from robust_jax.objectives import plain_loss
from robust_jax.train.preemption import Preemption
from robust_jax.types import Objective

NETWORK = models.ResNet(stage_sizes=(1,), width=4)
TWO_STAGES = train.Experiment(
    data=data.Digits(),
    model=NETWORK,
    optimiser=train.Sgd(learning_rate=0.05),
    epochs=1,
    batch_size=256,
    stages=(
        train.Stage("pretrain"),
        train.Stage("probe", trainable=("head/*",), reset=("head/*",), epochs=2),
    ),
)


@dataclasses.dataclass(frozen=True)
class MeanOfTwo(Objective):
    """Cross-entropy of a bias, with the mean of an extra stream among the metrics."""

    streams: ClassVar[tuple[str, ...]] = ("other",)

    def __call__(self, key, forward, params, batch, state, context):
        output, model_state = forward(params, batch.image, key=key, train=True)
        losses = -jax.nn.log_softmax(output.prediction)[jnp.arange(len(batch.label)), batch.label]
        other = batch.extras["other"]
        metrics = {"first_id": jnp.float32(other.id[0]), "size": jnp.float32(len(other.id)), "step": context.step}
        return plain_loss(losses + 1e-3 * jnp.mean(other.image), model_state, state + 1, metrics | {"calls": state})

    def init(self, key, params, example):
        return (), jnp.zeros((), jnp.int32)


OTHER = data.Arrays(train=(np.arange(96 * 64, dtype=np.uint8).reshape(96, 8, 8, 1), np.arange(96) % 10))
WITH_STREAM = train.Experiment(
    data=data.Digits(),
    model=models.Mlp(widths=(8,)),
    objective=MeanOfTwo(),
    extra={"other": train.Stream(OTHER, batch_size=32)},
    epochs=2,
    batch_size=256,
)


def assert_same_bits(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(scope="module")
def straight():
    return train.fit(TWO_STAGES)


def test_stages_are_experiments_one_after_the_other(straight):
    first, second = train.stage_experiments(TWO_STAGES)
    assert first.seed == TWO_STAGES.seed != second.seed
    pretrained = train.fit(first)
    assert_same_bits(train.fit(second, initial=pretrained.variables).variables, straight.variables)
    before, after = pretrained.variables, straight.variables
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before["params"], after["params"])
    assert moved.pop("head") == {"kernel": True, "bias": True}
    assert not any(jax.tree.leaves(moved)), "only the head moves"
    assert_same_bits(after["batch_stats"], before["batch_stats"])


@pytest.mark.parametrize("stop", [2, 5, 9])
def test_a_run_stopped_in_any_stage_ends_the_same(tmp_path, monkeypatch, straight, stop):
    steps = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", lambda self, step: next(steps) == stop)
        with pytest.raises(train.Preempted):
            train.fit(TWO_STAGES, tmp_path)
    assert_same_bits(train.fit(TWO_STAGES, tmp_path).variables, straight.variables)
    assert_same_bits(train.restore(TWO_STAGES, tmp_path).variables, straight.variables)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage0_pretrain", "stage1_probe"]


def test_members_go_through_their_own_stages(straight):
    found = train.fit_predictor(dataclasses.replace(TWO_STAGES, members=2))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found.members[0].variables, straight.variables
    )
    assert len(found.members) == 2


def test_streams_come_beside_the_batches_and_resume_to_the_same_bits(tmp_path, monkeypatch):
    straight = train.fit(WITH_STREAM, tmp_path / "straight")
    lines = (tmp_path / "straight" / "metrics.jsonl").read_text()
    assert '"size": 32.0' in lines
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", lambda self, step: step == 7)
        with pytest.raises(train.Preempted):
            train.fit(WITH_STREAM, tmp_path / "stopped")
    assert_same_bits(train.fit(WITH_STREAM, tmp_path / "stopped").variables, straight.variables)


def test_a_stream_is_dealt_in_epochs_of_its_own():
    feed = data.train_feed
    mesh = data_mesh(jax.devices()[:1])
    main, other = data.Digits().load("train"), OTHER.load("train")
    both = data.MultiFeed(
        feed(main, batch_size=256, seed=0, mesh=mesh), {"other": feed(other, batch_size=32, seed=0, mesh=mesh)}
    ).with_seed(3)
    ids = [
        np.asarray(both.fetch(both.resident, item).extras["other"].id)
        for epoch in range(2)
        for item in both.epoch(epoch)
    ]
    assert len(ids) == 10
    for start in (0, 3):
        assert sorted(np.concatenate(ids[start : start + 3])) == sorted(other.ids)
    assert (np.concatenate(ids[:3]) != np.concatenate(ids[3:6])).any()
    again = [np.asarray(both.fetch(both.resident, item).extras["other"].id) for item in both.epoch(1, 3)]
    np.testing.assert_array_equal(again, ids[8:])


def test_stages_survive_saving():
    for experiment in (TWO_STAGES, dataclasses.replace(TWO_STAGES, stages=(), initial=train.FromRun("base"))):
        assert config.from_json(config.to_json(experiment)) == experiment


def test_bad_values():
    with pytest.raises(ValueError, match=r"streams that the objective uses, got 'unlabelled'; it reads none"):
        dataclasses.replace(TWO_STAGES, stages=(), extra={"unlabelled": train.Stream(data.Digits())})
    with pytest.raises(ValueError, match=r"extra=\{'other': Stream\(...\)\} for the objective MeanOfTwo"):
        dataclasses.replace(WITH_STREAM, extra={})
    with pytest.raises(ValueError, match="stages of different names"):
        dataclasses.replace(TWO_STAGES, stages=(train.Stage("a"), train.Stage("a")))
    with pytest.raises(ValueError, match="Expected a stage name"):
        train.Stage("a/b")
    nothing = train.Stage("probe", trainable=("haed/*",))
    with pytest.raises(ValueError, match=r"trainable to match parameters, got 'haed/\*'"):
        train.fit(dataclasses.replace(TWO_STAGES, stages=(train.Stage("pretrain"), nothing)))
    other = dataclasses.replace(TWO_STAGES, stages=(), model=NETWORK.clone(width=8))
    variables = train.fit(dataclasses.replace(TWO_STAGES, stages=(), epochs=0)).variables
    with pytest.raises(ValueError, match="name it in reset to draw it anew"):
        train.fit(other, initial=variables)
    with pytest.raises(ValueError, match="weights of run 'base' as initial="):
        train.fit(dataclasses.replace(TWO_STAGES, stages=(), initial=train.FromRun("base")))
