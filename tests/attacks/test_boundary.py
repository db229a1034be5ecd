"""The boundary attack on linear classifiers, its proposals' geometry, and its step sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks.test_hop_skip_jump import distances, linear, linear_problem

from robust_jax import attacks
from robust_jax.attacks.black_box.boundary import StepSize, _propose

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]


def test_reaches_the_closed_form():
    keys, images, labels = linear_problem()
    result = attacks.BoundaryAttack(steps=5000).run(keys, linear, images, labels)
    ratio = result.norm / distances(images, labels, "L2")
    assert result.success.all()
    assert (ratio >= 1).all()
    assert (ratio < 1.02).all()
    assert (result.queries < 5700).all()


def test_stops_where_steps_have_become_small():
    keys, images, labels = linear_problem(4)
    result = attacks.BoundaryAttack(steps=20_000).run(keys, linear, images, labels)
    assert (result.queries < 15_000).all()
    np.testing.assert_allclose(result.norm, distances(images, labels, "L2"), rtol=3e-4)


def test_proposals():
    """Of the paper's section 2.3: on the sphere, at the given angle, and nearer by the given share."""
    x, image = np.random.default_rng(0).random((2, 6, 5, 3))
    x, image = 0.4 + 0.2 * x, 0.4 + 0.2 * image
    keys = jax.random.split(jax.random.key(0), 5)
    propose = jax.jit(jax.vmap(_propose, (0, None, None, None, None)))
    on_sphere, candidates = propose(keys, jnp.asarray(x), jnp.asarray(image), 0.3, 0.1)
    distance = np.linalg.norm(x - image)
    x, on_sphere, candidates = x[None], np.asarray(on_sphere), np.asarray(candidates)
    before, after, last = ((points - image).reshape(-1, 90) for points in (x, on_sphere, candidates))
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), distance, rtol=1e-5)
    np.testing.assert_allclose(after @ before[0] / distance**2, 1 / np.sqrt(1 + 0.3**2), rtol=1e-5)
    np.testing.assert_allclose(last, 0.9 * after, atol=1e-6)
    cosines = np.corrcoef(after - before * (after @ before[0] / distance**2)[:, None])
    assert abs(cosines - np.eye(5)).max() < 0.4, "directions are independent"


def test_step_sizes_adapt():
    attack = attacks.BoundaryAttack(adaptation=2.0)
    successes = jnp.array([0, 5, 6, 15, 16, 10])
    outcomes = jnp.array([30, 30, 30, 30, 30, 29])
    adapted, factor = attack._adapt(StepSize(jnp.ones(6), outcomes, successes), 30, (0.2, 0.5))
    np.testing.assert_allclose(factor, [0.5, 0.5, 1, 1, 2, 1])
    np.testing.assert_allclose(adapted.size, factor)
    np.testing.assert_array_equal(adapted.outcomes, [0, 0, 0, 0, 0, 29])
    np.testing.assert_array_equal(adapted.successes, [0, 0, 0, 0, 0, 10])


@pytest.mark.parametrize(
    "field",
    [
        {"steps": 0},
        {"orthogonal_step": 0.0},
        {"source_step": 0.0},
        {"adaptation": 0.9},
        {"start_tries": 0},
        {"eps": -1.0},
    ],
)
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.BoundaryAttack(**field)
