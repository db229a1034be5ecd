"""Samplers: the exact posterior of a linear-Gaussian model within their errors, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import Linear
from scipy import stats
from tables import long_unless

from robust_jax import config, models, posteriors
from robust_jax.predictors import Ensemble, stack
from robust_jax.types import Batch

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
SIGMA, SCALE = 1.0, 0.7


def batch_of(images, labels, padding=0):
    """With padding that would be noticed."""
    images, labels = (jnp.asarray(np.concatenate([rows, 9 * rows[:padding]])) for rows in (images, labels))
    mask = jnp.arange(len(images)) < len(images) - padding
    return Batch(jnp.float32(images), labels, mask, jnp.arange(len(images)))


@pytest.fixture(scope="module")
def regression():
    """Batches, the exact posterior's mean and covariance, and where chains begin."""
    generator = np.random.default_rng(0)
    design = generator.normal(size=(30, 3)) @ np.diag([1.0, 0.5, 0.1])
    targets = design @ np.array([[1.0], [-1.0], [0.5]]) + SIGMA * generator.normal(size=(30, 1))
    covariance = np.linalg.inv(design.T @ design / SIGMA**2 + np.eye(3) / SCALE**2)
    mean = covariance @ design.T @ targets[:, 0] / SIGMA**2
    images = design.reshape(30, 1, 1, 3)
    batches = [batch_of(images[:20], np.float32(targets[:20])), batch_of(images[20:], np.float32(targets[20:]), 5)]
    return batches, mean, covariance, {"params": {"head": {"kernel": jnp.ones((3, 1))}}}


COMMON = {"prior": posteriors.GaussianPrior(SCALE), "likelihood": "gaussian", "sigma": SIGMA, "burn_in": 20}
SAMPLERS = {
    "hmc": posteriors.Hmc(step_size=0.25, trajectory=1.0, num_samples=700, num_chains=2, **COMMON),
    "nuts": posteriors.Nuts(step_size=0.35, max_doublings=4, num_samples=1200, **COMMON),
    "sgld": posteriors.Sgld(step_size=0.008, steps=40, batch_size=30, num_samples=1500, **COMMON),
    "sghmc": posteriors.Sghmc(step_size=0.07, friction=4.0, steps=30, batch_size=60, num_samples=1000, **COMMON),
}
# Those without a test of acceptance have the bias of their step size and of the noise of their gradients.
TOLERANCES = {"hmc": 0.1, "nuts": 0.1, "sgld": 0.2, "sghmc": 0.2}


@pytest.fixture(scope="module")
def sampled(regression):
    batches, _, _, start = regression
    return {name: sampler.fit(KEY, Linear(), start, batches) for name, sampler in SAMPLERS.items()}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_of_a_linear_gaussian_model_have_its_exact_moments(regression, sampled, name):
    _, mean, covariance, _ = regression
    weights = np.asarray(sampled[name].ensemble.stacked.variables["params"]["head"]["kernel"])[..., 0]
    deviations = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((weights.mean(axis=0) - mean) / deviations, 0, atol=TOLERANCES[name])
    found = np.cov(weights.T) / np.outer(deviations, deviations)
    np.testing.assert_allclose(found, covariance / np.outer(deviations, deviations), atol=TOLERANCES[name])


def test_samples_are_an_ensemble_like_any_other(regression, sampled):
    images = regression[0][1].image
    samples = sampled["hmc"]
    assert samples.num_members == 1400
    assert samples.log_density.shape == samples.acceptance_rate.shape == (2, 700)
    weights = samples.ensemble.stacked.variables["params"]["head"]["kernel"]
    expected = jnp.einsum("bf,mfk->mbk", images.reshape(15, 3), weights)
    np.testing.assert_allclose(samples.members(images), expected, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(lambda f: f(images))(samples.ensemble.stacked), expected, atol=1e-5)
    both = stack([samples, samples])
    np.testing.assert_allclose(jax.vmap(lambda s: s.members(images))(both)[1], expected, atol=1e-5)
    run = jax.jit(lambda f, x: f(x))
    np.testing.assert_allclose(run(samples, images), samples(images), atol=1e-5)


def test_log_density_is_that_of_likelihood_and_prior(regression, sampled):
    batches = regression[0]
    design = np.concatenate([np.asarray(b.image).reshape(-1, 3)[np.asarray(b.mask)] for b in batches])
    targets = np.concatenate([np.asarray(b.label)[np.asarray(b.mask)] for b in batches])
    for name in ("nuts", "sghmc"):
        weights = np.asarray(sampled[name].ensemble.stacked.variables["params"]["head"]["kernel"])[:5]
        expected = stats.norm.logpdf(targets[None], design @ weights, SIGMA).sum((1, 2))
        expected += stats.norm.logpdf(weights / SCALE).sum((1, 2))
        np.testing.assert_allclose(sampled[name].log_density[0, :5], expected, rtol=1e-4)


@pytest.mark.parametrize("start", long_unless([2.0], [0.02, 2.0]))
@pytest.mark.parametrize("kind", [posteriors.Hmc, posteriors.Nuts])
def test_burn_in_finds_a_step_size(regression, kind, start):
    batches, mean, covariance, variables = regression
    settings = {**COMMON, "burn_in": 200, "num_chains": 2, "num_samples": 300, "target_acceptance": 0.8}
    samples = kind(step_size=start, **settings).fit(KEY, Linear(), variables, batches)
    # Whole numbers of steps make a trajectory longer than it is to be, and acceptance a little higher.
    np.testing.assert_allclose(samples.acceptance_rate.mean(axis=1), 0.8, atol=0.15)
    assert np.ptp(samples.step_size, axis=1).max() == 0
    assert 0.1 < float(samples.step_size.min()) <= float(samples.step_size.max()) < 2
    weights = np.asarray(samples.ensemble.stacked.variables["params"]["head"]["kernel"])[..., 0]
    np.testing.assert_allclose((weights.mean(axis=0) - mean) / np.sqrt(np.diag(covariance)), 0, atol=0.25)


def test_diagnostics_tell_chains_that_agree():
    """Of independent normal draws, of chains whose means differ, and of draws that each stay for five samples."""
    draws = np.random.default_rng(0).normal(size=(4, 250, 1, 1, 2))
    images = jnp.ones((3, 1, 1, 1))

    def samples_of(kernels):
        kernels = jnp.float32(kernels.reshape(*kernels.shape[:2], 1, 2))
        networks = models.predictor(Linear(), {"params": {"head": {"kernel": kernels.reshape(-1, 1, 2)}}})
        return posteriors.Samples(Ensemble(networks), jnp.zeros(kernels.shape[:2]), None)

    agreeing = samples_of(draws)
    assert agreeing.r_hat(images).shape == (3, 2)
    np.testing.assert_allclose(agreeing.r_hat(images), 1, atol=0.02)
    np.testing.assert_allclose(agreeing.effective_sample_size(images), 1000, rtol=0.2)
    apart = samples_of(draws + 3 * np.arange(4)[:, None, None, None, None] * np.array([1, 0]))
    assert float(apart.r_hat(images).min()) > 1.5
    slow = samples_of(np.repeat(draws[:, :50], 5, axis=1))
    np.testing.assert_allclose(slow.effective_sample_size(images), 200, rtol=0.3)
    with pytest.raises(ValueError, match="at least 4 samples of each chain, got 3"):
        samples_of(draws[:, :3]).r_hat(images)


MLP = models.Mlp(num_classes=3, widths=(4,), activation="tanh")
SHORT = {"num_samples": 3, "burn_in": 1}


@pytest.fixture(scope="module")
def classes():
    params, state = models.init(MLP, KEY, (4, 4, 1))
    images = np.random.default_rng(0).uniform(size=(12, 4, 4, 1)).astype(np.float32)
    return {"params": params, **state}, batch_of(images, np.arange(12) % 3)


@pytest.mark.parametrize(
    "sampler",
    [
        posteriors.Hmc(step_size=0.1, prior=posteriors.EmpCov(alpha=0.1, scale=0.5), **SHORT),
        posteriors.Nuts(step_size=0.1, max_doublings=3, prior=posteriors.StudentPrior(0.3), **SHORT),
        posteriors.Sgld(step_size=1e-3, steps=3, batch_size=4, prior=posteriors.LaplacePrior(0.3), **SHORT),
        posteriors.Sghmc(steps=3, batch_size=4, prior=posteriors.GaussianPrior(0.3), **SHORT),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_networks_are_sampled_by_key_with_any_prior(classes, sampler):
    variables, batch = classes
    first, again = (sampler.fit(KEY, MLP, variables, [batch]).members(batch.image) for _ in range(2))
    other = sampler.fit(jax.random.key(1), MLP, variables, [batch]).members(batch.image)
    assert first.shape == (3, 12, 3)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert len(np.unique(first[:, 0, 0])) > 1
    assert config.from_json(config.to_json(sampler)) == sampler


@pytest.mark.long
def test_convolutions_with_frn_are_sampled_under_emp_cov():
    model = models.ResNet(num_classes=3, stage_sizes=(1,), width=4, norm="frn")
    params, state = models.init(model, KEY, (6, 6, 1))
    batch = batch_of(jax.random.uniform(KEY, (6, 6, 6, 1)), np.arange(6) % 3)
    prior = posteriors.EmpCov(alpha=1.0, scale=0.3)
    samples = posteriors.Hmc(step_size=0.05, trajectory=0.5, prior=prior, **SHORT).fit(
        KEY, model, {"params": params, **state}, [batch]
    )
    assert samples.members(batch.image).shape == (3, 6, 3)
    assert float(samples.acceptance_rate.mean()) > 0.5


def test_what_cannot_be_sampled_is_refused(classes):
    variables, batch = classes
    with pytest.raises(ValueError, match="got none"):
        posteriors.Hmc().fit(KEY, MLP, variables, [])
    with pytest.raises(ValueError, match="got none"):
        posteriors.Hmc().fit(KEY, MLP, variables, [batch._replace(mask=jnp.zeros(12, bool))])
    with pytest.raises(ValueError, match="norm='frn'"):
        posteriors.Nuts().fit(KEY, MLP, {**variables, "batch_stats": {}}, [batch])
    with pytest.raises(FloatingPointError, match=r"Hmc\(step_size=5.0\); lower the step size"):
        posteriors.Hmc(step_size=5.0, trajectory=50.0, **SHORT).fit(KEY, MLP, variables, [batch])
    linear = {"params": {"head": {"kernel": jnp.ones((16, 3))}}}
    targets = batch._replace(label=jax.nn.one_hot(batch.label, 3))
    unstable = posteriors.Sgld(step_size=50.0, steps=40, likelihood="gaussian", sigma=0.1, **SHORT)
    with pytest.raises(FloatingPointError, match=r"Sgld\(step_size=50.0\) is not finite; lower"):
        unstable.fit(KEY, Linear(), linear, [targets])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: posteriors.Hmc(step_size=0.0), "step_size > 0"),
        (lambda: posteriors.Hmc(trajectory=-1.0), "trajectory > 0"),
        (lambda: posteriors.Hmc(num_samples=0), "num_samples > 0"),
        (lambda: posteriors.Hmc(burn_in=-1), "burn_in >= 0"),
        (lambda: posteriors.Nuts(step_size=-0.1), "step_size > 0"),
        (lambda: posteriors.Nuts(target_acceptance=1.0), "target_acceptance=1.0"),
        (lambda: posteriors.Hmc(target_acceptance=0.8, burn_in=0), "burn_in=0"),
        (lambda: posteriors.Nuts(likelihood="normal"), "Unknown likelihood 'normal'"),
        (lambda: posteriors.Sgld(batch_size=0), "batch_size > 0"),
        (lambda: posteriors.Sghmc(friction=0.0), "friction > 0"),
        (lambda: posteriors.Sghmc(step_size=1.0, gradient_noise=30.0), "step_size \\* gradient_noise <= 2"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
