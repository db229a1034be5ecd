"""EAD against algorithm 1 of its paper in NumPy, and distances in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest
from attacks.test_carlini_wagner import margin_and_gradient, search_over_constants
from attacks.test_deepfool import images_of, keys_of, linear, linear_problem, network

from robust_jax import attacks
from robust_jax.attacks.minimum_norm.penalty_search import PROGRESS

pytestmark = pytest.mark.long

SMALL = {"searches": 6, "steps": 60, "learning_rate": 0.05, "first_constant": 1e-2}


def algorithm_1(image, label, rule, beta, confidence, steps, learning_rate, **search):
    """In double precision; the L1 norm of what the rule chooses."""
    chosen = [np.inf, np.inf]

    def descend(constant):
        x = y = image
        found, last = np.inf, np.inf
        for k in range(steps):
            value, slope = margin_and_gradient(y, label, None)
            g = 2 * (y - image) - constant * (value < confidence) * slope
            z = y - learning_rate * np.sqrt(1 - k / steps) * g
            moved = np.where(z > image, np.minimum(z - beta, 1), np.maximum(z + beta, 0))
            x, before = np.where(np.abs(z - image) > beta, moved, image), x
            y = x + k / (k + 3) * (x - before)
            value, _ = margin_and_gradient(x, label, None)
            l1, l2 = np.abs(x - image).sum(), ((x - image) ** 2).sum()
            distance = l1 if rule == "L1" else beta * l1 + l2
            if value > 0 and value >= confidence:
                found = min(found, distance)
                chosen[:] = min(chosen, [distance, l1])
            loss = constant * max(confidence - value, 0) + l2 + beta * l1
            if k % (steps // 10) == 0:
                if loss > PROGRESS * last:
                    break
                last = loss
        return found

    search_over_constants(descend, **search)
    return chosen[1]


@pytest.mark.parametrize("rule", ["EN", "L1"])
@pytest.mark.parametrize(("beta", "confidence"), [(1e-3, 0.0), (1e-2, 0.0), (1e-2, 0.5)])
def test_algorithm_1(rule, beta, confidence):
    images = images_of(12, 1.0)
    labels = jnp.argmax(network(images), axis=1)
    attack = attacks.EAD(rule=rule, beta=beta, confidence=confidence, **SMALL)
    found = attack.run(keys_of(images), network, images, labels)
    expected = [
        algorithm_1(np.asarray(image, float).ravel(), label, rule, beta, confidence, **SMALL)
        for image, label in zip(images, np.asarray(labels), strict=True)
    ]
    assert found.success.all()
    np.testing.assert_allclose(found.norm, expected, rtol=5e-3)


def test_closed_form_on_a_linear_model():
    """With a large weight on the L1 norm, near the L1 distance to the boundary: one entry, of the largest weight."""
    images, labels, distances = linear_problem(np.inf)
    attack = attacks.EAD(rule="L1", beta=3e-2, steps=400, first_constant=1e-3)
    found = attack.run(keys_of(images), linear, images, labels)
    assert found.success.all()
    assert (found.norm >= distances.min(axis=1) * (1 - 1e-5)).all()
    assert np.median(found.norm / distances.min(axis=1)) < 1.1
    dense = attacks.CarliniWagnerL2(steps=100, first_constant=1e-3).run(keys_of(images), linear, images, labels)
    changed = jnp.sum(jnp.abs(found.images - images) > 1e-6, axis=(1, 2, 3))
    assert (changed <= 12).all()
    assert (found.norm < jnp.sum(jnp.abs(dense.images - images), axis=(1, 2, 3))).all()


def test_perturbations_larger_than_eps_do_not_count():
    """Under EN, that of the least elastic net may have the larger L1 norm."""
    images = images_of(12, 1.0)
    labels = jnp.argmax(network(images), axis=1)
    attack = attacks.EAD(beta=1e-4, **SMALL)
    free = attack.run(keys_of(images), network, images, labels)
    bound = attack.run(keys_of(images), network, images, labels, eps=0.98 * free.norm)
    assert (bound.norm <= 0.98 * free.norm).all()
    assert bound.success.mean() > 0, "another image of the walk is within"
    np.testing.assert_array_equal(bound.success, jnp.argmax(network(bound.images), axis=1) != labels)


@pytest.mark.parametrize("field", [{"rule": "L2"}, {"beta": -1.0}, {"steps": 0}, {"first_constant": 0.0}])
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.EAD(**field)
