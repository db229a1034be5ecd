"""What attacks on decisions share, and that all attacks without gradients count the evaluations they make."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.test_attacks import convolutional, problem

from robust_jax import attacks, predictors
from robust_jax.attacks.black_box.decision_search import decide, random_start, step_over, to_boundary
from robust_jax.attacks.minimum_norm.base import Nearest
from robust_jax.attacks.threats import THREATS

pytestmark = pytest.mark.long


@jax.tree_util.Partial
def bright(images):
    """Class 1 above a mean of 0.7."""
    return jnp.stack([jnp.full(len(images), 0.7), jnp.mean(images, axis=(1, 2, 3))], axis=1)


def dark_problem(size=6):
    keys = jax.random.split(jax.random.key(1), size)
    images = jnp.asarray(0.2 + 0.2 * np.random.default_rng(0).random((size, 8, 7, 3)), jnp.float32)
    return attacks.Problem(keys, images, jnp.zeros(size, jnp.int32), jnp.full(size, jnp.inf), None)


def test_starts_are_adversarial_and_counted():
    """Noise of single pixels is never as bright as large squares may be."""
    problem = dark_problem(64)
    none = jnp.zeros(64, bool)
    start = jax.jit(random_start)
    images, found, queries = start(bright, problem, none, 40)
    assert 0.8 < found.mean() < 1
    np.testing.assert_array_equal(decide(bright, problem, 0, images), found)
    assert ((images >= 0) & (images < 1)).all()
    assert (queries[~found] == 40).all()
    assert (queries[found] >= 2).all()
    for tries in (int(queries[0]) - 1, int(queries[0])):
        assert bool(start(bright, problem, none, tries)[1][0]) == (tries == int(queries[0]))


def test_starts_of_misclassified_images_are_themselves():
    problem = dark_problem()
    images, found, queries = random_start(bright, problem, jnp.ones(6, bool), 40)
    np.testing.assert_array_equal(images, problem.images)
    assert found.all()
    assert (queries == 0).all()


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_bisection_ends_at_the_boundary(norm):
    problem = dark_problem()
    ends = jnp.ones_like(problem.images)
    found = to_boundary(bright, problem, ends, norm, 16)
    assert decide(bright, problem, 0, found).all()
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), 0.7, atol=2e-5)
    if norm == "L2":
        share = (found - problem.images) / (ends - problem.images)
        np.testing.assert_allclose(share, jnp.broadcast_to(share[:, :1, :1, :1], share.shape), rtol=1e-5)
    else:
        change = found - problem.images
        reach = change.max(axis=(1, 2, 3), keepdims=True)
        np.testing.assert_allclose(change, jnp.minimum(ends - problem.images, reach), rtol=1e-5)
    crude = to_boundary(bright, problem, ends, norm, 1)
    assert (crude.mean(axis=(1, 2, 3)) > 0.7).all(), "one halving does not reach it, so the end stays"


def test_results_lie_over_the_boundary_within_eps():
    problem = dark_problem()
    right_on = to_boundary(bright, problem, jnp.ones_like(problem.images), "L2", 24)
    norm = jax.vmap(THREATS["L2"].norm)(right_on - problem.images)
    nearest = Nearest(right_on, norm)
    over = step_over(bright, problem, nearest, THREATS["L2"])
    np.testing.assert_allclose(over.norm, 1.0001 * norm, rtol=1e-5)
    assert (over.images.mean(axis=(1, 2, 3)) > 0.70001).all()
    within = step_over(bright, problem._replace(eps=1.00001 * norm), nearest, THREATS["L2"])
    np.testing.assert_array_equal(within.images, right_on)


QUERYING = {
    "spsa": attacks.SPSA(eps=0.004, steps=3, samples=6),
    "one pixel": attacks.OnePixel(population=12, generations=3),
    "hop skip jump": attacks.HopSkipJump(steps=1, initial_samples=40),
    "boundary": attacks.BoundaryAttack(steps=25),
}


@pytest.mark.parametrize("attack", QUERYING.values(), ids=QUERYING)
def test_queries_are_the_evaluations_made(attack):
    """Of one image alone; the loss that minimum-norm attacks report adds one."""
    keys, images, labels = problem()
    evaluated = []

    @jax.tree_util.Partial
    def counting(images):
        jax.debug.callback(lambda value: evaluated.append(value), images[0, 0, 0, 0])
        return convolutional(images)

    for row in (0, 5):
        evaluated.clear()
        alone = slice(row, row + 1)
        one = attacks.Problem(keys[alone], images[alone], labels[alone], jnp.full(1, attack.eps), None)
        result = attack.solve(counting, one)
        jax.effects_barrier()
        if row == 5:
            assert int(result.queries[0]) == 1, "it was misclassified as it is"
        else:
            assert len(evaluated) == int(result.queries[0]) + isinstance(attack, attacks.MinimumNorm)
        assert int(result.gradients[0]) == 0


DECISIONS = {
    "hop skip jump": attacks.HopSkipJump(steps=3, initial_samples=40, start_tries=5),
    "boundary": attacks.BoundaryAttack(steps=50, start_tries=5),
}
on_decisions = pytest.mark.parametrize("attack", DECISIONS.values(), ids=DECISIONS)


@functools.cache
def whole_result(attack):
    keys, images, labels = problem()
    return attack.run(keys, convolutional, images, labels)


@on_decisions
def test_without_a_start_it_fails(attack):
    keys, images, labels = problem()
    constant = lambda images: jnp.full((len(images), 5), 2.0).at[:, 0].set(3.0)  # noqa: E731
    # The radius is infinite, and still there is nothing within it.
    result = attack.run(keys, constant, images, jnp.zeros_like(labels))
    assert not result.success.any()
    np.testing.assert_array_equal(result.images, images)
    np.testing.assert_array_equal(result.queries, 6)
    assert (result.norm == 0).all()


@on_decisions
def test_reads_nothing_but_decisions(attack):
    keys, images, labels = problem()
    decisions = lambda images: jax.nn.one_hot(jnp.argmax(convolutional(images), axis=1), 5) * 2  # noqa: E731
    result = attack.run(keys, decisions, images, labels)
    np.testing.assert_allclose(result.norm, whole_result(attack).norm, rtol=0.02)
    np.testing.assert_array_equal(result.success, whole_result(attack).success)


@on_decisions
def test_early_stop_is_within_eps_and_sooner(attack):
    keys, images, labels = problem()
    whole = whole_result(attack)
    eps = 1.5 * whole.norm
    stopping = dataclasses.replace(attack, early_stop=True)
    stopped = stopping.run(keys, convolutional, images, labels, eps=eps)
    assert stopped.success.all()
    assert (stopped.norm <= eps).all()
    assert stopped.queries.sum() < whole.queries.sum()


@on_decisions
def test_randomised_classifiers(attack):
    def noisy(keys, images):
        noise = jax.vmap(lambda key: jax.random.normal(key, (5,)))(keys)
        return convolutional(images) + 0.01 * noise

    keys, images, labels = problem()
    result = attack.run(keys, predictors.Randomised(noisy), images, labels)
    assert result.success.all()
    assert (result.norm[:-1] > 0).all()
