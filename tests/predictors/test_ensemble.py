"""Ensembles: one member is the model, several are the mean of their probabilities, and they pass where networks do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import models
from robust_jax.posteriors import Laplace, RandomWeights
from robust_jax.predictors import Mixture, ensemble
from robust_jax.types import Batch

KEY = jax.random.key(0)
NETWORK = models.ResNet(stage_sizes=(1,), width=4, num_classes=3)
IMAGES = jax.random.uniform(jax.random.key(1), (5, 8, 8, 3))
every_map = pytest.mark.parametrize("member_map", ["auto", "vmap", "map"])


def member(seed):
    params, state = models.init(NETWORK, jax.random.key(seed), (8, 8, 3))
    params["head"]["kernel"] = jax.random.normal(jax.random.key(seed), params["head"]["kernel"].shape)
    return models.predictor(NETWORK, {"params": params, **state})


@pytest.fixture(scope="module")
def members():
    return [member(seed) for seed in range(3)]


def test_one_member_is_the_model(members):
    one = ensemble(members[:1])
    run = jax.jit(lambda f, x: f(x))
    np.testing.assert_array_equal(run(one, IMAGES), jax.nn.log_softmax(run(members[0], IMAGES)))
    np.testing.assert_array_equal(one.members(IMAGES)[0], run(members[0], IMAGES))


@every_map
def test_probabilities_are_averaged(members, member_map):
    several = ensemble(members, member_map=member_map)
    assert several.num_members == 3
    alone = np.stack([one(IMAGES) for one in members])
    np.testing.assert_allclose(several.members(IMAGES), alone, atol=1e-5)
    expected = jax.nn.softmax(alone).mean(axis=0)
    logits = several(IMAGES)
    np.testing.assert_allclose(jnp.exp(logits), expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(several, IMAGES), logits, atol=1e-5)


def test_a_stack_of_ensembles_is_one_more_axis(members):
    first, second = ensemble(members), ensemble(members[::-1])
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    logits = jax.vmap(lambda f: f(IMAGES))(both)
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
    np.testing.assert_allclose(logits[0], first(IMAGES), atol=1e-5)


def test_new_weights_do_not_compile_anew(members):
    traces = []

    @jax.jit
    def run(predictor, images):
        traces.append(1)
        return predictor(images)

    run(ensemble(members), IMAGES)
    run(ensemble(members[::-1]), IMAGES)
    assert len(traces) == 1


@pytest.mark.long
def test_unlike_members_are_a_mixture(members):
    """Another network, a function that is no pytree, and subnetworks of one network, which differ by block."""
    mlp = models.Mlp(widths=(5,), num_classes=3)
    params, _ = models.init(mlp, KEY, (8, 8, 3))
    posterior = Laplace(RandomWeights(20), "full", 1.0)
    batch = Batch(IMAGES, jnp.arange(5) % 3, jnp.ones(5, bool), jnp.arange(5))
    subnetworks = [posterior.fit(jax.random.key(i), NETWORK, members[0].variables, [batch]) for i in range(2)]
    unlike = [
        members[0],
        models.predictor(mlp, {"params": params}),
        lambda images: images.sum(axis=(1, 2)),
        *subnetworks,
    ]
    mixture = ensemble(unlike)
    assert isinstance(mixture, Mixture)
    assert mixture.num_members == 5
    alone = np.stack([one(IMAGES) for one in unlike])
    np.testing.assert_allclose(mixture.members(IMAGES), alone, atol=1e-5)
    found = jax.jit(lambda f, x: f(x))(mixture, IMAGES)
    np.testing.assert_allclose(jnp.exp(found), jax.nn.softmax(alone).mean(axis=0), atol=1e-5)


def test_gradients_are_finite(members):
    gradient = jax.grad(lambda x: ensemble(members)(x)[:, 0].sum())(IMAGES)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0


def test_bad_input(members):
    with pytest.raises(ValueError, match="at least one member"):
        ensemble([])
    other = NETWORK.clone(num_classes=4)
    params, state = models.init(other, KEY, (8, 8, 3))
    with pytest.raises(ValueError, match=r"equal numbers of classes, got \[3, 4\]"):
        ensemble([members[0], models.predictor(other, {"params": params, **state})])(IMAGES)
    with pytest.raises(ValueError, match="Did you mean 'vmap'"):
        ensemble(members, member_map="vmapp")
