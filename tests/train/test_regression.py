"""Regression from a table to rows: networks, ensembles, validation, and what does not fit."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from robust_jax import data, models, objectives, posteriors, suites, tasks, train
from robust_jax.commands.run import run_experiment
from robust_jax.core.mesh import data_mesh

GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.uniform(-2, 2, (240, 2)).astype(np.float32)
# A straight line, with noise that grows with the second input.
NOISE = 0.2 + 0.2 * (INPUTS[:, 1] > 0)
TARGETS = (30 + 8 * (INPUTS[:, 0] + NOISE * GENERATOR.normal(size=240))).astype(np.float32)
SCALE = 8


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    np.savez(folder / "line.npz", x=INPUTS, y=TARGETS, test_0=np.arange(200, 240))
    return train.Experiment(
        data=data.Tabular("line", 0, str(folder)),
        model=models.Mlp(num_classes=2, widths=(8,), mean=(0.0,), std=(1.0,)),
        objective=objectives.GaussianNll(),
        optimiser=train.AdamW(learning_rate=0.03, weight_decay=0.0),
        epochs=15,
        batch_size=20,
        suites={"regression": suites.RegressionSuite()},
        execution=train.Execution(checkpoint_every=1000),
    )


def test_a_network_learns_mean_and_noise(experiment, tmp_path):
    rows = {row.metric: row.value for row in run_experiment("line", experiment, tmp_path)}
    noise = np.sqrt(np.mean(NOISE[200:] ** 2))
    assert 0.7 * noise * SCALE < rows["rmse"] < 1.5 * noise * SCALE
    # The NLL of who knows line and noise, in the data's units.
    best = np.mean(0.5 * np.log(2 * np.pi * np.e * (NOISE[200:] * SCALE) ** 2))
    assert best - 0.3 < rows["nll"] < best + 0.4
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("member_map", ["map", "vmap"])
def test_members_are_mixed(experiment, member_map):
    several = dataclasses.replace(
        experiment,
        members=2,
        epochs=2,
        objective=objectives.AdversarialGaussianNll(),
        execution=train.Execution(member_map=member_map),
    )
    trained = train.fit_predictor(several)
    assert isinstance(trained.predictor, posteriors.GaussianEnsemble)
    assert trained.members[0].task == tasks.Regression(1, scale=several.data.load("train").target_scale)
    source = several.data.load("test")
    evaluation = data.evaluation(source, batch_size=40, mesh=data_mesh())
    rows = list(suites.RegressionSuite().rows(suites.Context(jax.random.key(0), trained.predictor, evaluation)))
    inputs, targets = source.decode()
    outputs = np.stack([np.asarray(member.predictor(inputs)) for member in trained.members]).astype(float)
    mean = outputs[..., 0].mean(axis=0)
    rmse = np.sqrt(np.mean((mean - targets[:, 0]) ** 2)) * source.target_scale[0]
    np.testing.assert_allclose({row.metric: row.value for row in rows}["rmse"], rmse, rtol=1e-4)


def test_validation_is_in_the_units_of_the_data(experiment, tmp_path):
    held_out = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, validation=40), epochs=1)
    trained = train.fit(held_out, tmp_path)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    inputs, targets = held_out.data.load("validation").decode()
    (scale,) = held_out.data.load("train").target_scale
    outputs = np.asarray(trained.predictor(inputs), float)
    variance = np.log1p(np.exp(outputs[:, 1])) + 1e-6
    squared = (outputs[:, 0] - targets[:, 0]) ** 2
    nll = 0.5 * (np.log(2 * np.pi * variance * scale**2) + squared / variance)
    np.testing.assert_allclose(last["validation_rmse"], np.sqrt(squared.mean()) * scale, rtol=1e-4)
    np.testing.assert_allclose(last["validation_nll"], nll.mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": models.Mlp(num_classes=10, mean=(0.0,), std=(1.0,))},
            r"Mlp on line_split0 .* \[b, 2\] .* Regression\(num_targets=1.* got predictions \(1, 10\)",
        ),
        ({"task": tasks.Classification(2)}, r"logits \[b, 2\] .* got predictions \(1, 2\) and labels float32 \(1, 1\)"),
        ({"task": tasks.Regression(2, variance=False)}, r"labels float \[b, 2\] .* labels float32 \(1, 1\)"),
        ({"objective": objectives.CrossEntropy()}, r"probabilities \[b, 2\], got float32 \(20, 1\)"),
        ({"data": data.Digits(), "task": tasks.Regression(1)}, r"Mlp on digits .* labels int32 \(1,\)"),
    ],
)
def test_what_does_not_fit_is_said_before_training(experiment, changes, message):
    with pytest.raises(ValueError, match=message):
        train.fit(dataclasses.replace(experiment, **changes))
