"""Random filters on feature maps: what they are, where they act, and that nothing is left of them in evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from robust_jax import config, models
from robust_jax.models.frequency_dropout import KINDS, FrequencyDropout, FrequencyDropped

KEY = jax.random.key(0)
NETWORK = models.ResNet(stage_sizes=(1,), width=4)
MAPS = jax.random.normal(jax.random.key(1), (2, 9, 8, 6))


def test_each_channel_is_filtered_by_its_own_kernel():
    dropout = FrequencyDropout(rate=0.5, size=5)
    kernels = np.asarray(dropout.kernels(KEY, 6))
    assert kernels.shape == (5, 5, 6)
    filtered = jax.jit(dropout.filter_maps)(KEY, MAPS)
    for channel in range(6):
        for example in range(2):
            plane = np.asarray(MAPS)[example, ..., channel]
            expected = ndimage.correlate(plane, kernels[..., channel], mode="constant")
            np.testing.assert_allclose(filtered[example, ..., channel], expected, atol=1e-5)


@pytest.mark.parametrize(("name", "share"), [("gaussian", 0.6), ("laplacian", 0.5), ("gabor", 0.2)])
def test_kernels_are_the_published_ones(name, share):
    """As many as published are filters, each by the published formula for some σ of the range."""
    kernels = np.moveaxis(np.asarray(FrequencyDropout(kinds=(name,)).kernels(KEY, 2000)), -1, 0)
    identity = np.outer([0, 1, 0], [0, 1, 0])
    # A Gaussian of 0.2 pixels is all but the identity, but for its rounding.
    filtered = kernels[~(kernels == identity[None]).all(axis=(1, 2))]
    assert stats.binomtest(len(filtered), 2000, share).pvalue > 1e-3
    y, x = np.mgrid[-1:2, -1:2]
    low, high = {"gaussian": (0.2, 1), "laplacian": (0.2, 3), "gabor": (1e-3, 1)}[name]
    sigmas = np.linspace(low, high, 4001)[:, None, None]
    decay = np.exp(-(x**2 + (y**2 if name != "gabor" else 0)) / (2 * sigmas**2))
    expected = {
        "gaussian": decay / decay.sum(axis=(1, 2), keepdims=True),
        "laplacian": (1 - (x**2 + y**2) / (2 * sigmas**2)) * decay,
        "gabor": decay * np.cos(2 * np.pi * x / 3),
    }[name]
    if name == "laplacian":
        expected /= expected.sum(axis=(1, 2), keepdims=True)
    nearest = [np.abs(expected - one).max(axis=(1, 2)) for one in filtered[:200]]
    assert max(distance.min() for distance in nearest) < 0.02
    found = np.array([sigmas.ravel()[distance.argmin()] for distance in nearest])
    assert stats.kstest(found, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_a_layer_draws_one_kind():
    kinds = set()
    for seed in range(12):
        kernels = np.moveaxis(np.asarray(FrequencyDropout(rate=1.0).kernels(jax.random.key(seed), 50)), -1, 0)
        gabor = not np.allclose(kernels, kernels.swapaxes(1, 2), atol=1e-6)
        negative = kernels.min(axis=(1, 2)) < -1e-6
        kinds.add("gabor" if gabor else "laplacian" if negative.any() else "gaussian")
        assert gabor or not negative.any() or negative.mean() > 0.1
    assert kinds == set(KINDS)


def test_larger_laplacians_are_bounded():
    kernels = FrequencyDropout(rate=1.0, size=7, kinds=("laplacian",)).kernels(KEY, 500)
    assert jnp.abs(kernels).max() <= 10.001


@pytest.mark.long
def test_network_is_itself_in_evaluation_and_random_in_training():
    model = FrequencyDropped(NETWORK, FrequencyDropout(rate=1.0))
    wrapped, alone = (models.init(m, KEY, (8, 8, 3)) for m in (model, NETWORK))
    assert jax.tree.structure(wrapped) == jax.tree.structure(alone)
    images = jax.random.uniform(KEY, (4, 8, 8, 3))
    params, state = alone
    logits = [models.predictor(m, {"params": params, **state})(images) for m in (model, NETWORK)]
    np.testing.assert_array_equal(*logits)
    forward = models.forward_fn(model, state)
    first, second, other = (forward(params, images, key=jax.random.key(seed))[0].prediction for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other, atol=1e-4)
    plain = models.forward_fn(NETWORK, state)(params, images)[0].prediction
    assert not np.allclose(first, plain, atol=1e-4)
    without = models.forward_fn(FrequencyDropped(NETWORK, FrequencyDropout(rate=0.0)), state)
    np.testing.assert_allclose(without(params, images, key=KEY)[0].prediction, plain, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="expected a key"):
        forward(params, images)
    gradient = jax.grad(lambda p: jnp.sum(forward(p, images, key=KEY)[0].prediction ** 2))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert config.from_json(config.to_json(model)) == model


def test_layer_is_the_identity_outside_training():
    layer = FrequencyDropout(rate=1.0)
    np.testing.assert_array_equal(layer.apply({}, MAPS), MAPS)
    dropped = layer.apply({}, MAPS, train=True, rngs={"dropout": KEY})
    assert not np.allclose(dropped, MAPS, atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"rate": 1.5}, "rate"), ({"size": 4}, "odd size"), ({"kinds": ("gausian",)}, "Did you mean 'gaussian'")],
)
def test_bad_input(fields, message):
    with pytest.raises(ValueError, match=message):
        FrequencyDropout(**fields)
