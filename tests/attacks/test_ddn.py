"""DDN against algorithm 1 of its paper in NumPy, and distances in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks.test_deepfool import WEIGHTS, images_of, keys_of, linear, linear_problem, logits_and_jacobian, network

from robust_jax import attacks

pytestmark = pytest.mark.long


def algorithm_1(image, label, steps, gamma, radius, levels):
    """In double precision; the nearest adversarial image of all iterates."""
    x, best = image, (np.inf, image)
    farthest = np.linalg.norm(np.maximum(image, 1 - image))
    for i in range(steps + 1):
        logits, jacobian = logits_and_jacobian(x)
        success = logits.argmax() != label
        if success and np.linalg.norm(x - image) < best[0]:
            best = np.linalg.norm(x - image), x
        if i == steps:
            break
        probs = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        g = jacobian @ (probs - np.eye(6)[label])
        length = 0.01 + 0.99 * (1 + np.cos(np.pi * i / steps)) / 2
        delta = x - image + length * g / np.linalg.norm(g)
        radius = min(radius * (1 - gamma if success else 1 + gamma), farthest)
        x = np.clip(image + radius * delta / np.linalg.norm(delta), 0, 1)
        if levels is not None:
            x = np.round(x * (levels - 1)) / (levels - 1)
    return best


@pytest.mark.parametrize("levels", [None, 256, 16])
def test_algorithm_1(levels):
    images = images_of(12, 1.0)
    labels = jnp.argmax(network(images), axis=1)
    found = attacks.DDN(steps=40, levels=levels).run(keys_of(images), network, images, labels)
    expected = [
        algorithm_1(np.asarray(image, float).ravel(), label, 40, 0.05, 1.0, levels)
        for image, label in zip(np.asarray(images), np.asarray(labels), strict=True)
    ]
    assert found.success.all()
    np.testing.assert_allclose(found.norm, [norm for norm, _ in expected], rtol=2e-3)
    if levels is not None:
        np.testing.assert_allclose(found.images * (levels - 1), jnp.round(found.images * (levels - 1)), atol=1e-3)


def test_closed_form_on_a_linear_model():
    """Cross-entropy leads to the class of the next highest logit, for one of these examples not the nearest."""
    images, labels, distances = linear_problem(2)
    found = attacks.DDN().run(keys_of(images), linear, images, labels)
    assert found.success.all()
    assert (found.norm >= distances.min(axis=1) * (1 - 1e-5)).all()
    reached = distances[np.arange(16), jnp.argmax(linear(found.images), axis=1)]
    np.testing.assert_allclose(found.norm, reached, rtol=0.01)
    np.testing.assert_allclose(np.sort(found.norm / distances.min(axis=1))[:-1], 1, rtol=0.01)


def test_closed_form_with_two_classes():
    """With no other class to go astray to, all that 100 radii, each 5 % smaller, get down to, and the box allows."""
    images = linear_problem(2)[0]
    two = jax.tree_util.Partial(lambda images: linear(images)[:, :2])
    logits = np.asarray(two(images), float)
    distances = np.abs(logits[:, 0] - logits[:, 1]) / np.linalg.norm(WEIGHTS[:, 0] - WEIGHTS[:, 1])
    near = (distances > 2 * 0.95**100) & (distances < 0.2)
    assert near.sum() >= 10
    found = attacks.DDN().run(keys_of(images), two, images, jnp.argmax(two(images), axis=1))
    assert found.success[near].all()
    np.testing.assert_allclose(found.norm[near], distances[near], rtol=0.01)


def test_zero_gradient_is_replaced_and_told():
    """A flat spot about the image, left at random."""
    images = images_of(8, 0.0)

    def flat_in_the_middle(images):
        distance = jnp.max(jnp.abs(images - 0.5), axis=(1, 2, 3))
        return jnp.stack([jnp.full_like(distance, 0.05), jnp.maximum(distance, 0.02)], axis=1)

    found = attacks.DDN(steps=30, first_radius=0.05).run(
        keys_of(images), flat_in_the_middle, images, jnp.zeros(8, jnp.int32)
    )
    assert found.success.all()
    assert found.zero_gradient.all()


@pytest.mark.parametrize(
    "field", [{"steps": 0}, {"gamma": 2.0}, {"first_radius": 0.0}, {"levels": 1}, {"eps": float("nan")}]
)
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.DDN(**field)
