"""SPSA and NES: their estimates against true gradients, their steps against the papers' arithmetic in NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.test_attacks import convolutional, problem

from robust_jax import attacks, predictors
from robust_jax.attacks.black_box import gradient_estimates
from robust_jax.attacks.black_box.gradient_estimates import estimate_gradient
from robust_jax.core.keys import example_keys

pytestmark = pytest.mark.long

SHAPE = (4, 5, 3)
WEIGHTS = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)


@jax.tree_util.Partial
def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def linear_problem(size=4):
    images = jnp.asarray(0.3 + 0.4 * np.random.default_rng(2).random((size, *SHAPE)), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, jnp.argmax(linear(images), axis=-1)


def cosine(a, b):
    a, b = (np.asarray(value).reshape(len(value), -1) for value in (a, b))
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


ATTACKS = {"spsa": attacks.SPSA(), "nes": attacks.NES()}
both = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


@both
@pytest.mark.parametrize("samples", [60, 6000])
def test_estimate_of_a_linear_loss(attack, samples):
    """Of n directions in d dimensions, the cosine with the true gradient is about (n / (n + d)) ** 0.5."""
    keys, images, _ = linear_problem(8)
    slopes = np.random.default_rng(3).normal(size=(8, *SHAPE)).astype(np.float32)
    value, gradient = estimate_gradient(
        keys,
        lambda number, images: jnp.sum(slopes * images, axis=(1, 2, 3)),
        attack._direction,
        images,
        width=0.01,
        samples=samples,
    )
    np.testing.assert_allclose(value, jnp.sum(slopes * images, axis=(1, 2, 3)), rtol=1e-3, atol=1e-3)
    pairs = samples // 2
    assert abs(cosine(gradient, slopes).mean() - (pairs / (pairs + 60)) ** 0.5) < 0.06
    if samples == 6000:
        np.testing.assert_allclose(jnp.mean(gradient * slopes), np.mean(slopes**2), rtol=0.05, err_msg="unbiased")


@both
def test_estimate_of_a_network(attack):
    keys, images, labels = problem()
    inside = 0.1 + 0.8 * images
    true = jax.grad(lambda images: jnp.sum(attacks.margin(convolutional(images), labels)))(inside)
    _, estimate = estimate_gradient(
        keys,
        lambda number, images: attacks.margin(convolutional(images), labels),
        attack._direction,
        inside,
        width=0.01,
        samples=8000,
    )
    # One of them is next to where another class comes second.
    assert (np.sort(cosine(estimate, true)) > [0.9, *[0.97] * 5]).all()


def test_chunks_do_not_matter(monkeypatch):
    keys, images, _ = linear_problem()
    slopes = jnp.cos(jnp.arange(60.0)).reshape(1, *SHAPE)

    def run():
        loss = lambda number, images: jnp.sum(slopes * images, axis=(1, 2, 3)) + number  # noqa: E731
        return estimate_gradient(keys, loss, attacks.NES()._direction, images, width=0.01, samples=22)

    whole = run()
    monkeypatch.setattr(gradient_estimates, "batches_at_once", lambda size, most: 4)
    for a, b in zip(run(), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4)


@functools.partial(jax.jit, static_argnums=0)
def directions_of(attack, key, i):
    """Those that an attack draws in a step."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, i), jnp.arange(attack.samples // 2))
    return jax.vmap(lambda key: attack._direction(key, SHAPE))(keys)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_spsa_in_numpy(norm):
    """Algorithm 1 of the paper, with Adam, until the margin is positive."""
    keys, images, labels = linear_problem()
    eps = {"Linf": 0.03, "L2": 0.2}[norm]
    attack = attacks.SPSA(norm=norm, eps=eps, steps=6, samples=10)
    found = attack.run(keys, linear, images, labels)
    for row in range(len(images)):
        image, label = np.asarray(images[row], np.float64), int(labels[row])
        x, first, second, queries, done = image.copy(), 0.0, 0.0, 1, False
        best, best_margin = image, -np.inf

        def margin(x, label=label):
            logits = x.reshape(-1) @ WEIGHTS
            return np.delete(logits, label).max() - logits[label]

        best_margin = margin(x)
        for i in range(6):
            if done:
                break
            directions = np.asarray(directions_of(attack, keys[row], i))
            slopes = [margin(np.clip(x + 0.01 * v, 0, 1)) - margin(np.clip(x - 0.01 * v, 0, 1)) for v in directions]
            gradient = np.mean([slope / 0.02 * v for slope, v in zip(slopes, directions, strict=True)], axis=0)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            x = x + 0.01 * first / (1 - 0.9 ** (i + 1)) / (np.sqrt(second / (1 - 0.999 ** (i + 1))) + 1e-8)
            if norm == "Linf":
                x = np.clip(np.clip(x, image - eps, image + eps), 0, 1)
            else:
                x = image + (x - image) * min(1, eps / np.linalg.norm(x - image))
            queries += 11
            if margin(x) > best_margin:
                best, best_margin = x, margin(x)
            done = margin(x) > 0
        np.testing.assert_allclose(found.images[row], best, atol=1e-4)
        assert int(found.queries[row]) == queries
        assert bool(found.success[row]) == done


def test_nes_in_numpy():
    """The published code's step: momentum, sign, and halving on a plateau."""
    keys, images, labels = linear_problem()
    attack = attacks.NES(eps=0.02, steps=20, samples=4, width=0.01, loss="margin", plateau=3)
    found = attack.run(keys, linear, images, labels)
    halved = 0
    for row in range(len(images)):
        image, label = np.asarray(images[row], np.float64), int(labels[row])

        def margin(x, label=label):
            logits = x.reshape(-1) @ WEIGHTS
            return np.delete(logits, label).max() - logits[label]

        x, momentum, step, last, queries = image.copy(), 0.0, 0.2 * 0.02, [], 1
        best, best_margin = image, margin(image)
        for i in range(20):
            if best_margin > 0:
                break
            directions = np.asarray(directions_of(attack, keys[row], i))
            ahead = [margin(np.clip(x + 0.01 * v, 0, 1)) for v in directions]
            behind = [margin(np.clip(x - 0.01 * v, 0, 1)) for v in directions]
            terms = [(a - b) / 0.02 * v for a, b, v in zip(ahead, behind, directions, strict=True)]
            momentum = 0.9 * momentum + 0.1 * np.mean(terms, axis=0)
            last = [*last, np.mean(ahead + behind)][-3:]
            if len(last) == 3 and last[-1] < last[0]:
                step, last = max(step / 2, 0.2 * 0.02 / 200), []
                halved += 1
            x = np.clip(np.clip(x + step * np.sign(momentum), image - 0.02, image + 0.02), 0, 1)
            queries += 5
            if margin(x) > best_margin:
                best, best_margin = x, margin(x)
        np.testing.assert_allclose(found.images[row], best, atol=1e-4)
        assert int(found.queries[row]) == queries
    assert halved > 0


@both
@pytest.mark.parametrize(("norm", "eps", "dual"), [("Linf", 0.02, 1), ("L2", 0.15, 2)])
def test_breaks_what_can_be_broken_of_a_linear_classifier(attack, norm, eps, dual):
    keys, images, labels = linear_problem(16)
    logits = np.asarray(linear(images))
    rows = np.arange(16)
    differences = WEIGHTS.T[None] - WEIGHTS.T[labels][:, None]
    gains = eps * np.linalg.norm(differences, dual, axis=-1) + logits - logits[rows, labels][:, None]
    gains[rows, labels] = -np.inf
    most = gains.max(axis=1)
    assert 0 < (most > 0).sum() < 16
    attack = dataclasses.replace(attack, norm=norm, eps=eps, steps=100, samples=100, width=0.01, loss="margin")
    if isinstance(attack, attacks.SPSA):
        attack = dataclasses.replace(attack, step_size=0.1 * eps if norm == "Linf" else 0.01 * eps)
    found = attack.run(keys, linear, images, labels)
    np.testing.assert_array_equal(found.success[abs(most) > 0.05], (most > 0)[abs(most) > 0.05])
    # Adam evens out entries, so that SPSA falls a little short in L2.
    np.testing.assert_allclose(found.loss[most < -0.05], most[most < -0.05], atol=0.08)
    np.testing.assert_array_equal(found.queries[most < -0.05], 1 + 100 * 101)
    assert (found.queries[found.success] < 1 + 100 * 101).all()


@both
def test_draws_of_a_randomised_classifier_are_its_own(attack):
    """Every evaluation has another draw: the noise of a constant classifier then looks like a gradient."""

    def noisy(keys, images):
        return jax.vmap(lambda key, image: jax.random.normal(key, (3,)) + 0 * image.sum())(keys, images)

    keys, images, labels = linear_problem()
    result = dataclasses.replace(attack, eps=0.02, steps=2, samples=4).run(
        keys, predictors.Randomised(noisy), images, labels
    )
    assert not result.zero_gradient.any()


def test_flat_losses_are_told():
    keys, images, _ = linear_problem()
    constant = lambda images: jnp.zeros((len(images), 3)).at[:, 0].set(2.0)  # noqa: E731
    labels = jnp.zeros(len(images), jnp.int32)
    assert attacks.SPSA(steps=2, samples=4).run(keys, constant, images, labels).zero_gradient.all()


@pytest.mark.parametrize(
    "field",
    [{"norm": "L1"}, {"steps": 0}, {"samples": 0}, {"samples": 5}, {"width": 0.0}, {"eps": -1.0}, {"loss": "marg"}],
)
@pytest.mark.parametrize("kind", [attacks.SPSA, attacks.NES])
def test_bad_settings(kind, field):
    with pytest.raises(ValueError, match=next(iter(field))):
        kind(**field)


@pytest.mark.parametrize("field", [{"momentum": 1.5}, {"relative_step": 0.0}, {"plateau": 0}])
def test_bad_settings_of_nes(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.NES(**field)


def test_bad_step_size_of_spsa():
    with pytest.raises(ValueError, match="step_size"):
        attacks.SPSA(step_size=0.0)
