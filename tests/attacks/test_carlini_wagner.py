"""The attacks of Carlini and Wagner: L2 against its paper in NumPy, and all against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from attacks.test_deepfool import (
    WEIGHTS,
    images_of,
    keys_of,
    linear,
    linear_problem,
    logits_and_jacobian,
    network,
)

from robust_jax import attacks
from robust_jax.attacks.minimum_norm.penalty_search import PROGRESS

pytestmark = pytest.mark.long

SMALL = {"searches": 6, "steps": 60, "learning_rate": 0.05, "first_constant": 1e-2}


def margin_and_gradient(x, label, target):
    """Of the logits, positive on success."""
    logits, jacobian = logits_and_jacobian(x)
    rivals = np.where(np.arange(6) == (label if target is None else target), -np.inf, logits)
    up, down = (rivals.argmax(), label) if target is None else (target, rivals.argmax())
    return logits[up] - logits[down], jacobian[:, up] - jacobian[:, down]


def search_over_constants(descend, searches, first_constant):
    """By tens and then by halves; ``descend(c)`` says the least distance found, or infinity."""
    constant, lower, upper, best = first_constant, 0, np.inf, np.inf
    for _ in range(searches):
        distance = descend(constant)
        best = min(best, distance)
        if distance < np.inf:
            upper = constant
        else:
            lower = constant
        constant = constant * 10 if upper == np.inf else (lower + upper) / 2
    return best


def carlini_wagner_l2(image, label, target, confidence, abort_early, steps, learning_rate, **search):
    """In double precision, one image."""

    def descend(constant):
        start = w = np.arctanh(0.999999 * (2 * image - 1))
        m = v = np.zeros_like(w)
        best, last = np.inf, np.inf
        for k in range(steps):
            x = (np.tanh(w) + 1) / 2
            delta = x - (np.tanh(start) + 1) / 2
            value, slope = margin_and_gradient(x, label, target)
            if value > 0 and value >= confidence:
                best = min(best, np.linalg.norm(x - image))
            hinge = max(confidence - value, 0)
            loss = (delta**2).sum() + constant * hinge
            if abort_early and k % (steps // 10) == 0:
                if loss > PROGRESS * last:
                    break
                last = loss
            g = (2 * delta - constant * (hinge > 0) * slope) * (1 - np.tanh(w) ** 2) / 2
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            w = w - learning_rate * (m / (1 - 0.9 ** (k + 1))) / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-8)
        return best

    return search_over_constants(descend, **search)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(("confidence", "abort_early"), [(0.0, True), (0.0, False), (0.5, True)])
def test_l2_in_numpy(confidence, abort_early, targeted):
    images = images_of(12, 1.0)
    labels = jnp.argmax(network(images), axis=1)
    targets = (labels + 1) % 6 if targeted else None
    attack = attacks.CarliniWagnerL2(confidence=confidence, abort_early=abort_early, **SMALL)
    found = attack.run(keys_of(images), network, images, labels, targets=targets)
    expected = [
        carlini_wagner_l2(
            np.asarray(image, float).ravel(), label, target, confidence=confidence, abort_early=abort_early, **SMALL
        )
        for image, label, target in zip(images, np.asarray(labels), targets if targeted else [None] * 12, strict=True)
    ]
    assert found.success.all()
    np.testing.assert_allclose(found.norm, expected, rtol=5e-3)
    assert (found.loss >= confidence).all()
    if abort_early:
        assert len(set(np.asarray(found.gradients).tolist())) > 1, "examples go on each in its own time"
    else:
        np.testing.assert_array_equal(found.gradients, 6 * 60)


def test_closed_form_of_l2_on_a_linear_model():
    images, labels, distances = linear_problem(2)
    found = attacks.CarliniWagnerL2(steps=300, first_constant=1e-4).run(keys_of(images), linear, images, labels)
    assert found.success.all()
    assert (found.norm >= distances.min(axis=1) * (1 - 1e-5)).all()
    reached = distances[np.arange(16), jnp.argmax(linear(found.images), axis=1)]
    np.testing.assert_allclose(found.norm, reached, rtol=0.02)


def test_closed_form_of_linf_on_a_linear_model():
    """Within the factor by which the bound shrinks."""
    images, labels, distances = linear_problem(1)
    attack = attacks.CarliniWagnerLinf(steps=1500, first_constant=1e-2, steps_per_constant=50)
    found = attack.run(keys_of(images), linear, images, labels)
    assert found.success.all()
    assert (found.norm >= distances.min(axis=1) * (1 - 1e-5)).all()
    reached = distances[np.arange(16), jnp.argmax(linear(found.images), axis=1)]
    np.testing.assert_allclose(found.norm, reached, rtol=0.12)


def fewest_pixels(images, labels):
    """Of a linear model: by the most that each pixel can add to the difference of two logits, the largest first."""
    x = np.asarray(images, float).reshape(len(images), -1)
    fewest = []
    for row, label in zip(x, np.asarray(labels), strict=True):
        counts = []
        for other in set(range(4)) - {int(label)}:
            w = WEIGHTS[:, other] - WEIGHTS[:, label]
            most = np.where(w > 0, w * (1 - row), -w * row).reshape(-1, 3).sum(axis=1)
            gained = np.cumsum(-np.sort(-most))
            counts.append(1 + (gained + (row - 0.5) @ w <= 0).sum())
        fewest.append(min(counts))
    return np.array(fewest)


def test_closed_form_of_l0_on_a_linear_model():
    images, labels, _ = linear_problem(2)
    fewest = fewest_pixels(images, labels)
    attack = attacks.CarliniWagnerL0(steps=1500, steps_per_constant=40, learning_rate=0.1, first_constant=1e-2)
    found = attack.run(keys_of(images), linear, images, labels)
    assert found.success.all()
    assert (found.norm >= fewest).all()
    assert (found.norm == fewest).mean() > 0.5
    assert (found.norm <= fewest + 1).all()


def test_examples_end_in_their_own_time():
    keys, (images, labels, _) = keys_of(images_of(16, 1.0)), linear_problem(2)
    wrong = labels.at[0].set((labels[0] + 1) % 4)
    for attack in (attacks.CarliniWagnerLinf(steps=30), attacks.CarliniWagnerL0(steps=30)):
        found = attack.run(keys, linear, images, wrong)
        assert found.gradients[0] == 0, "it was misclassified as it is"
        assert (found.gradients[1:] == 30).all()
    given_up = attacks.CarliniWagnerLinf(steps=100, steps_per_constant=5, first_constant=1e-6, largest_constant=3e-6)
    found = given_up.run(keys, linear, images, labels)
    assert not found.success.any()
    np.testing.assert_array_equal(found.gradients, 10)
    np.testing.assert_array_equal(found.images, images)


def test_black_and_white_images():
    """Where tanh space has no finite point."""
    images = jnp.round(images_of(8, 1.0))
    labels = jnp.argmax(network(images), axis=1)
    for attack in (attacks.CarliniWagnerL2(**SMALL), attacks.CarliniWagnerL0(steps=200, learning_rate=0.1)):
        found = attack.run(keys_of(images), network, images, labels)
        assert jnp.isfinite(found.images).all()
        assert found.images.min() >= 0
        assert found.images.max() <= 1
        np.testing.assert_array_equal(found.success, jnp.argmax(network(found.images), axis=1) != labels)


@pytest.mark.parametrize(
    ("attack", "field"),
    [
        (attacks.CarliniWagnerL2, {"searches": 0}),
        (attacks.CarliniWagnerL2, {"confidence": -1.0}),
        (attacks.CarliniWagnerL2, {"learning_rate": 0.0}),
        (attacks.CarliniWagnerL0, {"drop": -0.1}),
        (attacks.CarliniWagnerL0, {"constant_factor": 1.0}),
        (attacks.CarliniWagnerLinf, {"shrink": 2.0}),
        (attacks.CarliniWagnerLinf, {"steps": 0}),
    ],
)
def test_bad_settings(attack, field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attack(**field)
