"""DeepFool against algorithm 2 of its paper in NumPy, and distances in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import attacks
from robust_jax.core.keys import example_keys

pytestmark = pytest.mark.long

RNG = np.random.default_rng(3)
FIRST = RNG.normal(size=(48, 16)) / 2
SECOND = RNG.normal(size=(16, 6))
WEIGHTS = 10 * RNG.normal(size=(48, 4))
DUAL = {"L2": 2, "Linf": 1}


@jax.tree_util.Partial
def network(images):
    hidden = jnp.tanh((images.reshape(len(images), -1) - 0.5) @ jnp.asarray(FIRST, jnp.float32))
    return hidden @ jnp.asarray(SECOND, jnp.float32)


@jax.tree_util.Partial
def linear(images):
    return (images - 0.5).reshape(len(images), -1) @ jnp.asarray(WEIGHTS, jnp.float32)


def linear_problem(dual):
    """Images far from box and boundaries, their labels, and the distance to each class: difference over dual norm."""
    images = images_of(64, 0.5)
    top = np.sort(np.asarray(linear(images)), axis=1)
    images = images[np.argsort(top[:, -2] - top[:, -1])[:16]]
    logits = (np.asarray(images, float) - 0.5).reshape(16, -1) @ WEIGHTS
    labels = logits.argmax(axis=1)
    steepness = np.linalg.norm(WEIGHTS.T[labels][:, None] - WEIGHTS.T[None], dual, axis=-1)
    gaps = logits[np.arange(16), labels][:, None] - logits
    distances = np.where(gaps > 0, gaps, np.inf) / np.where(steepness > 0, steepness, 1)
    return images, jnp.asarray(labels), distances


def logits_and_jacobian(x):
    hidden = np.tanh((x - 0.5) @ FIRST)
    return hidden @ SECOND, (FIRST * (1 - hidden**2)) @ SECOND


def images_of(size, spread):
    return jnp.asarray(0.5 + spread * (np.random.default_rng(0).random((size, 4, 4, 3)) - 0.5), jnp.float32)


def keys_of(images):
    return example_keys(jax.random.key(0), jnp.arange(len(images)))


def algorithm_2(image, norm, candidates, overshoot, steps=50):
    """In double precision, with the box and the added 1e-6, and how many steps it takes."""
    logits, _ = logits_and_jacobian(image)
    ranking = np.argsort(-logits)[:candidates]
    label, x, total = ranking[0], image, np.zeros_like(image)
    for step in range(steps):
        logits, jacobian = logits_and_jacobian(x)
        if logits.argmax() != label:
            return x, step
        best = (np.inf, None)
        for k in ranking[1:]:
            w = jacobian[:, k] - jacobian[:, label]
            distance = abs(logits[k] - logits[label]) / np.linalg.norm(w, DUAL[norm])
            best = min(best, (distance, k))
        w = jacobian[:, best[1]] - jacobian[:, label]
        direction = np.sign(w) if norm == "Linf" else w / np.linalg.norm(w)
        total = total + (best[0] + 1e-6) * direction
        x = np.clip(image + (1 + overshoot) * total, 0, 1)
    return x, steps


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize("candidates", [2, 4, 10])
def test_algorithm_2(norm, candidates):
    images = images_of(20, 1.0)
    labels = jnp.argmax(network(images), axis=1)
    found = attacks.DeepFool(norm=norm, num_candidates=candidates).run(keys_of(images), network, images, labels)
    expected = [algorithm_2(np.asarray(image, float).ravel(), norm, candidates, 0.02) for image in np.asarray(images)]
    assert found.success.all()
    np.testing.assert_allclose(found.images.reshape(20, -1), [x for x, _ in expected], atol=1e-4)
    steps = np.array([step for _, step in expected])
    assert len(set(steps)) > 1, "examples stop each in its own time"
    np.testing.assert_array_equal(found.gradients, steps * (min(candidates, 6) - 1))


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_closed_form_on_a_linear_model(norm):
    images, labels, distances = linear_problem(DUAL[norm])
    expected = distances.min(axis=1)
    for overshoot, factor in ((1e-3, 1.001), (0.02, 1.02)):
        attack = attacks.DeepFool(norm=norm, overshoot=overshoot)
        found = attack.run(keys_of(images), linear, images, labels)
        assert found.success.all()
        assert (found.norm >= expected).all()
        np.testing.assert_allclose(found.norm, factor * expected, rtol=1e-3)
        np.testing.assert_array_equal(found.gradients, 3)


def test_distance_to_a_target():
    """Of a linear model towards one class; the boundaries to be crossed may be several."""
    images, labels, distances = linear_problem(2)
    targets = (labels + 1) % 4
    found = attacks.DeepFool().run(keys_of(images), linear, images, labels, targets=targets)
    assert found.success.all()
    np.testing.assert_array_equal(jnp.argmax(linear(found.images), axis=1), targets)
    assert (found.norm >= distances[np.arange(16), targets]).all()
    assert found.gradients.max() <= 3


def test_the_box_is_made_up_for():
    """Where images are black and white, clipping takes half of every step away."""
    images = jnp.round(images_of(16, 1.0))
    labels = jnp.argmax(network(images), axis=1)
    found = attacks.DeepFool().run(keys_of(images), network, images, labels)
    assert found.success.all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1


def test_eps_is_the_largest_norm_that_counts():
    images = images_of(16, 1.0)
    labels = jnp.argmax(network(images), axis=1)
    free = attacks.DeepFool().run(keys_of(images), network, images, labels)
    eps = float(jnp.median(free.norm))
    bound = attacks.DeepFool(eps=eps).run(keys_of(images), network, images, labels)
    np.testing.assert_array_equal(bound.success, free.norm <= eps)
    np.testing.assert_array_equal(bound.images[~bound.success], images[~bound.success])


@pytest.mark.parametrize(
    "field", [{"norm": "L1"}, {"steps": 0}, {"num_candidates": 1}, {"overshoot": -0.1}, {"eps": -1.0}]
)
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.DeepFool(**field)
