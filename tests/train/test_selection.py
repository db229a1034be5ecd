"""Which epoch's weights are evaluated, and objectives that learn from whole passes."""

import dataclasses
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import long_unless

from robust_jax import attacks, config, data, models, objectives, train
from robust_jax.core.keys import RunKeys, example_keys
from robust_jax.core.mesh import data_mesh
from robust_jax.objectives import plain_loss
from robust_jax.train.checkpoint import Checkpoints
from robust_jax.train.loop import CHECKPOINTS
from robust_jax.train.preemption import Preemption
from robust_jax.types import Objective

HELD_OUT = data.Digits(validation=200)
# The highest NLL is that of the first epoch, so that the last is not the best.
EXPERIMENT = train.Experiment(
    data=HELD_OUT,
    model=models.Mlp(widths=(16,)),
    optimiser=train.Sgd(learning_rate=0.05),
    selection=train.Best("nll", "max"),
    epochs=3,
    batch_size=256,
    execution=train.Execution(keep_checkpoints=10),
)
STEPS_PER_EPOCH = (1437 - 200) // 256


def assert_same_bits(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    train.fit(EXPERIMENT, path)
    return path


def test_the_selected_weights_are_those_of_the_best_epoch(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    nll = {line["step"]: line["validation_nll"] for line in lines if "validation_nll" in line}
    best = max(nll, key=lambda step: nll[step])
    assert len(nll) == 3
    assert best == STEPS_PER_EPOCH
    last = train.fit(dataclasses.replace(EXPERIMENT, selection=None))
    selected = train.restore(EXPERIMENT, folder)
    assert np.any(selected.variables["params"]["head"]["bias"] != last.variables["params"]["head"]["bias"])
    np.testing.assert_allclose(measured_nll(selected.predictor), nll[best], rtol=1e-5)
    # In memory, and with the lowest value, which the last epoch has.
    assert_same_bits(train.fit(EXPERIMENT).variables, selected.variables)
    lowest = train.fit(dataclasses.replace(EXPERIMENT, selection=train.Best("nll")))
    assert_same_bits(lowest.variables, last.variables)


def measured_nll(predictor):
    images, labels = HELD_OUT.load("validation").decode()
    logits = np.asarray(predictor(jnp.asarray(images / np.float32(255))), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop_at", long_unless([STEPS_PER_EPOCH], [2, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, 12]))
def test_a_killed_run_selects_the_same(tmp_path, monkeypatch, folder, stop_at):
    """Killed within an epoch, between an epoch's last step and its validation, and after the last step of all."""
    with monkeypatch.context() as patch:

        def save(self, step, state, *, original=Checkpoints.save):
            original(self, step, state)
            if step == stop_at and self.folder.name == CHECKPOINTS:
                self.wait()
                raise Killed

        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(Killed):
            train.fit(with_every_step_saved(EXPERIMENT), tmp_path)
    resumed = train.fit(EXPERIMENT, tmp_path)
    assert_same_bits(resumed.variables, train.restore(EXPERIMENT, folder).variables)
    assert_same_bits(train.restore(EXPERIMENT, tmp_path).variables, resumed.variables)


def with_every_step_saved(experiment):
    execution = dataclasses.replace(experiment.execution, checkpoint_every=1)
    return dataclasses.replace(experiment, execution=execution)


def test_each_member_and_each_stage_selects_its_own(tmp_path):
    both = [dataclasses.replace(EXPERIMENT, seed=seed) for seed in (0, 1)]
    together = train.fit_members(both, [tmp_path / "0", tmp_path / "1"])
    for experiment, trained in zip(both, together, strict=True):
        alone = train.fit(experiment).variables
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), trained.variables, alone)
    stages = (train.Stage("first"), train.Stage("second", selection=train.Best("error")))
    staged = dataclasses.replace(EXPERIMENT, stages=stages)
    first, second = train.stage_experiments(staged)
    assert (first.selection, second.selection) == (train.Best("nll", "max"), train.Best("error"))
    expected = train.fit(second, initial=train.fit(first).variables).variables
    assert_same_bits(train.fit(staged).variables, expected)
    assert config.from_json(config.to_json(staged)) == staged


def test_selection_by_robust_error(tmp_path):
    attack = attacks.PGD(eps=0.1, steps=3)
    experiment = dataclasses.replace(EXPERIMENT, selection=train.Best("error", attack=attack))
    trained = train.fit(experiment, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    robust = [line["validation_robust_error"] for line in lines if "validation_robust_error" in line]
    clean = [line["validation_error"] for line in lines if "validation_error" in line]
    source = HELD_OUT.load("validation")
    images, labels = source.decode()
    keys = example_keys(RunKeys(jax.random.key(0)).validation(), jnp.asarray(source.ids))
    moved = attack(keys, trained.predictor, jnp.asarray(images / np.float32(255)), jnp.asarray(labels))
    error = np.mean(np.argmax(trained.predictor(moved), axis=1) != labels)
    np.testing.assert_allclose(error, min(robust), atol=1e-6)
    assert (np.array(robust) > np.array(clean)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": data.Digits()}, "Expected held-out examples .* validation=1000 in Digits, got none"),
        ({"selection": train.Best("eror")}, "selection.metric .*'eror'.* 'error'"),
        ({"selection": train.Best("psnr")}, "selection.metric .*'psnr'"),
        (
            {
                "data": data.Shapes(num_train=64, validation=16, num_test=16, image_size=16),
                "model": models.PixelLogistic(num_classes=3),
                "batch_size": 32,
                "selection": train.Best("mean_iou", "max", attack=attacks.PGD()),
            },
            "Expected classification for a selection by attacked images, got task Segmentation",
        ),
    ],
)
def test_what_cannot_select_is_said_before_training(monkeypatch, changes, message):
    monkeypatch.setattr("robust_jax.train.loop.make_feed", pytest.fail)
    with pytest.raises(ValueError, match=message):
        train.fit(dataclasses.replace(EXPERIMENT, **changes))


def test_mode_is_checked():
    with pytest.raises(ValueError, match=r"mode .*'lowest'"):
        train.Best("error", "lowest")


@dataclasses.dataclass(frozen=True)
class Centres(Objective):
    """Cross-entropy, and the distance of features from the mean of their class at the start of the epoch."""

    learns_from_passes: ClassVar[bool] = True

    def init(self, key, params, example):
        return (), {"centres": jnp.zeros((10, 16)), "passes": jnp.zeros((), jnp.int32)}

    def before_epoch(self, key, network, batches, state):
        sums, counts = jnp.zeros((10, 16)), jnp.zeros(10)
        for batch in batches:
            weights = jax.nn.one_hot(batch.label, 10) * batch.mask[:, None]
            sums = sums + weights.T @ network.output(batch.image).features
            counts = counts + weights.sum(axis=0)
        return {"centres": sums / counts[:, None], "passes": state["passes"] + 1}

    def __call__(self, key, forward, params, batch, state, context):
        output, model_state = forward(params, batch.image, key=key, train=True)
        losses = objectives.cross_entropy(output.prediction, jax.nn.one_hot(batch.label, 10))
        distances = jnp.sum((output.features - state["centres"][batch.label]) ** 2, axis=-1)
        metrics = {"passes": state["passes"].astype(jnp.float32), "centre": jnp.mean(state["centres"])}
        return plain_loss(losses + 0.1 * distances, model_state, state, metrics)


PASSES = train.Experiment(
    data=data.Digits(),
    model=models.Mlp(widths=(16,)),
    objective=Centres(),
    optimiser=train.Sgd(learning_rate=0.05),
    epochs=2,
    batch_size=256,
    execution=train.Execution(log_every=1),
)


def test_an_objective_learns_from_a_pass_before_every_epoch(tmp_path):
    trained = train.fit(PASSES, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["passes"] for line in lines] == [1.0] * 5 + [2.0] * 5
    images, labels = data.Digits().load("train").decode()
    start = train.fit(dataclasses.replace(PASSES, epochs=0))
    features = np.asarray(start.predictor.output(jnp.asarray(images / np.float32(255))).features)
    centres = np.stack([features[labels == c].mean(axis=0) for c in range(10)])
    np.testing.assert_allclose(lines[0]["centre"], centres.mean(), rtol=1e-5)
    assert trained.step == 10


@pytest.mark.parametrize("stop_at", [3, 5])
def test_what_was_learned_from_a_pass_survives_a_kill(tmp_path, monkeypatch, stop_at):
    """Within an epoch and between two."""
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", lambda self, step: step == stop_at)
        with pytest.raises(train.Preempted):
            train.fit(PASSES, tmp_path)
    assert_same_bits(train.fit(PASSES, tmp_path).variables, train.fit(PASSES).variables)


@pytest.mark.parametrize("member_map", long_unless(["map"], ["map", "vmap", "devices"]))
def test_each_member_learns_from_its_own_pass(member_map):
    both = []
    for seed in (0, 1):
        execution = train.Execution(member_map=member_map, num_devices=2)
        both.append(dataclasses.replace(PASSES, seed=seed, execution=execution))
    for experiment, trained in zip(both, train.fit_members(both, [None, None]), strict=True):
        alone = train.fit(experiment).variables
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), trained.variables, alone)
    assert data_mesh().size > 1
