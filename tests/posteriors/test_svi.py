"""Variational inference: the closed form of linear-Gaussian models, and what it is of networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import Linear, batch_of
from scipy import special, stats

from robust_jax import config, models, posteriors
from robust_jax.predictors import as_predictor, stack

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
SIGMA, SCALE = 0.8, 0.7


@pytest.fixture(scope="module")
def regression():
    """Correlated inputs, targets, and the exact posterior's mean and precision."""
    generator = np.random.default_rng(0)
    mixed = np.array([[1.0, 0.8, 0], [0, 0.6, 0], [0, 0, 0.3]])
    design = (generator.normal(size=(40, 3)) @ mixed).astype(np.float32)
    targets = (design @ np.array([[1.0], [-1.0], [0.5]]) + SIGMA * generator.normal(size=(40, 1))).astype(np.float32)
    precision = design.T @ design / SIGMA**2 + np.eye(3) / SCALE**2
    mean = np.linalg.solve(precision, design.T @ targets[:, 0]) / SIGMA**2
    return design, targets, mean, precision


@pytest.fixture(scope="module")
def fitted(regression):
    design, targets, _, _ = regression
    svi = posteriors.Svi(
        prior=posteriors.GaussianPrior(SCALE), likelihood="gaussian", sigma=SIGMA, steps=3000, learning_rate=0.03,
        batch_size=1000, num_draws=8, initial_scale=0.3,
    )  # fmt: skip
    batches = [batch_of(design.reshape(40, 1, 1, 3)[i], targets[i]) for i in (slice(30), slice(30, 40))]
    return svi.fit(KEY, Linear(), {"params": {"head": {"kernel": jnp.zeros((3, 1))}}}, batches)


def test_a_linear_gaussian_model_has_its_mean_and_the_inverse_of_its_precisions(regression, fitted):
    """Of all products of normal distributions the nearest; it is narrower than the marginals."""
    _, _, mean, precision = regression
    found = fitted.variables["params"]["head"]["kernel"][:, 0]
    np.testing.assert_allclose((found - mean) * np.sqrt(np.diag(precision)), 0, atol=0.1)
    scales = SCALE * np.exp(next(iter(fitted.normal.log_scales.values()))).reshape(-1)
    np.testing.assert_allclose(scales * np.sqrt(np.diag(precision)), 1, atol=0.05)
    assert (scales < 0.95 * np.sqrt(np.diag(np.linalg.inv(precision)))).sum() == 2


def test_the_bound_is_the_evidence_less_the_divergence(regression, fitted):
    design, targets, _, precision = regression
    marginal = SIGMA**2 * np.eye(40) + SCALE**2 * design @ design.T
    evidence = stats.multivariate_normal(np.zeros(40), marginal).logpdf(targets[:, 0])
    divergence = (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1]) / 2
    assert divergence > 0.2
    np.testing.assert_allclose(fitted.elbo[-500:].mean(), evidence - divergence, atol=0.3)


def test_draws_have_its_moments_and_the_prediction_is_their_mean(fitted):
    drawn = fitted.draw(KEY, 4000).stacked.variables["params"]["head"]["kernel"][..., 0]
    scales = SCALE * jnp.exp(next(iter(fitted.normal.log_scales.values()))).reshape(-1)
    np.testing.assert_allclose(drawn.mean(axis=0), fitted.variables["params"]["head"]["kernel"][:, 0], atol=0.02)
    np.testing.assert_allclose(drawn.std(axis=0), scales, rtol=0.05)
    np.testing.assert_array_equal(fitted.draw(KEY, 2).stacked.variables["params"]["head"]["kernel"][..., 0], drawn[:2])


NETWORK = models.ResNet(stage_sizes=(1,), width=4, num_classes=3)


@pytest.fixture(scope="module")
def classification():
    generator = np.random.default_rng(1)
    images = generator.random((24, 8, 8, 1), np.float32)
    params, state = models.init(NETWORK, KEY, (8, 8, 1))
    return batch_of(images, generator.integers(0, 3, 24)), {"params": params, **state}


@pytest.mark.parametrize("weights", ["last_layer", ("stem_conv", "head"), "all"])
def test_only_what_is_named_moves(classification, weights):
    batch, variables = classification
    svi = posteriors.Svi(weights=weights, steps=3, batch_size=8, num_samples=4)
    posterior = svi.fit(KEY, NETWORK, variables, [batch])
    names = {"/".join(entry.key for entry in path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)}
    members = posterior.draw(KEY, 4).stacked.variables
    moved = {
        "/".join(entry.key for entry in path)
        for path, same in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda old, new: bool((old[None] == new).all()), variables, members)
        )
        if not same
    }
    chosen = {"last_layer": ("params/head/",), "all": ("params/",)}.get(weights, ("params/stem_conv/", "params/head/"))
    assert moved == {name for name in names if name.startswith(chosen)}
    assert posterior.elbo.shape == (3,)

    run = jax.jit(lambda f, x: f(x))
    logits = run(posterior.bind(KEY), batch.image)
    each = posterior.draw(KEY, 4).members(batch.image)
    np.testing.assert_allclose(np.exp(logits), special.softmax(each, axis=-1).mean(axis=0), atol=1e-5)
    both = stack([posterior, posterior])
    together = jax.vmap(lambda p: p.bind(KEY)(batch.image))(both)
    np.testing.assert_allclose(together[1], logits, atol=1e-4)


def test_the_same_key_gives_the_same_bits(classification):
    batch, variables = classification
    svi = posteriors.Svi(steps=3, batch_size=8)
    first, second = (svi.fit(KEY, NETWORK, variables, [batch]) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_bad_input(classification):
    batch, variables = classification
    with pytest.raises(ValueError, match="Did you mean 'last_layer'"):
        posteriors.Svi(weights="last_layers")
    for name in ("steps", "learning_rate", "batch_size", "num_draws", "initial_scale", "num_samples", "sigma"):
        with pytest.raises(ValueError, match=f"{name} > 0"):
            posteriors.Svi(**{name: 0})
    with pytest.raises(ValueError, match="Did you mean 'head'"):
        posteriors.Svi(weights=("heads",)).fit(KEY, NETWORK, variables, [batch])
    with pytest.raises(ValueError, match="got none"):
        posteriors.Svi().fit(KEY, NETWORK, variables, [])
    with pytest.raises(TypeError, match=r"SviPosterior, whose draws need a key: use bind\(key\)"):
        as_predictor(posteriors.Svi(steps=1).fit(KEY, NETWORK, variables, [batch]))
    with pytest.raises(FloatingPointError, match="learning_rate=1e"):
        posteriors.Svi(steps=20, learning_rate=1e30).fit(KEY, NETWORK, variables, [batch])


def test_a_component_like_any_other():
    svi = posteriors.Svi(weights=("head",), prior=posteriors.StudentPrior(degrees=4.0))
    assert config.from_json(config.to_json(svi)) == svi
