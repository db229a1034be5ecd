"""Auto-PGD against algorithm 1 of its paper, one example after the other in NumPy, and against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import attacks
from robust_jax.attacks.gradient.ascent import check_windows
from robust_jax.attacks.inputs import make_problem
from robust_jax.core.keys import example_keys

RNG = np.random.default_rng(1)
FIRST = RNG.normal(size=(4 * 5 * 3, 12)) / 3
SECOND = RNG.normal(size=(12, 6))


@jax.tree_util.Partial
def network(images):
    hidden = jnp.tanh((images.reshape(len(images), -1) - 0.5) @ jnp.asarray(FIRST, jnp.float32))
    return hidden @ jnp.asarray(SECOND, jnp.float32)


@jax.tree_util.Partial
def linear(images):
    return images.reshape(len(images), -1) @ jnp.asarray(FIRST[:, :6], jnp.float32)


def problem(predictor, size=12):
    images = jnp.asarray(np.random.default_rng(2).random((size, 4, 5, 3)), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, jnp.argmax(predictor(images), axis=-1)


def loss_and_gradient(x, label):
    hidden = np.tanh((x.reshape(-1) - 0.5) @ FIRST)
    logits = hidden @ SECOND
    probs = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    gradient = FIRST @ ((1 - hidden**2) * (SECOND @ (probs - np.eye(6)[label])))
    return -np.log(probs[label]), gradient.reshape(x.shape), logits.argmax() != label


def algorithm_1(image, label, eps, start, norm, steps, checks, reference):
    """In double precision; the published code's two oddities where ``reference``."""

    def project(z):
        delta = z - image
        if norm == "Linf":
            return np.clip(image + np.clip(delta, -eps, eps), 0, 1)
        return np.clip(image + delta * min(1, eps / max(np.linalg.norm(delta), 1e-12)), 0, 1)

    x = previous = start
    loss, gradient, wrong = loss_and_gradient(x, label)
    best, best_gradient, best_loss = x, gradient, loss
    losses = [0.0 if reference else loss]
    size, halved, best_at_check, last_check = 2 * eps, True, loss, 0
    found = x if wrong else None
    for i in range(1, steps + 1):
        direction = np.sign(gradient) if norm == "Linf" else gradient / np.linalg.norm(gradient)
        z = project(x + size * direction)
        a = 1 if i == 1 else 0.75
        x, previous = project(x + a * (z - x) + (1 - a) * (x - previous)), x
        loss, gradient, wrong = loss_and_gradient(x, label)
        losses.append(loss)
        if wrong:
            found = x
        if loss > best_loss:
            best, best_gradient, best_loss = x, gradient, loss
        if i in checks:
            window = i - last_check
            increases = sum(losses[j] > losses[j - 1] for j in range(last_check + 1, i + 1))
            stalled = not halved and best_at_check >= best_loss
            halved = increases <= 0.75 * window or stalled
            best_at_check, last_check = best_loss, i
            if halved:
                size, x, gradient = size / 2, best, best_gradient
                previous = previous if reference else best
    return best_loss if found is None else None, found


CHECKS = (22, 41, 57, 70, 80, 87, 93, 99)


@pytest.mark.parametrize("parity", ["reference", "fixed"])
@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.02), pytest.param("L2", 0.15, marks=pytest.mark.long)])
def test_algorithm_1(norm, eps, parity):
    keys, images, labels = problem(network)
    attack = attacks.APGD(norm=norm, eps=eps, parity=parity)
    start = attack._start(make_problem(keys, images, labels, eps, None), jnp.int32(0)).images
    result = attack.run(keys, network, images, labels)
    assert 0 < result.success.mean() < 1
    for i, (image, label) in enumerate(zip(np.asarray(images, np.float64), np.asarray(labels), strict=True)):
        loss, found = algorithm_1(
            image, label, eps, np.asarray(start[i], np.float64), norm, 100, CHECKS, parity == "reference"
        )
        assert bool(result.success[i]) == (found is not None)
        if found is None:
            np.testing.assert_allclose(result.loss[i], loss, atol=1e-3)


def test_checks_are_those_of_the_paper():
    windows = check_windows(100)
    assert tuple(np.flatnonzero(windows)) == CHECKS
    assert tuple(windows[list(CHECKS)]) == (22, 19, 16, 13, 10, 7, 6, 6)


def test_start_is_on_the_sphere():
    keys, images, labels = problem(network)
    images = 0.4 + 0.2 * images
    for norm, eps, size in (("Linf", 0.1, jnp.max), ("L2", 0.2, jnp.linalg.norm)):
        start = attacks.APGD(norm=norm)._start(make_problem(keys, images, labels, eps, None), jnp.int32(0)).images
        np.testing.assert_allclose([size(jnp.abs(d).reshape(-1)) for d in start - images], eps, rtol=1e-4)


@pytest.mark.parametrize(("norm", "dual", "eps"), [("Linf", 1, 0.05), ("L2", 2, 0.3)])
@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_radius_of_a_linear_classifier(norm, dual, eps, loss):
    """It breaks the examples whose distance to the boundary is below the radius, and no other."""
    keys, images, labels = problem(linear)
    images = 0.35 + 0.3 * images
    labels = jnp.argmax(linear(images), axis=-1)
    logits, weights = np.asarray(linear(images)), FIRST[:, :6].T
    norms = np.linalg.norm(weights[None] - weights[labels][:, None], dual, axis=-1)
    with np.errstate(invalid="ignore"):
        distance = np.nanmin((logits[np.arange(12), labels][:, None] - logits) / norms, axis=1)
    for factor, expected in ((0.99, False), (1.01, True)):
        radius = jnp.asarray(np.minimum(factor * distance, eps), jnp.float32)
        success = attacks.APGD(norm=norm, steps=50, loss=loss).run(keys, linear, images, labels, eps=radius).success
        inside = distance * 1.01 < eps
        assert inside.sum() > 3
        if not expected:
            assert not success.any()
        elif loss == "margin":
            np.testing.assert_array_equal(success, inside)


def test_every_target_is_tried():
    """Only towards the class ranked last is there a way out; three targets miss it, five find it."""
    weights = np.zeros((60, 6), np.float32)
    bias = jnp.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    weights[:, 5] = 10
    predictor = jax.tree_util.Partial(lambda images: images.reshape(len(images), -1) @ weights / 60 + bias[None])
    keys, images, _ = problem(network, size=3)
    images, labels = images / 100, jnp.zeros(3, jnp.int32)
    attack = attacks.APGDT(eps=0.6, steps=10, num_targets=5)
    result = attack.run(keys, predictor, images, labels)
    assert result.success.all()
    assert (jnp.argmax(predictor(result.images), axis=-1) == 5).all()
    assert (result.gradients == 5 * 11).all()
    assert not attacks.APGDT(eps=0.6, steps=10, num_targets=3).run(keys, predictor, images, labels).success.any()


def test_more_restarts_break_no_fewer():
    keys, images, labels = problem(network)
    one, three = (
        attacks.APGD(eps=0.02, steps=5, restarts=n).run(keys, network, images, labels).success for n in (1, 3)
    )
    assert (three | ~one).all()


def test_what_cannot_be_attacked():
    keys, images, labels = problem(network)
    with pytest.raises(ValueError, match="more classes than targets, got num_targets=6 of 6"):
        attacks.APGDT(num_targets=6).run(keys, network, images, labels)
    with pytest.raises(ValueError, match="no targets"):
        attacks.APGDT(num_targets=5).run(keys, network, images, labels, targets=(labels + 1) % 6)
    with pytest.raises(ValueError, match="Did you mean 'Linf'"):
        attacks.APGD(norm="linf")
    with pytest.raises(ValueError, match="rho"):
        attacks.APGD(rho=2.0)
