"""Ensembles: one member is the model, several are the mean of their probabilities, and they pass where networks do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import models
from robust_jax.posteriors import ensemble

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
    np.testing.assert_array_equal(run(one.logits_fn(), IMAGES), jax.nn.log_softmax(run(members[0], IMAGES)))
    np.testing.assert_array_equal(one.member_logits(IMAGES)[0], run(members[0], IMAGES))


@every_map
def test_probabilities_are_averaged(members, member_map):
    several = ensemble(members, member_map=member_map)
    assert several.num_members == 3
    alone = np.stack([one(IMAGES) for one in members])
    np.testing.assert_allclose(several.member_logits(IMAGES), alone, atol=1e-5)
    expected = jax.nn.softmax(alone).mean(axis=0)
    logits = several.logits_fn()(IMAGES)
    np.testing.assert_allclose(jnp.exp(logits), expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(several.logits_fn(), IMAGES), logits, atol=1e-5)


def test_a_stack_of_ensembles_is_one_more_axis(members):
    first, second = ensemble(members), ensemble(members[::-1])
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    logits = jax.vmap(lambda e: e.logits_fn()(IMAGES))(both)
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
    np.testing.assert_allclose(logits[0], first.logits_fn()(IMAGES), atol=1e-5)


def test_new_weights_do_not_compile_anew(members):
    traces = []

    @jax.jit
    def run(logits_fn, images):
        traces.append(1)
        return logits_fn(images)

    run(ensemble(members).logits_fn(), IMAGES)
    run(ensemble(members[::-1]).logits_fn(), IMAGES)
    assert len(traces) == 1


def test_gradients_are_finite(members):
    gradient = jax.grad(lambda x: ensemble(members).logits_fn()(x)[:, 0].sum())(IMAGES)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0


def test_bad_input(members):
    with pytest.raises(ValueError, match="one member or more"):
        ensemble([])
    with pytest.raises(ValueError, match="another kind at 1"):
        ensemble([members[0], models.predictor(NETWORK.clone(num_classes=4), members[0].args[0])])
    with pytest.raises(ValueError, match="Did you mean 'vmap'"):
        ensemble(members, member_map="vmapp")
