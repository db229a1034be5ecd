"""ObsAtk against a constrained solver, closed forms, and its steps in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, optimize

from robust_jax import attacks, config
from robust_jax.core.keys import example_keys

pytestmark = pytest.mark.long

SHAPE = (6, 5, 2)
SIZE = 60


def problem(size=4):
    rng = np.random.default_rng(3)
    clean = ndimage.gaussian_filter(rng.random((size, *SHAPE)), (0, 1, 1, 0))
    noisy = clean + 0.1 * rng.normal(size=clean.shape)
    keys = example_keys(jax.random.key(0), jnp.arange(size))
    return keys, jnp.asarray(noisy, jnp.float32), jnp.asarray(clean, jnp.float32)


@jax.tree_util.Partial
def smoothing(images):
    """The mean of a pixel and its neighbours, squashed."""
    moved = [jnp.roll(images, shift, axis) for shift in (-1, 0, 1) for axis in (1, 2)]
    return jnp.tanh(sum(moved) / 6)


@jax.tree_util.Partial
def identity(images):
    return images


@pytest.mark.parametrize("radius", [0.05, 0.5, 3.0])
def test_projection_is_the_nearest_point(radius):
    delta = np.random.default_rng(0).normal(size=(3, 2, 2)) * 0.3 + 0.2
    solved = optimize.minimize(
        lambda d: np.sum((d - delta.reshape(-1)) ** 2),
        np.zeros(12),
        jac=lambda d: 2 * (d - delta.reshape(-1)),
        constraints=[
            {"type": "eq", "fun": np.sum, "jac": np.ones_like},
            {"type": "ineq", "fun": lambda d: radius**2 - d @ d, "jac": lambda d: -2 * d},
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = attacks.project_zero_mean(jnp.asarray(delta, jnp.float32), radius)
    np.testing.assert_allclose(found, solved.x.reshape(3, 2, 2), atol=1e-4)
    np.testing.assert_allclose(jnp.sum(found), 0, atol=1e-5)


def test_closed_form_without_denoising():
    """The worst is more of the noise there is, less its mean."""
    keys, noisy, clean = problem()
    found = attacks.ObsAtk(rho=0.02).run(keys, identity, noisy, clean)
    noise = np.asarray(noisy - clean).reshape(4, -1)
    centred = noise - noise.mean(axis=1, keepdims=True)
    worst = 0.02 * np.sqrt(SIZE) * centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose((found.images - noisy).reshape(4, -1), worst, atol=2e-4)
    np.testing.assert_allclose(found.loss, ((noise + worst) ** 2).mean(axis=1), rtol=1e-3)
    np.testing.assert_allclose(found.norm, 0.02, rtol=1e-4)


def test_steps_in_numpy():
    keys, noisy, clean = problem()
    radius = 0.02 * np.sqrt(SIZE)
    y, x = np.asarray(noisy, float), np.asarray(clean, float)

    def moved(values, sign):
        return sum(np.roll(values, sign * shift, axis) for shift in (-1, 0, 1) for axis in (1, 2)) / 6

    delta, losses = np.zeros_like(y), []
    for _ in range(6):
        output = np.tanh(moved(y + delta, 1))
        losses.append(((output - x) ** 2).mean(axis=(1, 2, 3)))
        gradient = moved((output - x) * (1 - output**2), -1)
        delta = delta + 0.3 * radius * gradient / np.linalg.norm(gradient.reshape(4, -1), axis=1)[:, None, None, None]
        delta = delta - delta.mean(axis=(1, 2, 3), keepdims=True)
        sizes = np.linalg.norm(delta.reshape(4, -1), axis=1)
        delta = delta * np.minimum(1, radius / sizes)[:, None, None, None]
    found = attacks.ObsAtk(rho=0.02).run(keys, smoothing, noisy, clean)
    np.testing.assert_allclose(found.loss, np.max(losses, axis=0), rtol=1e-4)
    assert (found.loss > 1.05 * losses[0]).all()


def test_constraints_jit_and_batch():
    keys, noisy, clean = problem()
    rho = jnp.array([0.0, 0.01, 0.05, 0.1])
    attack = attacks.ObsAtk(steps=8, start="uniform")
    found = attack.run(keys, smoothing, noisy, clean, rho=rho)
    delta = found.images - noisy
    np.testing.assert_allclose(jnp.mean(delta, axis=(1, 2, 3)), 0, atol=1e-6)
    assert (found.norm <= rho * (1 + 1e-4)).all()
    np.testing.assert_array_equal(found.images[0], noisy[0])
    inside = jax.jit(lambda keys, noisy, clean, rho: attack(keys, smoothing, noisy, clean, rho=rho))
    np.testing.assert_allclose(inside(keys, noisy, clean, rho), found.images, atol=1e-5)
    alone = attack(keys[2:3], smoothing, noisy[2:3], clean[2:3], rho=0.05)
    np.testing.assert_allclose(alone, found.images[2:3], atol=1e-5)
    assert config.from_json(config.to_json(attack)) == attack


def test_bad_input():
    keys, noisy, clean = problem()
    with pytest.raises(ValueError, match="one shape"):
        attacks.ObsAtk()(keys, identity, noisy, clean[:2])
    with pytest.raises(ValueError, match="rho >= 0"):
        attacks.ObsAtk()(keys, identity, noisy, clean, rho=-0.1)
    with pytest.raises(ValueError, match="one for each image"):
        attacks.ObsAtk()(keys, identity, noisy, clean, rho=jnp.ones(3))
    for field in ({"rho": -1.0}, {"steps": 0}, {"relative_step": 0.0}):
        with pytest.raises(ValueError, match=next(iter(field))):
            attacks.ObsAtk(**field)
