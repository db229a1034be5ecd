"""Randomised classifiers, expectation over their draws, steps without gradients, and means over members."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.test_attacks import convolutional, problem
from scipy.stats import binomtest

from robust_jax import attacks, predictors
from robust_jax.attacks.randomised import value_and_mean_gradient
from robust_jax.predictors import draw, ensemble, through

pytestmark = pytest.mark.long


def noisy(key, image, scale=1.0):
    return image + scale * jax.random.normal(key, image.shape)


def test_gradient_is_the_mean_over_draws():
    keys, images, labels = problem()
    classifier = draw(keys, through(convolutional, noisy), 3)

    def loss_fn(predictor, images):
        losses = attacks.cross_entropy(predictor(images), labels)
        return jnp.sum(losses), losses

    losses, gradient = value_and_mean_gradient(loss_fn, classifier, images, 4)
    expected, last = jnp.zeros_like(images), None
    for number in range(4):
        one = draw(classifier.keys, classifier, number)
        expected += jax.grad(lambda images, one=one: loss_fn(one, images)[0])(images) / 4
        last = loss_fn(one, images)[1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses, last, rtol=1e-5)


@pytest.mark.parametrize(
    "attack",
    [
        attacks.PGD(steps=4, num_draws=3),
        attacks.APGD(steps=8, num_draws=3),
        attacks.FAB(steps=3),
        attacks.Square(queries=9),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_randomised_classifiers_are_attacked_by_their_keys(attack):
    """The same draws whatever the batch, new ones in every step, and under jit."""
    keys, images, labels = problem()
    classifier = through(convolutional, partial(noisy, scale=0.05))
    whole = attack.run(keys, classifier, images, labels, eps=0.03)
    order = jnp.array([3, 0, 5, 1, 2, 4])
    permuted = attack.run(keys[order], classifier, images[order], labels[order], eps=0.03)
    np.testing.assert_allclose(permuted.images, whole.images[order], atol=2e-4)
    inside = jax.jit(lambda keys, images: attack(keys, classifier, images, labels, eps=0.03))(keys, images)
    np.testing.assert_allclose(inside, whole.images, atol=2e-4)
    if hasattr(attack, "num_draws"):
        np.testing.assert_array_equal(whole.gradients, 3 * attack.num_steps)
    seen = []
    classifier = predictors.Randomised(lambda keys, images: seen.append(keys) or convolutional(images))
    attacks.PGD(steps=2)(keys, classifier, images, labels)
    assert seen


def test_averaging_over_draws_finds_what_one_draw_does_not():
    """Against much noise, the mean gradient is the better one."""
    keys, images, labels = problem(24)
    classifier = through(convolutional, noisy)
    clean = {}
    for num_draws in (1, 30):
        attack = attacks.PGD(eps=0.02, steps=5, num_draws=num_draws, keep="last", start="zero")
        adversarial = attack(keys, classifier, images, labels)
        clean[num_draws] = attacks.cross_entropy(convolutional(adversarial), labels).mean()
    assert clean[30] > clean[1] + 0.03


def test_rand_version():
    keys, images, labels = problem()
    classifier = through(convolutional, partial(noisy, scale=0.02))
    result = attacks.AutoAttack(version="rand", eps=0.05, steps=5, num_draws=3).run(keys, classifier, images, labels)
    assert result.success.sum() >= 4
    assert set(np.unique(result.broken_by)) <= {-1, 0, 1, 2}


def test_randomised_without_keys():
    with pytest.raises(ValueError, match="keys=None"):
        through(convolutional, noisy)(jnp.zeros((1, 8, 7, 3)))


def test_bpda_takes_the_gradient_of_the_approximation():
    _, images, labels = problem()
    quantise = lambda images: jnp.round(images * 4) / 4  # noqa: E731
    classifier = predictors.Bpda(convolutional, quantise)
    np.testing.assert_allclose(classifier(images), convolutional(quantise(images)), atol=1e-5)
    loss = lambda fn, images: attacks.cross_entropy(fn(images), labels).sum()  # noqa: E731
    gradient = jax.grad(partial(loss, classifier))(images)
    np.testing.assert_allclose(gradient, jax.grad(partial(loss, convolutional))(quantise(images)), atol=1e-5)
    halved = predictors.Bpda(convolutional, quantise, lambda images: images / 2)
    np.testing.assert_allclose(jax.grad(partial(loss, halved))(images), gradient / 2, atol=1e-5)
    assert not jax.grad(partial(loss, lambda images: convolutional(quantise(images))))(images).any()


@pytest.mark.parametrize("of", ["logits", "probs", "log_probs"])
def test_means_of_members(of):
    """Against NumPy; stacked members are the same."""
    keys, images, labels = problem()
    scales = (0.5, 1.0, 4.0)
    members = [jax.tree_util.Partial(_scaled, jnp.float32(scale)) for scale in scales]
    logits = np.stack([scale * np.asarray(convolutional(images), np.float64) for scale in scales])
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    outputs = ensemble(members, of=of)(images)
    if of == "logits":
        np.testing.assert_allclose(outputs, logits.mean(axis=0), rtol=1e-4, atol=1e-5)
    else:
        expected = probs.mean(axis=0) if of == "probs" else np.exp(np.log(probs).mean(axis=0))
        normalised = expected / expected.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(jax.nn.softmax(outputs), normalised, rtol=1e-4, atol=1e-6)
    stacked = jax.tree_util.Partial(_scaled, jnp.asarray(scales))
    np.testing.assert_allclose(predictors.Ensemble(stacked, of=of)(images), outputs, atol=1e-5)
    found = attacks.PGD(steps=3).run(keys, ensemble(members, of=of), images, labels)
    assert (found.loss > attacks.cross_entropy(outputs, labels)).mean() > 0.8


def _scaled(scale, images):
    return scale * convolutional(images)


def test_bad_means():
    with pytest.raises(ValueError, match="Did you mean 'log_probs'"):
        ensemble([convolutional], of="log_prob")
    with pytest.raises(ValueError, match="at least one member"):
        ensemble([])


def test_acceptance_is_the_share_of_draws_with_wilsons_interval():
    keys, images, labels = problem()
    classifier = through(convolutional, noisy)
    found = attacks.repeated_acceptance(keys, classifier, images, labels, num_draws=50)
    fooled = np.zeros(6)
    for number in range(50):
        fooled += np.asarray(draw(keys, classifier, number)(images)).argmax(axis=-1) != labels
    np.testing.assert_allclose(found.rate, fooled / 50, rtol=1e-6)
    for rate, low, high in zip(found.rate, found.low, found.high, strict=True):
        interval = binomtest(round(float(rate) * 50), 50).proportion_ci(method="wilson")
        np.testing.assert_allclose((low, high), (interval.low, interval.high), atol=1e-5)
    np.testing.assert_array_equal(found.accepted, found.low > 0.5)
    assert 0 < found.rate.mean() < 1
    with pytest.raises(ValueError, match="Expected a Randomised predictor, got Partial"):
        attacks.repeated_acceptance(keys, convolutional, images, labels)
