"""Projections on ball and box against Dykstra's algorithm and a root finder, both in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from robust_jax.mathematics.norms import project_lp
from robust_jax.mathematics.projections import project_l1_box, project_l2_box

PROJECTIONS = {1: project_l1_box, 2: project_l2_box}
both = pytest.mark.parametrize("p", PROJECTIONS)


def point(seed, size=(6, 5, 3), scale=0.5):
    rng = np.random.default_rng(seed)
    image = rng.random(size)
    # Some entries at the bounds, where the box leaves no room.
    image[0] = np.round(image[0])
    return scale * rng.normal(size=size), image


def oracle(delta, image, p, eps):
    """The multiplier by Brent's method, on the conditions of optimality."""

    def candidate(multiplier):
        shrunk = delta / (1 + multiplier) if p == 2 else np.sign(delta) * np.maximum(np.abs(delta) - multiplier, 0)
        return np.clip(image + shrunk, 0, 1) - image

    excess = lambda multiplier: np.linalg.norm(candidate(multiplier).ravel(), p) - eps  # noqa: E731
    if excess(0) <= 0:
        return candidate(0)
    return candidate(scipy.optimize.brentq(excess, 0, 1e6, xtol=1e-14, rtol=1e-14))


@both
@pytest.mark.parametrize("eps", [1e-3, 0.1, 1.0, 3.0, 10.0, 100.0])
def test_root_finder(p, eps):
    for seed, scale in enumerate((0.05, 0.5, 5.0)):
        delta, image = point(seed, scale=scale)
        found = np.asarray(PROJECTIONS[p](jnp.asarray(delta, jnp.float32), jnp.asarray(image, jnp.float32), eps))
        np.testing.assert_allclose(found, oracle(delta, image, p, eps), atol=3e-6)
        assert np.linalg.norm(found.ravel().astype(np.float64), p) <= eps * (1 + 1e-5)
        assert (image + found).min() >= -1e-6
        assert (image + found).max() <= 1 + 1e-6


@both
def test_dykstra(p):
    """Alternating projections with corrections converge to the same point."""
    delta, image = point(7)
    eps = 1.0
    x, ball, box = delta.copy(), np.zeros_like(delta), np.zeros_like(delta)
    for _ in range(2000):
        y = np.asarray(project_lp(jnp.asarray(x + ball, jnp.float32), p, eps), np.float64)
        ball = x + ball - y
        x = np.clip(image + y + box, 0, 1) - image
        box = y + box - x
    found = PROJECTIONS[p](jnp.asarray(delta, jnp.float32), jnp.asarray(image, jnp.float32), eps)
    np.testing.assert_allclose(found, x, atol=1e-4)


@both
def test_inside_nothing_moves(p):
    delta, image = point(3, scale=0.01)
    delta = np.clip(image + delta, 0, 1) - image
    delta, image = jnp.asarray(delta, jnp.float32), jnp.asarray(image, jnp.float32)
    np.testing.assert_allclose(PROJECTIONS[p](delta, image, 50.0), delta, atol=1e-7)
    once = PROJECTIONS[p](10 * delta, image, 0.3)
    np.testing.assert_allclose(PROJECTIONS[p](once, image, 0.3), once, atol=1e-6)


@both
def test_radius_or_vector_zero(p):
    delta, image = (jnp.asarray(x, jnp.float32) for x in point(4))
    np.testing.assert_array_equal(PROJECTIONS[p](delta, image, 0.0), jnp.zeros_like(delta))
    np.testing.assert_array_equal(PROJECTIONS[p](jnp.zeros_like(delta), image, 1.0), jnp.zeros_like(delta))


@both
def test_jit_and_vmap(p):
    deltas, images = (jnp.asarray(np.stack(x), jnp.float32) for x in zip(*map(point, range(4)), strict=True))
    eps = jnp.array([0.0, 0.1, 1.0, 20.0])
    batched = jax.jit(jax.vmap(PROJECTIONS[p]))(deltas, images, eps)
    for i in range(4):
        np.testing.assert_allclose(batched[i], PROJECTIONS[p](deltas[i], images[i], eps[i]), atol=1e-6)
