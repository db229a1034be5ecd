"""Priors: densities beside SciPy's, covariances beside brute force, and maps that are inverse to each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from robust_jax import models
from robust_jax.posteriors import EmpCov, GaussianPrior, LaplacePrior, StudentPrior, input_covariance

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(size=(20, 5, 4, 2)).astype(np.float32)
IMAGES[:, 0, 0] = 0.25  # Always the same.
NETWORKS = {
    "mlp": (models.Mlp(num_classes=3, widths=(4,), mean=(0.5, 0.4), std=(0.5, 0.2)), "dense1"),
    "frn": (
        models.ResNet(num_classes=3, stage_sizes=(1,), width=4, norm="frn", mean=(0.5, 0.4), std=(0.5, 0.2)),
        "stem_conv",
    ),
}


def weights_of(model):
    params, _ = models.init(model, KEY, IMAGES.shape[1:])
    # None is 0, for densities that have a cusp there.
    return jax.tree.map(lambda leaf: leaf + 0.1, params)


@pytest.mark.parametrize(
    ("prior", "distribution"),
    [
        (GaussianPrior(0.3), stats.norm(scale=0.3)),
        (LaplacePrior(0.3), stats.laplace(scale=0.3)),
        (StudentPrior(0.3, degrees=4.0), stats.t(4.0, scale=0.3)),
    ],
    ids=["gaussian", "laplace", "student"],
)
def test_independent_densities_are_those_of_scipy(prior, distribution):
    model, _ = NETWORKS["mlp"]
    params = weights_of(model)
    fitted = prior.fit(model, params, IMAGES)
    expected = sum(distribution.logpdf(np.asarray(leaf)).sum() for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(fitted.log_density(params), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda f, p: f.log_density(p))(fitted, params), expected, rtol=1e-5)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    np.testing.assert_allclose(jax.vmap(fitted.log_density)(stacked), [expected] * 2, rtol=1e-5)
    gradient = jax.grad(fitted.log_density)(params)["head"]["bias"]
    shift = 1e-5
    differences = (distribution.logpdf(0.1 + shift) - distribution.logpdf(0.1 - shift)) / (2 * shift)
    np.testing.assert_allclose(gradient, np.full(3, differences), rtol=1e-3)


def brute_force(kernel_shape):
    """The covariance of what a kernel reads, one row after the other."""
    scaled = IMAGES / np.array([0.5, 0.2], np.float32)
    height, width = IMAGES.shape[1:3] if len(kernel_shape) == 2 else kernel_shape[:2]
    rows = [
        image[i : i + height, j : j + width].ravel()
        for image in scaled
        for i in range(5 - height + 1)
        for j in range(4 - width + 1)
    ]
    return np.cov(np.array(rows, np.float64).T)


@pytest.mark.parametrize("name", NETWORKS)
def test_emp_cov_has_the_covariance_of_what_the_first_kernel_reads(name):
    model, layer = NETWORKS[name]
    params = weights_of(model)
    kernel = np.asarray(params[layer]["kernel"])
    covariance = brute_force(kernel.shape)
    np.testing.assert_allclose(input_covariance(IMAGES, kernel.shape, std=(0.5, 0.2)), covariance, atol=1e-6)
    prior = EmpCov(alpha=0.5, epsilon=1e-2, scale=0.3)
    fitted = prior.fit(model, params, IMAGES)
    columns = stats.multivariate_normal(cov=0.5 * covariance + 1e-2 * np.eye(len(covariance)))
    expected = columns.logpdf(kernel.reshape(-1, kernel.shape[-1]).T).sum()
    others = {**params, layer: {k: v for k, v in params[layer].items() if k != "kernel"}}
    expected += sum(stats.norm(scale=0.3).logpdf(np.asarray(leaf)).sum() for leaf in jax.tree.leaves(others))
    np.testing.assert_allclose(fitted.log_density(params), expected, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(lambda f, p: f.log_density(p))(fitted, params), expected, rtol=1e-4)
    back = fitted.weights(fitted.unit(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), back, params)


def test_draws_have_the_prior_s_covariance():
    model, layer = NETWORKS["mlp"]
    params = weights_of(model)
    fitted = EmpCov(alpha=0.5, epsilon=1e-4).fit(model, params, IMAGES)
    unit = jax.tree.map(lambda leaf: jax.random.normal(KEY, (500, *leaf.shape)), params)
    draws = np.asarray(jax.vmap(fitted.weights)(unit)[layer]["kernel"]).transpose(0, 2, 1).reshape(-1, 40)
    covariance = 0.5 * brute_force((40, 4)) + 1e-4 * np.eye(40)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=5 * covariance.max() / np.sqrt(2000))
    # A pixel that is always the same has next to no weight.
    np.testing.assert_allclose(draws[:, :2].std(axis=0), 0.01, rtol=0.1)


def test_bad_input():
    model, _ = NETWORKS["mlp"]
    params = weights_of(model)
    for make in (GaussianPrior, LaplacePrior, StudentPrior, lambda scale: EmpCov(scale=scale)):
        with pytest.raises(ValueError, match="scale > 0"):
            make(0.0)
    with pytest.raises(ValueError, match="degrees > 0"):
        StudentPrior(degrees=0.0)
    with pytest.raises(ValueError, match="epsilon > 0"):
        EmpCov(epsilon=0.0)
    with pytest.raises(ValueError, match="Did you mean 'dense1'"):
        EmpCov(layer="dense0").fit(model, params, IMAGES)
    with pytest.raises(ValueError, match=r"reads images of \(5, 3, 2\), got shape \(40, 4\)"):
        EmpCov().fit(model, params, IMAGES[:, :, :3])
    with pytest.raises(ValueError, match="two images or more"):
        EmpCov().fit(model, params, IMAGES[:1])
