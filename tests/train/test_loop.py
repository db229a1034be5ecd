"""The training loop: it learns, resumes to the same bits, and stops cleanly."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import long_unless

from robust_jax import augmentations, data, models, train
from robust_jax.train import checkpoint
from robust_jax.train.loop import CHECKPOINTS
from robust_jax.train.preemption import Preemption


def experiment(**changes) -> train.Experiment:
    fields = {
        "data": data.Digits(),
        "model": models.Mlp(widths=(24,), norm="batch"),
        "augmentation": augmentations.RandomLp("c2"),
        "optimiser": train.Sgd(learning_rate=0.05),
        "averaging": train.Ema(decay=0.9),
        "epochs": 2,
        "batch_size": 80,
        "execution": train.Execution(checkpoint_every=5, log_every=5),
    }
    return train.Experiment(**(fields | changes))


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


@pytest.fixture(scope="module")
def uninterrupted():
    return train.fit(experiment())


def test_loss_falls(tmp_path):
    train.fit(
        experiment(epochs=5, optimiser=train.Sgd(learning_rate=0.3), execution=train.Execution(log_every=5)), tmp_path
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["step"] == 5 * 17


@pytest.mark.parametrize("stop_at", long_unless([20], [1, 7, 20]))
def test_resumes_to_the_same_bits(tmp_path, monkeypatch, uninterrupted, stop_at):
    """As after a kill at any step: what was not saved is done again."""

    class Killed(Exception):
        pass

    def reached(self, step):
        if step == stop_at:
            raise Killed
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", reached)
        with pytest.raises(Killed):
            train.fit(experiment(), tmp_path)
    resumed = train.fit(experiment(), tmp_path)
    assert resumed.step == uninterrupted.step
    assert_same_bits(resumed.variables, uninterrupted.variables)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "lines of the interrupted part stayed"


def test_preemption_saves_the_step_it_stops_at(tmp_path, monkeypatch, uninterrupted):
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", lambda self, step: step == 13)
        with pytest.raises(train.Preempted) as stop:
            train.fit(experiment(), tmp_path)
    assert stop.value.code == 143
    assert train.restore(experiment(), tmp_path).step == 13
    assert_same_bits(train.fit(experiment(), tmp_path).variables, uninterrupted.variables)


def test_damaged_checkpoint_is_set_aside_and_the_one_before_used(tmp_path, uninterrupted, caplog):
    train.fit(experiment(), tmp_path)
    last = tmp_path / CHECKPOINTS / "34"
    for file in last.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:3])
    resumed = train.fit(experiment(), tmp_path)
    assert "34 cannot be read and is set aside" in caplog.text
    assert (tmp_path / "damaged" / "34").is_dir()
    assert_same_bits(resumed.variables, uninterrupted.variables)


def test_foreign_checkpoint_is_not_taken(tmp_path, caplog):
    with checkpoint.Checkpoints(tmp_path / CHECKPOINTS, keep=2) as checkpoints:
        checkpoints.save(34, {"weights": jnp.ones(3)})
        checkpoints.wait()
    with pytest.raises(FileNotFoundError, match="No readable checkpoint"):
        train.restore(experiment(), tmp_path)
    assert "set aside" in caplog.text


def test_retention_keeps_the_newest(tmp_path):
    train.fit(experiment(), tmp_path)
    kept = sorted(int(path.name) for path in (tmp_path / CHECKPOINTS).iterdir() if path.name.isdigit())
    assert kept == [30, 34]


@pytest.mark.parametrize(
    "execution",
    [pytest.param({"steps_per_call": 3}, marks=pytest.mark.long), {"resident": "no"}, {"num_devices": 1}],
    ids=("steps_per_call", "resident", "num_devices"),
)
def test_execution_changes_no_result(uninterrupted, execution):
    other = train.fit(experiment(execution=train.Execution(**execution)))
    for a, b in zip(jax.tree.leaves(other.variables), jax.tree.leaves(uninterrupted.variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_loss_that_is_not_finite_stops_the_run(tmp_path):
    exploding = experiment(optimiser=train.Sgd(learning_rate=1e30), execution=train.Execution(checkpoint_every=1))
    with pytest.raises(
        train.NonFiniteLossError, match=r"not finite at step \d+; .*Last good checkpoint: .*checkpoints"
    ):
        train.fit(exploding, tmp_path)
    for leaf in jax.tree.leaves(train.restore(exploding, tmp_path).variables):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 5000}, "batch_size <= 1437 training examples, got 5000"),
        ({"batch_size": 81}, "batch_size to divide by the 4 devices, got 81"),
        ({"model": models.ResNet(num_classes=7)}, r"ResNet on digits .* logits \[b, 10\] .* predictions \(1, 7\)"),
    ],
)
def test_what_does_not_fit_is_said_before_training(changes, message):
    with pytest.raises(ValueError, match=message):
        train.fit(experiment(**changes))


def test_validation_error_is_logged(tmp_path):
    train.fit(experiment(data=data.Digits(validation=0.1), epochs=1), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= lines[-1]["validation_error"] <= 1
    assert lines[-1]["validation_nll"] > 0


def test_mixers_and_objective_see_the_step():
    seen = []

    class Mixer:
        def __call__(self, key, batch):
            seen.append(batch.image.shape)
            return batch._replace(image=batch.image[::-1], label=batch.label[::-1])

    train.fit(experiment(mixers=(Mixer(), Mixer()), epochs=1))
    assert seen == [(80, 8, 8, 1), (80, 8, 8, 1)], "traced once for each mixer"
