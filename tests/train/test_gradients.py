"""Gradients of a training step, against closed forms and loops over the examples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from objective_values import START

from robust_jax import config, data, models, train
from robust_jax.objectives import CrossEntropy, mean_loss, plain_loss
from robust_jax.types import Batch, Output, Params

KEY = jax.random.key(0)
GRADIENTS = {
    "mean": train.Mean(),
    "per_example": train.PerExampleClipped(clip=0.3),
    "sharpness": train.Sharpness(rho=0.1),
    "weight_perturbed": train.WeightPerturbed(gamma=0.1),
}
NEUTRAL = {
    "per_example": train.PerExampleClipped(clip=1e9),
    "sharpness": train.Sharpness(rho=0.0),
    "weight_perturbed": train.WeightPerturbed(gamma=0.0),
}


def linear_forward(params, images, *, key=None, train=True, interceptors=()):
    flat = images.reshape(len(images), -1)
    return Output(flat @ params.network["kernel"] + params.network["bias"][None], flat), {}


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(KEY, 3)
    images = jax.random.uniform(keys[0], (12, 2, 3, 1))
    labels = jax.random.randint(keys[1], (12,), 0, 5)
    network = {"kernel": jax.random.normal(keys[2], (6, 5)), "bias": jnp.linspace(-1, 1, 5)}
    return Params(network, ()), Batch(images, labels, jnp.arange(12) < 10, jnp.arange(12))


def loss_fn(params, batch):
    return CrossEntropy()(KEY, linear_forward, params, batch, (), START)


def assert_close(found, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


@pytest.mark.parametrize("name", GRADIENTS)
def test_contract(problem, name):
    """Compiled as eager, the loss is that of the weights as they are, padding has no part, and it is a component."""
    gradient = GRADIENTS[name]
    params, batch = problem
    found, loss = gradient(KEY, loss_fn, params, batch, START)
    compiled, _ = jax.jit(lambda p, b: gradient(KEY, loss_fn, p, b, START))(params, batch)
    assert_close(compiled, found, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean_loss(loss, batch.mask), mean_loss(loss_fn(params, batch), batch.mask), rtol=1e-5)
    other = batch._replace(image=jnp.where(batch.mask[:, None, None, None], batch.image, 0.5))
    assert_close(gradient(KEY, loss_fn, params, other, START)[0], found, rtol=1e-5, atol=1e-6)
    experiment = train.Experiment(data=data.Digits(), model=models.Mlp(), gradient=gradient)
    assert config.from_json(config.to_json(experiment)) == experiment


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_settings_are_the_mean(problem, name):
    params, batch = problem
    expected, _ = train.Mean()(KEY, loss_fn, params, batch, START)
    assert_close(NEUTRAL[name](KEY, loss_fn, params, batch, START)[0], expected, rtol=1e-5, atol=1e-6)


def test_examples_are_clipped_one_by_one(problem):
    params, batch = problem
    gradients = []
    for i in range(10):
        one = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], batch)
        gradients.append(jax.grad(lambda p, one=one: mean_loss(loss_fn(p, one), one.mask))(params))
    norms = [np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient))) for gradient in gradients]
    clip = float(np.median(norms))
    factors = [min(1, clip / norm) / 10 for norm in norms]
    expected = jax.tree.map(lambda *leaves: sum(f * leaf for f, leaf in zip(factors, leaves, strict=True)), *gradients)
    for microbatch in (None, 4):
        found, loss = train.PerExampleClipped(clip=clip, microbatch=microbatch)(KEY, loss_fn, params, batch, START)
        assert_close(found, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(loss.metrics["clipped_fraction"], 0.5, rtol=1e-6)


def test_copies_of_an_example_are_clipped_together(problem):
    params, batch = problem
    copied = jax.tree.map(lambda leaf: jnp.repeat(leaf, 3, axis=0), batch)
    found, _ = train.PerExampleClipped(clip=0.9, augmentations=3)(KEY, loss_fn, params, copied, START)
    expected, _ = train.PerExampleClipped(clip=0.9)(KEY, loss_fn, params, batch, START)
    assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_noise_is_normal_with_the_stated_deviation(problem):
    params, batch = problem
    plain, _ = train.PerExampleClipped(clip=0.3)(KEY, loss_fn, params, batch, START)
    noisy = jax.jit(lambda key: train.PerExampleClipped(clip=0.3, noise=2.0)(key, loss_fn, params, batch, START)[0])
    draws = [noisy(jax.random.key(seed)) for seed in range(40)]
    leaves = [jax.tree.leaves(jax.tree.map(lambda a, b: (a - b) * 10 / (2 * 0.3), draw, plain)) for draw in draws]
    values = np.concatenate([np.ravel(leaf) for draw in leaves for leaf in draw])
    assert scipy.stats.kstest(values, "norm").pvalue > 1e-3


@dataclasses.dataclass
class Quadratic:
    scale: float = 1.0

    def __call__(self, params, batch):
        total = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params.network))
        return plain_loss(0.5 * self.scale * total * jnp.ones(len(batch.mask)), {}, (), {})


def test_sharpness_of_a_quadratic(problem):
    """The gradient at w + rho w / |w| of half the squared norm is that point."""
    params, batch = problem
    norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(params.network)))
    found, _ = train.Sharpness(rho=0.7)(KEY, Quadratic(), params, batch, START)
    assert_close(found.network, jax.tree.map(lambda leaf: leaf * (1 + 0.7 / norm), params.network), rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_weights_are_perturbed_relative_to_each_matrix(problem, scale):
    """The perturbation of half the squared norm is gamma w, for matrices alone and whatever the scale of the loss."""
    params, batch = problem
    found, _ = train.WeightPerturbed(gamma=0.2)(KEY, Quadratic(scale), params, batch, START)
    np.testing.assert_allclose(found.network["kernel"], 1.2 * scale * params.network["kernel"], rtol=1e-5)
    np.testing.assert_allclose(found.network["bias"], scale * params.network["bias"], rtol=1e-5)
    later = train.WeightPerturbed(gamma=0.2, start=0.5)
    early, _ = later(KEY, Quadratic(scale), params, batch, START._replace(progress=jnp.float32(0.4)))
    np.testing.assert_allclose(early.network["kernel"], scale * params.network["kernel"], rtol=1e-5)


def test_bad_values(problem):
    with pytest.raises(ValueError, match="clip > 0"):
        train.PerExampleClipped(clip=0.0)
    with pytest.raises(ValueError, match="rho >= 0"):
        train.Sharpness(rho=-1.0)
    params, batch = problem
    with pytest.raises(ValueError, match="microbatch to divide the 12 examples"):
        train.PerExampleClipped(microbatch=5)(KEY, loss_fn, params, batch, START)
    network = models.ResNet(stage_sizes=(1,), width=4)
    experiment = train.Experiment(data=data.Digits(), model=network, gradient=train.PerExampleClipped())
    with pytest.raises(ValueError, match="replace batch norm by group norm"):
        train.fit(experiment)
