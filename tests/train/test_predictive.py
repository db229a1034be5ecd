"""Experiments of several members and with posteriors: what each member is alone, what they predict, how they resume."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import config, data, models, posteriors, suites, train
from robust_jax.commands.run import run_experiment
from robust_jax.core.mesh import data_mesh

EXPERIMENT = train.Experiment(
    data=data.Digits(),
    model=models.ResNet(stage_sizes=(1,), width=4),
    optimiser=train.Sgd(learning_rate=0.1),
    epochs=1,
    batch_size=256,
    seed=1,
    suites={"clean": suites.Clean()},
)
IMAGES = jax.random.uniform(jax.random.key(0), (6, 8, 8, 1))


@pytest.fixture(scope="module")
def alone():
    """Two members, each trained by itself."""
    return [train.fit(dataclasses.replace(EXPERIMENT, seed=seed)) for seed in (2, 3)]


def test_one_member_is_the_network():
    found = train.fit_predictor(EXPERIMENT)
    expected = train.fit(EXPERIMENT)
    np.testing.assert_array_equal(found.predictor(IMAGES), expected.predictor(IMAGES))
    assert (found.step, found.total_steps) == (expected.step, expected.total_steps)


@pytest.mark.long
def test_members_are_what_they_are_alone_and_are_averaged(alone):
    found = train.fit_predictor(dataclasses.replace(EXPERIMENT, members=2))
    for member, one in zip(found.members, alone, strict=True):
        jax.tree.map(np.testing.assert_array_equal, member.variables, one.variables)
    expected = np.mean([jax.nn.softmax(one.predictor(IMAGES)) for one in alone], axis=0)
    np.testing.assert_allclose(jnp.exp(found.predictor(IMAGES)), expected, atol=1e-5)


def test_seeds_share_no_member():
    seeds = [
        e.seed for s in range(4) for e in train.member_experiments(dataclasses.replace(EXPERIMENT, members=3, seed=s))
    ]
    assert len(set(seeds)) == 12


def test_posterior_of_each_member(alone):
    laplace = posteriors.Laplace("last_layer", "kron", 3.0)
    experiment = dataclasses.replace(EXPERIMENT, members=2, posterior=laplace)
    found = train.fit_predictor(experiment)
    examples = data.evaluation(EXPERIMENT.data.load("train"), batch_size=500, mesh=data_mesh())
    states = [laplace.fit(None, one.model, one.variables, examples.batches()) for one in alone]
    expected = np.mean([jax.nn.softmax(state(IMAGES)) for state in states], axis=0)
    np.testing.assert_allclose(jnp.exp(found.predictor(IMAGES)), expected, atol=1e-4)
    assert config.from_json(config.to_json(experiment)) == experiment
    with pytest.raises(ValueError, match="members"):
        dataclasses.replace(EXPERIMENT, members=0)


@pytest.mark.long
def test_posterior_of_training_and_held_out_examples():
    laplace = posteriors.Laplace("last_layer", "kron", prior_by="held_out")
    experiment = dataclasses.replace(EXPERIMENT, data=data.Digits(validation=200), posterior=laplace)
    found = train.fit_predictor(experiment)
    network = found.members[0]
    train_split, held_out = (
        data.evaluation(experiment.data.load(split), batch_size=500, mesh=data_mesh()).batches()
        for split in ("train", "validation")
    )
    state = laplace.fit(None, network.model, network.variables, train_split, held_out)
    np.testing.assert_allclose(found.predictor(IMAGES), state(IMAGES), atol=1e-4)
    with pytest.raises(ValueError, match="validation"):
        train.fit_predictor(dataclasses.replace(experiment, data=data.Digits()))


def test_run_has_a_folder_for_each_member_and_is_restored(tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, members=2)
    (error, *_) = run_experiment("two", experiment, tmp_path / "two")
    assert error.metric == "error"
    assert {path.name for path in (tmp_path / "two").glob("member_*")} == {"member_0", "member_1"}
    restored = train.restore_predictor(experiment, tmp_path / "two")
    expected = train.fit_predictor(experiment)
    np.testing.assert_allclose(restored.predictor(IMAGES), expected.predictor(IMAGES), atol=1e-6)
