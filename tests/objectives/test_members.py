"""Objectives of the members of deep ensembles: adversarial training and normal distributions, by closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from objective_values import evaluate

from robust_jax import attacks, config, data, models, train
from robust_jax.objectives import (
    Adversarial,
    AdversarialGaussianNll,
    CrossEntropy,
    GaussianNll,
    gaussian_nll,
    mean_and_variance,
)
from robust_jax.posteriors import gaussian_mixture
from robust_jax.types import Batch, Output

FGSM = attacks.FGSM(eps=0.01)


def linear_forward(params, images, *, key=None, train=True):
    flat = images.reshape(images.shape[0], -1)
    return Output(flat @ params, flat), {}


@pytest.fixture
def problem():
    keys = jax.random.split(jax.random.key(0), 3)
    images = 0.25 + 0.5 * jax.random.uniform(keys[0], (12, 2, 2, 1))
    labels = jax.random.randint(keys[1], (12,), 0, 2)
    params = jax.random.normal(keys[2], (4, 2))
    return params, Batch(images, labels, jnp.arange(12) < 10, jnp.arange(12))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_adversarial_is_the_closed_form_of_two_classes(problem, transform):
    """A step of eps along the sign of the weights' difference costs the margin eps times its 1-norm."""
    params, batch = problem
    objective = Adversarial(FGSM, weight=0.3)
    loss, aux = transform(lambda p, b: evaluate(objective, jax.random.key(1), linear_forward, p, b))(params, batch)
    logits = np.asarray(linear_forward(params, batch.image)[0].prediction)
    sign = 2 * np.asarray(batch.label) - 1
    margins = sign * (logits[:, 1] - logits[:, 0])
    cost = 0.01 * np.abs(params[:, 1] - params[:, 0]).sum()
    clean, moved = (np.log1p(np.exp(-m))[:10].mean() for m in (margins, margins - cost))
    np.testing.assert_allclose(loss, 0.7 * clean + 0.3 * moved, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["adversarial_cross_entropy"], moved, rtol=1e-5)


def test_adversarial_without_weight_is_cross_entropy_and_passes_no_gradient(problem):
    params, batch = problem
    key = jax.random.key(1)
    plain = jax.value_and_grad(lambda p: evaluate(CrossEntropy(), key, linear_forward, p, batch)[0])(params)
    neutral = jax.value_and_grad(lambda p: evaluate(Adversarial(FGSM, weight=0.0), key, linear_forward, p, batch)[0])(
        params
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), plain, neutral)
    images = FGSM(
        jax.random.split(key, 12), lambda x: linear_forward(params, x)[0].prediction, batch.image, batch.label
    )
    fixed = jax.grad(lambda p: evaluate(CrossEntropy(), key, linear_forward, p, batch._replace(image=images))[0])(
        params
    )
    gradient = jax.grad(lambda p: evaluate(Adversarial(FGSM, weight=1.0), key, linear_forward, p, batch)[0])(params)
    np.testing.assert_allclose(gradient, fixed, atol=1e-6)


def test_adversarial_is_a_config():
    experiment = train.Experiment(data=data.Digits(), model=models.ResNet(), objective=Adversarial(FGSM), members=5)
    assert config.from_json(config.to_json(experiment)) == experiment


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_gaussian_nll_is_scipys(transform):
    keys = jax.random.split(jax.random.key(0), 2)
    outputs, targets = jax.random.normal(keys[0], (3, 5, 4)), jax.random.normal(keys[1], (3, 5, 2))
    mean, variance = mean_and_variance(outputs)
    np.testing.assert_allclose(variance, np.log1p(np.exp(outputs[..., 2:])) + 1e-6, rtol=1e-5)
    expected = -scipy.stats.norm.logpdf(targets, mean, np.sqrt(variance)).sum(axis=-1)
    np.testing.assert_allclose(transform(gaussian_nll)(mean, variance, targets), expected, rtol=1e-5)


def test_gaussian_objective_finds_mean_and_variance(problem):
    """Of a network that is a bias, the least loss is at the mean and variance of the targets."""
    _, batch = problem
    targets = jax.random.normal(jax.random.key(3), (12, 1)) * 2 + 5
    batch = batch._replace(label=targets)

    def constant(params, images, *, key=None, train=True):
        return Output(jnp.broadcast_to(params, (len(images), 2)), images), {}

    kept = np.asarray(targets[:10, 0])
    best = jnp.array([kept.mean(), np.log(np.expm1(kept.var()))])
    (loss, aux), gradient = jax.value_and_grad(
        lambda p: evaluate(GaussianNll(), None, constant, p, batch), has_aux=True
    )(best)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    np.testing.assert_allclose(loss, 0.5 * (np.log(2 * np.pi * kept.var()) + 1), rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["squared_error"], kept.var(), rtol=1e-5)
    with pytest.raises(ValueError, match=r"twice as many as targets, got outputs \(12, 2\) and targets \(12, 3\)"):
        evaluate(GaussianNll(), None, constant, best, batch._replace(label=jnp.zeros((12, 3))))


def gaussian_problem(problem):
    """Targets of a linear network with one mean and one variance."""
    params, batch = problem
    targets = jax.random.normal(jax.random.key(3), (12, 1)) * 2
    objective = AdversarialGaussianNll(eps=0.02, weight=0.3)
    return params, batch._replace(label=targets), objective, objective.init(jax.random.key(0), params, batch)[1]


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_adversarial_regression_is_fgsm_of_one_percent_of_the_range(problem, transform):
    """Scipy's loss where every input moved by a fraction of its own range along the sign of the loss's slope."""
    params, batch, objective, state = gaussian_problem(problem)
    # Inputs of unlike ranges; those of padding do not count.
    image = batch.image * jnp.array([1.0, 5.0, 0.1, 2.0]).reshape(1, 2, 2, 1)
    batch = batch._replace(image=image.at[10:].set(1e3))
    run = transform(lambda p, b, s: evaluate(objective, jax.random.key(1), linear_forward, p, b, state=s))
    loss, aux = run(params, batch, state)

    def nll(images):
        outputs = images.reshape(12, 4).astype(float) @ np.asarray(params, float)
        return -scipy.stats.norm.logpdf(
            np.asarray(batch.label)[:, 0], outputs[:, 0], np.sqrt(np.log1p(np.exp(outputs[:, 1])) + 1e-6)
        )

    images = np.asarray(batch.image, float).reshape(12, 4)[:10]
    images = np.concatenate([images, np.zeros((2, 4))])
    slopes = np.stack([nll(images + 1e-6 * unit) - nll(images - 1e-6 * unit) for unit in np.eye(4)], axis=1)
    widths = np.ptp(images[:10], axis=0)
    clean, moved = nll(images)[:10].mean(), nll(images + 0.02 * widths * np.sign(slopes))[:10].mean()
    assert moved > clean
    np.testing.assert_allclose(loss, 0.7 * clean + 0.3 * moved, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["adversarial_nll"], moved, rtol=1e-5)
    np.testing.assert_allclose((aux.state[1] - aux.state[0]).ravel(), widths, rtol=1e-6)
    # The range holds that of earlier batches too.
    _, later = run(params, batch._replace(image=0.5 * batch.image), aux.state)
    np.testing.assert_allclose(later.state[1], aux.state[1])
    assert (later.state[0] <= aux.state[0]).all()


def test_adversarial_regression_without_weight_is_gaussian_nll(problem):
    params, batch, _, state = gaussian_problem(problem)
    key = jax.random.key(1)
    plain = jax.value_and_grad(lambda p: evaluate(GaussianNll(), key, linear_forward, p, batch)[0])(params)
    for neutral in (AdversarialGaussianNll(weight=0.0), AdversarialGaussianNll(eps=0.0)):
        found = jax.value_and_grad(lambda p, o=neutral: evaluate(o, key, linear_forward, p, batch, state=state)[0])(
            params
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, found)
    padding = batch._replace(mask=jnp.zeros(12, bool))
    loss, _ = evaluate(AdversarialGaussianNll(), key, linear_forward, params, padding, state=state)
    assert loss == 0


def test_mixture_has_the_moments_of_its_draws():
    generator = np.random.default_rng(0)
    means, variances = generator.normal(100, 2, (3, 4, 2)), generator.uniform(0.5, 2, (3, 4, 2))
    mean, variance = jax.jit(gaussian_mixture)(jnp.float32(means), jnp.float32(variances))
    np.testing.assert_allclose(mean, means.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, (variances + means**2).mean(axis=0) - means.mean(axis=0) ** 2, rtol=1e-4)
    draws = generator.normal(means, np.sqrt(variances), (20000, *means.shape))
    np.testing.assert_allclose(variance, draws.var(axis=(0, 1)), rtol=0.05)


def test_bad_values(problem):
    params, batch = problem
    with pytest.raises(ValueError, match=r"weight in \[0, 1\]"):
        Adversarial(FGSM, weight=2.0)
    soft = batch._replace(label=jax.nn.one_hot(batch.label, 2))
    with pytest.raises(ValueError, match="12 integer labels"):
        evaluate(Adversarial(attacks.Square()), jax.random.key(0), linear_forward, params, soft)
    with pytest.raises(ValueError, match="least_variance > 0"):
        GaussianNll(least_variance=0.0)
    with pytest.raises(ValueError, match="eps >= 0"):
        AdversarialGaussianNll(eps=-0.1)
    with pytest.raises(ValueError, match="means and as many variances"):
        mean_and_variance(jnp.zeros((2, 3)))
