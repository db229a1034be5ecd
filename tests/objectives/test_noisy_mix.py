"""Mixing in hidden layers: which layer, what is mixed, the noise, and its neutral settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_values import evaluate

from robust_jax import models
from robust_jax.objectives import CrossEntropy, NoisyMix
from robust_jax.types import Batch

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
NETWORK = models.ResNet(stage_sizes=(1, 1), width=4, norm="group")
LAYERS = ("stage1_block1", "stage2_block1")


def batch(num=6):
    images = jax.random.uniform(jax.random.key(1), (num, 8, 8, 3))
    return Batch(images, jnp.arange(num) % 3, jnp.ones(num, bool), jnp.arange(num))


@pytest.fixture(scope="module")
def network():
    params, state = models.init(NETWORK.clone(num_classes=3), KEY, (8, 8, 3))
    return models.forward_fn(NETWORK.clone(num_classes=3), state), params


def plain(**fields):
    """Manifold mixup."""
    return NoisyMix(additive=0.0, multiplicative=0.0, **fields)


def test_hidden_maps_pass_through_a_function(network):
    forward, params = network
    seen = {}

    def look(layer, *args, **kwargs):
        maps = layer.call(*args, **kwargs)
        if len(layer.path) != 1:
            return maps
        seen[layer.path[0]] = maps.shape
        return 0 * maps if layer.path == ("stage2_block1",) else maps

    output, _ = forward(params, batch().image, interceptors=(look,))
    assert set(LAYERS) <= set(seen)
    assert seen["stage1_block1"] == (6, 8, 8, 4)
    np.testing.assert_allclose(output.features, 0, atol=1e-6)


def test_mixup_of_the_input_is_mixup(network):
    """Recomputed from the objective's own draws."""
    forward, params = network
    given = batch()
    loss, _ = jax.jit(lambda key: evaluate(plain(), key, forward, params, given))(KEY)
    _, partner_key, share_key, *_ = jax.random.split(KEY, 6)
    partner, share = jax.random.permutation(partner_key, 6), jax.random.beta(share_key, 1.0, 1.0)
    mixed = share * given.image + (1 - share) * given.image[partner]
    labels = jax.nn.one_hot(given.label, 3)
    labels = share * labels + (1 - share) * labels[partner]
    expected, _ = evaluate(CrossEntropy(), None, forward, params, given._replace(image=mixed, label=labels))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_every_layer_is_drawn_and_mixes_there(network):
    """The loss of a key is that of mixing at one of the places, whose number the key draws."""
    forward, params = network
    given = batch()
    run = jax.jit(lambda key: evaluate(plain(layers=LAYERS), key, forward, params, given)[0])
    places = []
    for seed in range(12):
        key = jax.random.key(seed)
        _, partner_key, share_key, layer_key, *_ = jax.random.split(key, 6)
        partner, share = jax.random.permutation(partner_key, 6), jax.random.beta(share_key, 1.0, 1.0)
        place = ("input", *LAYERS)[int(jax.random.randint(layer_key, (), 0, 3))]
        places.append(place)
        at = lambda name, maps: share * maps + (1 - share) * maps[partner] if name == place else maps  # noqa: B023, E731

        def after(layer, *args, at=at, **kwargs):
            maps = layer.call(*args, **kwargs)
            return at(layer.path[0], maps) if len(layer.path) == 1 else maps

        output, _ = forward(params, at("input", given.image), interceptors=(after,))
        labels = jax.nn.one_hot(given.label, 3)
        labels = share * labels + (1 - share) * labels[partner]
        expected = -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(output.prediction), axis=-1))
        np.testing.assert_allclose(run(key), expected, rtol=1e-4)
    assert len(set(places)) == 3


def test_noise():
    def draw(objective, maps, scale=1.0):
        return np.asarray(jax.vmap(lambda key: objective.add_noise(key, maps, scale))(jax.random.split(KEY, 300)))

    # E β² of Beta(2, 5).
    square = 4 / 49 + 10 / 392
    factors = draw(NoisyMix(additive=0.0, multiplicative=0.4), jnp.ones((1, 4, 6, 6)))
    changed = factors != 1
    assert abs(changed.mean() - 0.35) < 0.01
    assert np.abs(factors - 1).max() < 0.4
    np.testing.assert_allclose(np.mean((factors[changed] - 1) ** 2), 0.16 / 3 * square, rtol=0.15)
    sums = draw(NoisyMix(multiplicative=0.0), jnp.zeros((3, 4, 6, 6)), 0.5)
    spread = np.array([np.std(view[view != 0]) for view in sums.swapaxes(0, 1)])
    np.testing.assert_allclose(spread / spread[0], [1, 2, 3], rtol=0.15)
    np.testing.assert_allclose(spread[0] ** 2, 0.0625 * square, rtol=0.2)


def test_views_and_neutral_settings(network):
    forward, params = network
    given = batch()
    identity = lambda key, image: image  # noqa: E731
    loss, aux = evaluate(plain(augmentation=identity), KEY, forward, params, given)
    alone, _ = evaluate(plain(), KEY, forward, params, given)
    np.testing.assert_allclose(aux.metrics["jensen_shannon"], 0, atol=1e-5)
    np.testing.assert_allclose(loss, alone, rtol=1e-4)
    brighter = lambda key, image: image * jax.random.uniform(key)  # noqa: E731
    loss, aux = evaluate(NoisyMix(layers=LAYERS, augmentation=brighter), KEY, forward, params, given)
    assert aux.metrics["jensen_shannon"] > 1e-6
    np.testing.assert_allclose(loss, aux.metrics["cross_entropy"] + 12 * aux.metrics["jensen_shannon"], rtol=1e-5)


@pytest.mark.parametrize(
    "fields", [{"alpha": 0.0}, {"additive": -1.0}, {"sparsity": 1.5}, {"weight": -1.0}, {"input_std": -0.1}]
)
def test_bad_input(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        NoisyMix(**fields)


def test_unknown_layer_is_named(network):
    forward, params = network
    with pytest.raises(ValueError, match="no 'stage7'"):
        evaluate(NoisyMix(layers=("stage7",)), KEY, forward, params, batch())
