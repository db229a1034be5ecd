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
    dropout = FrequencyDropout(rate=0.5)
    kernels = np.asarray(dropout.kernels(KEY, 6))
    assert kernels.shape == (5, 5, 6)
    filtered = jax.jit(dropout.filter_maps)(KEY, MAPS)
    for channel in range(6):
        for example in range(2):
            plane = np.asarray(MAPS)[example, ..., channel]
            expected = ndimage.correlate(plane, kernels[..., channel], mode="constant")
            np.testing.assert_allclose(filtered[example, ..., channel], expected, atol=1e-5)


def test_kernels_are_drawn_with_their_chances():
    identity = np.zeros((5, 5))
    identity[2, 2] = 1
    kernels = np.moveaxis(np.asarray(FrequencyDropout(rate=0.3).kernels(KEY, 3000)), -1, 0)
    dropped = ~np.isclose(kernels, identity).all(axis=(1, 2))
    assert stats.binomtest(int(dropped.sum()), 3000, 0.3).pvalue > 1e-3
    np.testing.assert_allclose(np.abs(kernels).sum(axis=(1, 2)), 1, atol=1e-5)
    # Gaussians alone have no negative weights; of the others, all but the widest have some.
    positive = (kernels[dropped] > 0).all(axis=(1, 2)).mean()
    assert 1 / 3 - 0.05 < positive < 0.75


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind):
    kernels = np.moveaxis(np.asarray(FrequencyDropout(rate=1.0, kinds=(kind,)).kernels(KEY, 200)), -1, 0)
    np.testing.assert_allclose(kernels, kernels[:, ::-1, ::-1], atol=1e-6)
    assert (kernels[:, 2, 2] == kernels.max(axis=(1, 2))).all()
    if kind == "gabor":
        assert not np.allclose(kernels, kernels[:, ::-1], atol=1e-3)
    else:
        np.testing.assert_allclose(kernels, kernels.swapaxes(1, 2), atol=1e-6)
    assert (kernels.min() >= 0) == (kind == "gaussian")


def test_network_is_itself_in_evaluation_and_random_in_training():
    model = FrequencyDropped(NETWORK, FrequencyDropout(rate=1.0))
    wrapped, alone = (models.init(m, KEY, (8, 8, 3)) for m in (model, NETWORK))
    assert jax.tree.structure(wrapped) == jax.tree.structure(alone)
    images = jax.random.uniform(KEY, (4, 8, 8, 3))
    params, state = alone
    logits = [models.predictor(m, {"params": params, **state})(images) for m in (model, NETWORK)]
    np.testing.assert_array_equal(*logits)
    forward = models.forward_fn(model, state)
    first, second, other = (forward(params, images, key=jax.random.key(seed))[0].logits for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other, atol=1e-4)
    plain = models.forward_fn(NETWORK, state)(params, images)[0].logits
    assert not np.allclose(first, plain, atol=1e-4)
    without = models.forward_fn(FrequencyDropped(NETWORK, FrequencyDropout(rate=0.0)), state)
    np.testing.assert_allclose(without(params, images, key=KEY)[0].logits, plain, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="expected a key"):
        forward(params, images)
    gradient = jax.grad(lambda p: jnp.sum(forward(p, images, key=KEY)[0].logits ** 2))(params)
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
