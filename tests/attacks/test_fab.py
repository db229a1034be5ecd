"""FAB: its projections against linear programming and optimality conditions, and distances in closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.test_attacks import convolutional, problem
from scipy.optimize import linprog

from robust_jax import attacks
from robust_jax.attacks.minimum_norm.hyperplanes import to_hyperplane
from robust_jax.core.keys import example_keys

pytestmark = pytest.mark.long

SHAPE = (3, 4, 2)


def random_hyperplane(seed):
    rng = np.random.default_rng(seed)
    point = rng.random(SHAPE).astype(np.float32)
    point[0, 0] = 0, 1
    w = rng.normal(size=SHAPE).astype(np.float32)
    w[1, 1] = 0
    return point, w, np.float32(rng.normal() * 3)


def least_norm(point, w, value, order):
    """By linear programming, in terms of d and its moduli or their bound."""
    size = point.size
    flat, normal = point.ravel().astype(float), w.ravel().astype(float)
    identity = np.eye(size)
    moduli = -identity if order == 1 else -np.ones((size, 1))
    count = moduli.shape[1]
    solution = linprog(
        np.r_[np.zeros(size), np.ones(count)],
        A_ub=np.block([[identity, moduli], [-identity, moduli]]),
        b_ub=np.zeros(2 * size),
        A_eq=np.r_[normal, np.zeros(count)][None],
        b_eq=[-value],
        bounds=[*zip(-flat, 1 - flat, strict=True), *[(0, None)] * count],
    )
    return solution.fun if solution.success else None


@pytest.mark.parametrize("order", [1, math.inf])
def test_projection_is_the_linear_programme(order):
    solve = jax.jit(lambda point, w, value: to_hyperplane(point, w, value, order))
    reached = 0
    for seed in range(30):
        point, w, value = random_hyperplane(seed)
        d = np.asarray(solve(point, w, value), np.float64)
        assert (point + d >= -1e-6).all()
        assert (point + d <= 1 + 1e-6).all()
        least = least_norm(point, w, value, order)
        if least is None:
            corner = np.where(w * value > 0, 0, 1)
            np.testing.assert_allclose((point + d)[w != 0], corner[w != 0], atol=1e-6)
            continue
        reached += 1
        np.testing.assert_allclose((w * d).sum(), -value, rtol=1e-4)
        norm = np.abs(d).sum() if order == 1 else np.abs(d).max()
        np.testing.assert_allclose(norm, least, rtol=1e-4)
    assert reached > 15


def test_euclidean_projection_is_optimal():
    """Entries inside the box are in proportion to w, others are at the bound they would cross."""
    for seed in range(30):
        point, w, value = random_hyperplane(seed)
        d = np.asarray(to_hyperplane(point, w, value, 2.0), np.float64)
        moved = point + d
        inside = (moved > 1e-6) & (moved < 1 - 1e-6) & (w != 0)
        if not inside.any():
            continue
        np.testing.assert_allclose((w * d).sum(), -value, rtol=1e-4)
        scale = d[inside] / w[inside]
        np.testing.assert_allclose(scale, scale.mean(), rtol=1e-3)
        beyond = point + scale.mean() * w
        at_bound = ~inside & (w != 0)
        np.testing.assert_allclose(np.clip(beyond, 0, 1)[at_bound], moved[at_bound], atol=1e-5)


@jax.tree_util.Partial
def linear(images):
    weights = np.random.default_rng(1).normal(size=(4 * 4 * 3, 4)).astype(np.float32)
    return (images - 0.5).reshape(len(images), -1) @ jnp.asarray(weights)


def linear_distances(images, dual):
    """Distance to the nearest class boundary of a linear model, far from the box: difference over dual norm."""
    weights = np.random.default_rng(1).normal(size=(4 * 4 * 3, 4)).astype(np.float32)
    logits = np.asarray(linear(images))
    labels = logits.argmax(axis=1)
    distances = np.full(logits.shape, np.inf)
    for row, label in enumerate(labels):
        for other in set(range(4)) - {label}:
            steepness = np.linalg.norm(weights[:, label] - weights[:, other], dual)
            distances[row, other] = (logits[row, label] - logits[row, other]) / steepness
    return labels, distances.min(axis=1)


@pytest.mark.parametrize(("norm", "dual"), [("Linf", 1), ("L2", 2), ("L1", np.inf)])
@pytest.mark.parametrize("attack", [attacks.FAB, attacks.FABT])
def test_closed_form_on_a_linear_model(attack, norm, dual):
    images = jnp.asarray(0.5 + 0.02 * np.random.default_rng(0).normal(size=(16, 4, 4, 3)), jnp.float32)
    labels, expected = linear_distances(images, dual)
    settings = {"num_targets": 3} if attack is attacks.FABT else {}
    found = attack(norm=norm, eps=1e3, steps=20, **settings).run(
        example_keys(jax.random.key(0), jnp.arange(16)), linear, images, jnp.asarray(labels)
    )
    assert found.success.all()
    assert (found.norm >= expected * (1 - 1e-4)).all()
    np.testing.assert_allclose(found.norm, expected, rtol=0.01)


def test_targets_are_tried_in_order_and_counted():
    keys, images, labels = problem()
    found = attacks.FABT(num_targets=2, steps=6).run(keys, convolutional, images, labels)
    np.testing.assert_array_equal(found.gradients, 12)
    np.testing.assert_array_equal(found.queries, 26)
    both = attacks.FABT(num_targets=4, steps=6).run(keys, convolutional, images, labels)
    assert (jnp.where(both.success, both.norm, jnp.inf) <= jnp.where(found.success, found.norm, jnp.inf)).all()
    stopped = attacks.FABT(num_targets=4, steps=6, eps=0.1, early_stop=True).run(keys, convolutional, images, labels)
    np.testing.assert_array_equal(stopped.success, both.success & (both.norm <= 0.1))
    assert stopped.gradients[-1] == 0, "it was misclassified as it is"


def test_without_a_radius_the_first_success_ends_it():
    keys, images, labels = problem()
    found = attacks.FAB(eps=math.inf, steps=10, early_stop=True).run(keys, convolutional, images, labels)
    assert found.success.all()
    assert (found.gradients[:-1] > 0).all()


def test_more_targets_than_classes():
    keys, images, labels = problem()
    with pytest.raises(ValueError, match="num_targets=9 of 5"):
        attacks.FABT()(keys, convolutional, images, labels)
    with pytest.raises(ValueError, match="Expected no targets"):
        attacks.FABT(num_targets=2)(keys, convolutional, images, labels, targets=(labels + 1) % 5)


@pytest.mark.parametrize("field", [{"norm": "L0"}, {"steps": 0}, {"alpha_max": 1.5}, {"eps": -1.0}])
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.FAB(**field)
