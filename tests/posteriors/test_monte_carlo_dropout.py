"""Monte-Carlo dropout: masks by hand, one of them for all images of a draw, and the rest in evaluation mode."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from robust_jax import config, metrics, models
from robust_jax.mathematics.mixtures import mixture_logits
from robust_jax.models.layers import Dropout
from robust_jax.posteriors import MonteCarloDropout
from robust_jax.predictors import ensemble
from robust_jax.types import Batch, Output

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
SHAPE = (8, 8, 3)
IMAGES = jax.random.uniform(jax.random.key(1), (5, *SHAPE))
BATCH = Batch(IMAGES, jnp.zeros(5, jnp.int32), jnp.ones(5, bool), jnp.arange(5))
NETWORKS = {
    "resnet": models.ResNet(stage_sizes=(1,), width=8, dropout=0.3),
    "preact": models.ResNet(stage_sizes=(1,), width=4, block="bottleneck", variant="preact", dropout=0.3),
    "wide_resnet": models.WideResNet(depth=10, width=1, dropout=0.3),
    "vit": models.ViT(width=16, depth=1, heads=2, dropout=0.3, stochastic_depth=0.5),
    "last_layer": models.ResNet(stage_sizes=(1,), width=8, head_dropout=0.3),
    "wide_last_layer": models.WideResNet(depth=10, width=1, head_dropout=0.3),
}


def posterior_of(name, num_samples=3, **fields):
    network = NETWORKS[name]
    params, state = models.init(network, KEY, SHAPE)
    # Far from where a single batch would put them, so that batch statistics would show.
    state = jax.tree.map(lambda leaf: leaf - 0.5, state)
    return MonteCarloDropout(num_samples, **fields).fit(None, network, {"params": params, **state}, [BATCH])


@pytest.mark.parametrize("name", NETWORKS)
def test_draws_differ_and_a_prediction_depends_on_its_image_alone(name):
    posterior = posterior_of(name)
    run = jax.jit(lambda f, x: f(x))
    whole = posterior.bind(KEY).members(IMAGES)
    assert whole.shape == (3, 5, 10)
    assert jnp.abs(whole[0] - whole[1]).max() > 1e-3
    predictor = posterior.bind(KEY)
    logits = run(predictor, IMAGES)
    np.testing.assert_allclose(jnp.exp(logits), special.softmax(whole, axis=-1).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(run(predictor, IMAGES[3:4]), logits[3:4], atol=1e-5)
    np.testing.assert_allclose(run(predictor, IMAGES[::-1]), logits[::-1], atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda f, x: f.members(x))(predictor, IMAGES), whole, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class TwoUnits:
    """A linear classifier of two features, each dropped with a chance of 0.25."""

    def apply(self, variables, images, *, train, rngs):
        dropped = Dropout(0.25).apply({}, images[:, 0, 0], train=train, rngs=rngs)
        return Output(dropped @ variables["params"], dropped)


def test_many_draws_are_the_mean_over_all_masks():
    weights = jnp.asarray([[2.0, -1.0, 0.0], [0.5, 1.0, -2.0]])
    images = jax.random.normal(KEY, (4, 1, 1, 2))
    batch = Batch(images, jnp.zeros(4, jnp.int32), jnp.ones(4, bool), jnp.arange(4))
    posterior = MonteCarloDropout(20_000, sample_map="vmap").fit(None, TwoUnits(), {"params": weights}, [batch])
    expected = 0
    for first in (0, 1):
        for second in (0, 1):
            chance = (0.75 if first else 0.25) * (0.75 if second else 0.25)
            kept = np.asarray(images[:, 0, 0]) * np.array([[first, second]]) / 0.75
            expected = expected + chance * special.softmax(kept @ np.asarray(weights), axis=-1)
    np.testing.assert_allclose(jnp.exp(posterior.bind(KEY)(images)), expected, atol=0.01)


def test_last_layer_dropout_is_the_head_on_masked_features():
    posterior = posterior_of("last_layer", num_samples=4)
    output = models.predictor(posterior.model, posterior.variables).output(IMAGES)
    head = posterior.variables["params"]["head"]
    for logits in np.asarray(posterior.bind(KEY).members(IMAGES)):
        # Eight units make few masks: try them all.
        masks = (np.arange(256)[:, None] >> np.arange(8)) % 2
        tried = (output.features[None] * masks[:, None] / 0.7) @ head["kernel"] + head["bias"][None, None]
        assert np.abs(np.asarray(tried) - logits).max(axis=(1, 2)).min() < 1e-4


def test_training_masks_each_example_and_evaluation_without_a_key_none():
    layer, x = Dropout(0.4), jnp.ones((200, 50))
    np.testing.assert_array_equal(layer.apply({}, x, train=False), x)
    trained = np.asarray(layer.apply({}, x, train=True, rngs={"dropout": KEY}))
    drawn = np.asarray(layer.apply({}, x, train=False, rngs={"dropout": KEY}))
    assert len(np.unique(trained > 0, axis=0)) == 200
    assert len(np.unique(drawn > 0, axis=0)) == 1
    np.testing.assert_allclose(trained[trained > 0], 1 / 0.6, rtol=1e-6)
    # Five standard deviations.
    assert abs((trained == 0).mean() - 0.4) < 5 * np.sqrt(0.24 / trained.size)
    gradient = jax.grad(lambda x: Dropout(1.0).apply({}, x, train=True, rngs={"dropout": KEY}).sum())(x)
    assert not gradient.any()


def test_maps_agree_and_first_draws_do_not_depend_on_how_many_there_are():
    few, many = posterior_of("wide_last_layer", 2), posterior_of("wide_last_layer", 4, sample_map="vmap")
    found = many.bind(KEY).members(IMAGES)
    np.testing.assert_allclose(few.bind(KEY).members(IMAGES), found[:2], atol=1e-5)
    assert not np.allclose(many.bind(jax.random.key(7)).members(IMAGES), found, atol=1e-3)


def test_passes_where_ensembles_and_networks_do():
    posterior = posterior_of("resnet")
    both = ensemble([posterior.bind(jax.random.key(seed)) for seed in (0, 1)])
    expected = [posterior.bind(jax.random.key(seed))(IMAGES) for seed in (0, 1)]
    np.testing.assert_allclose(both(IMAGES), mixture_logits(jnp.stack(expected)), atol=1e-5)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), posterior)
    members = jax.vmap(lambda state: state.bind(KEY).members(IMAGES))(stacked)
    np.testing.assert_allclose(members[1], posterior.bind(KEY).members(IMAGES), atol=1e-5)
    assert (metrics.mutual_information(members[0]) > 0).all()
    gradient = jax.grad(lambda x: posterior.bind(KEY)(x)[:, 0].sum())(IMAGES)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0
    traces = []

    @jax.jit
    def run(f, x):
        traces.append(1)
        return f(x)

    run(posterior.bind(KEY), IMAGES)
    run(posterior_of("resnet").bind(jax.random.key(5)), IMAGES)
    assert len(traces) == 1
    assert config.from_json(config.to_json(MonteCarloDropout(5))) == MonteCarloDropout(5)


def test_bad_input():
    with pytest.raises(ValueError, match="num_samples > 0"):
        MonteCarloDropout(0)
    with pytest.raises(ValueError, match="Did you mean 'vmap'"):
        MonteCarloDropout(sample_map="vmapp")
    with pytest.raises(ValueError, match="key=None"):
        posterior_of("last_layer")(IMAGES)
    network = models.ResNet(stage_sizes=(1,), width=4)
    params, state = models.init(network, KEY, SHAPE)
    with pytest.raises(ValueError, match="Expected a network with dropout, got ResNet"):
        MonteCarloDropout().fit(None, network, {"params": params, **state}, [BATCH])
    with pytest.raises(ValueError, match="got none"):
        MonteCarloDropout().fit(None, network, {"params": params, **state}, [])
    for make in (models.ResNet, models.WideResNet):
        with pytest.raises(ValueError, match="dropout in"):
            make(dropout=1.5)
        with pytest.raises(ValueError, match="head_dropout in"):
            make(head_dropout=-0.5)
