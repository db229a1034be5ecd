"""SWAG by its moments and covariance, SWA by what it averages, and recomputed batch statistics by the batches' own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brute_force import Linear

from robust_jax import config, data, models, train
from robust_jax.posteriors import Moments, Swag, recomputed_norms, sample_weights
from robust_jax.types import Batch

pytestmark = pytest.mark.long

KEY = jax.random.key(0)


def batch_of(num, padding=0):
    images = jax.random.uniform(jax.random.key(1), (num + padding, 2, 2, 1))
    labels = jax.random.randint(jax.random.key(2), (num + padding,), 0, 3)
    return Batch(images, labels, jnp.arange(num + padding) < num, jnp.arange(num + padding))


@pytest.fixture(scope="module")
def path():
    """Weights that vary little about a large mean."""
    generator = np.random.default_rng(0)
    weights = 100 + generator.normal(size=(7, 4)) * np.array([0.1, 0.2, 0.5, 1.0])
    return np.float32(weights)


def moments_of(path, rank):
    moments = Moments.start({"w": jnp.asarray(path[0])}, rank)
    for weights in path[1:]:
        moments = jax.jit(Moments.add)(moments, {"w": jnp.asarray(weights)})
    return moments


def test_moments_are_numpys(path):
    moments = moments_of(path, 3)
    np.testing.assert_allclose(moments.mean["w"], path.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(moments.squares["w"] / moments.count, path.astype(np.float64).var(axis=0), rtol=1e-3)
    running = np.cumsum(path.astype(np.float64), axis=0) / np.arange(1, 8)[:, None]
    np.testing.assert_allclose(moments.deviations["w"], (path - running)[-3:], atol=3e-5)


@pytest.mark.parametrize("rank", [0, 3])
def test_samples_have_the_covariance_of_the_paper(path, rank):
    moments = moments_of(path, rank)
    draw = jax.jit(jax.vmap(lambda key: sample_weights(key, moments, scale=0.5)["w"]))
    weights = np.asarray(draw(jax.random.split(KEY, 40000)), np.float64)
    running = np.cumsum(path.astype(np.float64), axis=0) / np.arange(1, 8)[:, None]
    columns = (path - running)[7 - rank :]
    expected = 0.5 * (np.diag(path.var(axis=0)) + columns.T @ columns / max(rank - 1, 1))
    deviations = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(weights.mean(axis=0), path.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(
        np.cov(weights.T) / np.outer(deviations, deviations), expected / np.outer(deviations, deviations), atol=0.03
    )


def test_scale_0_is_the_mean_of_sgds_path():
    """On all data at once, where the path is that of gradient descent, taken again by optax."""
    batch = batch_of(30, padding=3)
    start = {"params": {"head": {"kernel": jnp.zeros((4, 3))}}}
    swag = Swag(epochs=4, learning_rate=0.5, batch_size=30, rank=2, scale=0.0, num_samples=1)
    state = swag.fit(KEY, Linear(), start, [batch])

    @jax.jit
    @jax.grad
    def gradient(params):
        logits = Linear().apply({"params": params}, batch.image[:30], train=False).prediction
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label[:30])
        decay = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        return losses.mean() + 0.5 * 5e-4 * decay

    params, momentum = start["params"], jnp.zeros((4, 3))
    visited = [params["head"]["kernel"]]
    for _ in range(4):
        momentum = 0.9 * momentum + gradient(params)["head"]["kernel"]
        params = {"head": {"kernel": params["head"]["kernel"] - 0.5 * momentum}}
        visited.append(params["head"]["kernel"])
    found = state.ensemble.stacked.variables["params"]["head"]["kernel"][0]
    np.testing.assert_allclose(found, np.mean(visited, axis=0), atol=1e-5)


def test_batch_statistics_are_those_of_the_batches():
    model = models.ResNet(stage_sizes=(1,), width=4, num_classes=3)
    params, state = models.init(model, KEY, (8, 8, 1))
    variables = {"params": params, **state}
    images = jax.random.uniform(KEY, (2, 6, 8, 8, 1))
    found = recomputed_norms(KEY, model, variables, images)["batch_stats"]["stem_norm"]
    stem = jax.lax.conv_general_dilated(
        (images.reshape(12, 8, 8, 1) - 0.5) / 0.25,
        params["stem_conv"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ).reshape(2, -1, 4)
    np.testing.assert_allclose(found["mean"], stem.mean(axis=(0, 1)), atol=1e-5)
    np.testing.assert_allclose(found["var"], stem.var(axis=1).mean(axis=0), rtol=1e-4)
    assert recomputed_norms(KEY, model, {"params": params}, images) == {"params": params}


def test_swag_of_a_trained_network_is_a_posterior_as_any():
    experiment = train.Experiment(
        data=data.Digits(),
        model=models.ResNet(stage_sizes=(1,), width=4),
        optimiser=train.Sgd(learning_rate=0.1),
        epochs=1,
        batch_size=240,
        posterior=Swag(epochs=2, batch_size=240, rank=2, num_samples=2),
        execution=train.Execution(num_devices=1),
    )
    found = train.fit_predictor(experiment)
    images, labels = experiment.data.load("test").decode()
    images = jnp.float32(images) / 255
    predict = jax.jit(lambda f: f(images))
    logits = predict(found.predictor)
    assert logits.shape == (len(images), 10)
    np.testing.assert_allclose(jnp.exp(logits).sum(axis=1), 1, rtol=1e-5)
    alone = predict(found.members[0].predictor)
    losses = [float(optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()) for z in (logits, alone)]
    assert losses[0] < losses[1]
    assert config.from_json(config.to_json(experiment)) == experiment


def test_bad_input():
    start = {"params": {"head": {"kernel": jnp.zeros((4, 3))}}}
    for changes, message in (
        ({"rank": 1}, "rank = 0 or rank > 1"),
        ({"epochs": 5}, r"rank <= epochs \* collects_per_epoch = 5, got rank=20"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"scale": -1.0}, "scale >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Swag(**changes)
    few = Swag(epochs=2, rank=2, batch_size=30)
    with pytest.raises(ValueError, match="got none"):
        few.fit(KEY, Linear(), start, [])
    with pytest.raises(ValueError, match="batch_size <= 9 examples to fit, got batch_size=30"):
        few.fit(KEY, Linear(), start, [batch_of(9)])
    with pytest.raises(ValueError, match="collects_per_epoch <= 1 steps"):
        dataclasses.replace(few, collects_per_epoch=2).fit(KEY, Linear(), start, [batch_of(30)])
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        dataclasses.replace(few, learning_rate=1e38).fit(KEY, Linear(), start, [batch_of(30)])
