"""HopSkipJump on linear classifiers: the closed form, its estimate of the normal, and its schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import attacks
from robust_jax.core.keys import example_keys

pytestmark = pytest.mark.long

SHAPE = (4, 5, 3)
WEIGHTS = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)


@jax.tree_util.Partial
def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def linear_problem(size=16):
    images = jnp.asarray(0.3 + 0.4 * np.random.default_rng(2).random((size, *SHAPE)), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, jnp.argmax(linear(images), axis=-1)


def distances(images, labels, norm, targets=None):
    """To the nearest hyperplane between the label and another class, or to that of the target."""
    logits, rows = np.asarray(linear(images)), np.arange(len(images))
    differences = WEIGHTS.T[None] - WEIGHTS.T[labels][:, None]
    dual = np.linalg.norm(differences, {"L2": 2, "Linf": 1}[norm], axis=-1)
    values = (logits[rows, labels][:, None] - logits) / np.where(dual > 0, dual, 1)
    values[rows, labels] = np.inf
    return values.min(axis=1) if targets is None else values[rows, targets]


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_reaches_the_closed_form(norm):
    keys, images, labels = linear_problem()
    result = attacks.HopSkipJump(norm=norm, steps=20).run(keys, linear, images, labels)
    ratio = result.norm / distances(images, labels, norm)
    assert result.success.all()
    assert (ratio >= 1).all()
    assert (ratio < 1.05).all()
    # Tries at the start and halvings of steps differ, the rest is the schedule.
    halvings = {"L2": 9, "Linf": 12}[norm]
    least = 1 + 1 + 21 * halvings + sum(int(100 * np.sqrt(t)) + 1 for t in range(1, 21)) + 1
    assert (result.queries >= least).all()
    assert (result.queries < least + 40).all()


def test_targets():
    keys, images, labels = linear_problem()
    targets = (labels + 1) % 3
    result = attacks.HopSkipJump(steps=20).run(keys, linear, images, labels, targets=targets)
    # A hyperplane of the other class may lie before the target's.
    ratio = (result.norm / distances(images, labels, "L2", targets))[result.success]
    assert len(ratio) >= 12, "noise is seldom of all classes"
    assert (ratio >= 1).all()
    assert np.median(ratio) < 1.1
    assert (result.norm[~result.success] == 0).all()


@pytest.mark.parametrize("samples", [60, 2000])
def test_normal_from_decisions(samples):
    """Of n directions in d dimensions, its cosine with the true normal is (2n / (2n + πd)) ** 0.5, in expectation."""
    keys, images, labels = linear_problem(8)
    weights = WEIGHTS[:, :2]
    two = jax.tree_util.Partial(lambda images: images.reshape(len(images), -1) @ weights)
    labels = jnp.zeros_like(labels)
    normal = weights[:, 1] - weights[:, 0]
    flat = np.asarray(images).reshape(8, -1)
    on_it = flat - (flat @ normal / (normal @ normal))[:, None] * normal
    problem = attacks.Problem(keys, images, labels, jnp.full(8, jnp.inf), None)
    arguments = jnp.asarray(on_it.reshape(images.shape)), jnp.full(8, 0.01), jnp.int32(samples)
    estimate = jax.jit(attacks.HopSkipJump()._normal)(jnp.int32(3), two, problem, *arguments)
    cosine = np.asarray(estimate).reshape(8, -1) @ normal / np.linalg.norm(normal)
    assert abs(cosine.mean() - (2 * samples / (2 * samples + np.pi * 60)) ** 0.5) < 0.06
    np.testing.assert_allclose(jnp.sum(estimate**2, axis=(1, 2, 3)), 1, rtol=1e-5)


def test_normal_where_all_decisions_agree():
    """It is the mean of the directions that were tried, towards or away."""
    keys, images, labels = linear_problem(2)
    problem = attacks.Problem(keys, images, labels, jnp.full(2, jnp.inf), None)

    def normal(label):
        constant = jax.tree_util.Partial(lambda images: jnp.zeros((len(images), 3)).at[:, label].set(1.0))
        checked = problem._replace(labels=jnp.zeros_like(labels))
        return jax.jit(attacks.HopSkipJump()._normal)(
            jnp.int32(0), constant, checked, images, jnp.full(2, 0.01), jnp.int32(30)
        )

    np.testing.assert_allclose(normal(1), -normal(0), atol=1e-6)
    assert (jnp.abs(normal(1)).sum(axis=(1, 2, 3)) > 1).all()


def test_halvings():
    assert attacks.HopSkipJump().halvings(3072) == 18
    assert attacks.HopSkipJump(norm="Linf").halvings(3072) == 24
    assert attacks.HopSkipJump(gamma=100.0).halvings(3072) == 11


@pytest.mark.parametrize(
    "field",
    [{"norm": "L1"}, {"steps": 0}, {"initial_samples": 0}, {"gamma": 0.0}, {"start_tries": 0}, {"eps": -1.0}],
)
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.HopSkipJump(**field)
