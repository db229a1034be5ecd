"""Virtual adversarial directions against the Hessian of the divergence, formed entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax.attacks import virtual_direction
from robust_jax.core.keys import example_keys

pytestmark = pytest.mark.long

SHAPE = (3, 4, 1)
RNG = np.random.default_rng(0)
FIRST, SECOND = (jnp.asarray(RNG.normal(size=size), jnp.float32) for size in ((12, 8), (8, 4)))


@jax.tree_util.Partial
def network(images):
    return jnp.tanh((images.reshape(len(images), -1) - 0.5) @ FIRST) @ SECOND


def problem(size=6):
    images = jnp.asarray(np.random.default_rng(1).random((size, *SHAPE)), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images


def hessian(image):
    """Of KL(p(x) ‖ p(x + r)) at r = 0."""

    def divergence(r):
        clean, moved = (jax.nn.log_softmax(network((image + step)[None])[0]) for step in (jnp.zeros(SHAPE), r))
        return jnp.sum(jnp.exp(clean) * (clean - moved))

    return np.asarray(jax.hessian(divergence)(jnp.zeros(SHAPE)), np.float64).reshape(12, 12)


def flat(directions):
    return np.asarray(directions, np.float64).reshape(len(directions), -1)


@pytest.mark.parametrize("exact", [True, False])
def test_many_iterations_find_the_dominant_eigenvector(exact):
    keys, images = problem()
    found = flat(virtual_direction(keys, network, images, eps=1.0, num_iterations=60, exact=exact))
    for image, direction in zip(images, found, strict=True):
        values, vectors = np.linalg.eigh(hessian(image))
        assert values[-1] > 1.2 * values[-2], "else 60 iterations do not separate them"
        assert abs(direction @ vectors[:, -1]) > 0.995
        np.testing.assert_allclose(direction @ hessian(image) @ direction, values[-1], rtol=0.01)


def test_one_exact_iteration_is_one_product():
    keys, images = problem()
    once, twice = (
        flat(virtual_direction(keys, network, images, eps=1.0, num_iterations=n, exact=True)) for n in (1, 2)
    )
    for image, d, after in zip(images, once, twice, strict=True):
        product = hessian(image) @ d
        np.testing.assert_allclose(after, product / np.linalg.norm(product), atol=1e-3)


def test_difference_agrees_with_the_product():
    keys, images = problem(20)
    exact = flat(virtual_direction(keys, network, images, eps=1.0, exact=True))
    cosines = {
        xi: np.sum(exact * flat(virtual_direction(keys, network, images, eps=1.0, xi=xi)), axis=1)
        for xi in (1e-8, 1e-2, 1.0)
    }
    assert cosines[1e-2].min() > 0.99
    assert cosines[1e-8].mean() < 0.9, "rounded away"
    assert cosines[1.0].mean() < cosines[1e-2].mean()


def test_norm_jit_batch_and_gradient():
    keys, images = problem()
    eps = jnp.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    found = virtual_direction(keys, network, images, eps=eps)
    np.testing.assert_allclose(np.linalg.norm(flat(found), axis=1), eps, rtol=1e-5)
    inside = jax.jit(lambda keys, images, eps: virtual_direction(keys, network, images, eps=eps))(keys, images, eps)
    np.testing.assert_allclose(inside, found, atol=2e-4)
    alone = virtual_direction(keys[3:4], network, images[3:4], eps=2.0)
    np.testing.assert_allclose(alone, found[3:4], atol=2e-4)
    slope = jax.grad(lambda images: jnp.sum(virtual_direction(keys, network, images, eps=1.0)))(images)
    assert not slope.any()


def test_flat_predictions_keep_the_random_vector():
    keys, images = problem()
    constant = jax.tree_util.Partial(lambda images: jnp.zeros((len(images), 3)))
    for exact in (True, False):
        found = virtual_direction(keys, constant, images, eps=1.0, exact=exact)
        np.testing.assert_allclose(np.linalg.norm(flat(found), axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("field", [{"xi": 0.0}, {"num_iterations": 0}, {"eps": -1.0}])
def test_bad_input(field):
    keys, images = problem()
    with pytest.raises(ValueError, match=next(iter(field))):
        virtual_direction(keys, network, images, **{"eps": 1.0} | field)
