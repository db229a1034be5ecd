"""Last-layer Laplace: exact where the posterior is normal, and by brute force elsewhere."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from robust_jax import models
from robust_jax.posteriors import LastLayerLaplace, laplace_bridge, probit
from robust_jax.types import Batch, Output

KEY = jax.random.key(0)
CURVATURES = ("full", "kron", "diag")
every_curvature = pytest.mark.parametrize("curvature", CURVATURES)


@dataclasses.dataclass(frozen=True)
class Linear:
    """Logits that are linear in the pixels."""

    def apply(self, variables, images, *, train):
        features = images.reshape(images.shape[0], -1)
        head = variables["params"]["head"]
        return Output(features @ head["kernel"] + head["bias"][None], features)


def batch_of(images, labels, mask=None):
    size = len(images)
    mask = jnp.ones(size, bool) if mask is None else mask
    return Batch(jnp.asarray(images, jnp.float32), jnp.asarray(labels), mask, jnp.arange(size))


def regression(curvature, sigma=0.5, delta=2.0):
    """Orthogonal columns for the diagonal, for which it is exact; any for the others."""
    generator = np.random.default_rng(0)
    design = np.column_stack([generator.normal(size=(40, 3)), np.ones(40)])
    if curvature == "diag":
        design = np.column_stack([3 * np.linalg.qr(design[:, ::-1])[0][:, 1:4], np.ones(40)])
        design[:, :3] -= design[:, :3].mean(axis=0)
        assert np.allclose(design.T @ design, np.diag(np.diag(design.T @ design)), atol=1e-9)
    targets = design @ generator.normal(size=(4, 2)) + sigma * generator.normal(size=(40, 2))
    precision = design.T @ design / sigma**2 + delta * np.eye(4)
    mean = np.linalg.solve(precision, design.T @ targets / sigma**2)
    variables = {"params": {"head": {"kernel": jnp.float32(mean[:3]), "bias": jnp.float32(mean[3])}}}
    return design, targets, precision, variables


@every_curvature
def test_linear_gaussian_model_has_its_exact_posterior_and_evidence(curvature):
    sigma, delta = 0.5, 2.0
    design, targets, precision, variables = regression(curvature, sigma, delta)
    laplace = LastLayerLaplace(curvature, delta, likelihood="gaussian", sigma=sigma)
    images = design[:, :3].reshape(40, 1, 1, 3)
    halves = [batch_of(images[i], np.float32(targets[i])) for i in (slice(25), slice(25, 40))]
    posterior = laplace.fit(None, Linear(), variables, halves)
    mean, covariance = posterior.distribution(halves[0].image)
    expected = np.einsum("bf,fg,bg->b", design[:25], np.linalg.inv(precision), design[:25])
    np.testing.assert_allclose(covariance, expected[:, None, None] * np.eye(2), atol=1e-5)
    np.testing.assert_allclose(
        mean, design[:25] @ np.vstack([*variables["params"]["head"]["kernel"], variables["params"]["head"]["bias"]]),
        atol=1e-5,
    )  # fmt: skip
    marginal = stats.multivariate_normal(np.zeros(40), sigma**2 * np.eye(40) + design @ design.T / delta)
    evidence = sum(marginal.logpdf(column) for column in targets.T)
    np.testing.assert_allclose(posterior.log_marginal_likelihood(), evidence, rtol=1e-5)


@pytest.fixture(scope="module")
def network():
    model = models.ResNet(stage_sizes=(1,), width=4, num_classes=3)
    params, state = models.init(model, KEY, (8, 8, 3))
    params["head"]["kernel"] = jax.random.normal(jax.random.key(3), params["head"]["kernel"].shape)
    images = jax.random.uniform(jax.random.key(1), (12, 8, 8, 3))
    labels = jax.random.randint(jax.random.key(2), (12,), 0, 3)
    return model, {"params": params, **state}, batch_of(images, labels)


def brute_force(model, variables, batch):
    """Per-example Jacobians of the logits in the last layer [n, k, k f], and Hessians of the loss."""

    def logits(head, image):
        params = {**variables["params"], "head": head}
        return model.apply({**variables, "params": params}, image[None], train=False).logits[0]

    jacobian = jax.vmap(jax.jacrev(logits), (None, 0))(variables["params"]["head"], batch.image)
    whole = np.concatenate([np.swapaxes(jacobian["kernel"], -1, -2), np.asarray(jacobian["bias"])[..., None]], -1)
    probs = special.softmax(np.asarray(models.predictor(model, variables)(batch.image), np.float64), axis=1)
    hessian = np.einsum("bk,kl->bkl", probs, np.eye(3)) - np.einsum("bk,bl->bkl", probs, probs)
    return whole.reshape(len(probs), 3, -1).astype(np.float64), hessian


@every_curvature
def test_network_against_brute_force(network, curvature):
    model, variables, batch = network
    posterior = LastLayerLaplace(curvature, 1.5).fit(None, model, variables, [batch])
    jacobian, hessian = brute_force(model, variables, batch)
    ggn = np.einsum("bki,bkl,blj->ij", jacobian, hessian, jacobian)
    if curvature == "diag":
        ggn = np.diag(np.diag(ggn))
    elif curvature == "kron":
        features = np.asarray(model.apply(variables, batch.image, train=False).features, np.float64)
        features = np.column_stack([features, np.ones(len(features))])
        ggn = np.kron(hessian.sum(axis=0), features.T @ features / len(features))
    precision = ggn + 1.5 * np.eye(len(ggn))
    expected = np.einsum("bki,ij,blj->bkl", jacobian, np.linalg.inv(precision), jacobian)
    _, covariance = posterior.distribution(batch.image)
    np.testing.assert_allclose(covariance, expected, rtol=1e-4, atol=1e-4)
    head = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables["params"]["head"])])
    logits = np.asarray(models.predictor(model, variables)(batch.image), np.float64)
    likelihood = np.sum(special.log_softmax(logits, axis=1)[np.arange(12), batch.label])
    evidence = likelihood - 0.75 * head @ head + 0.5 * (
        len(ggn) * np.log(1.5) - np.linalg.slogdet(precision)[1]
    )  # fmt: skip
    np.testing.assert_allclose(posterior.log_marginal_likelihood(), evidence, rtol=1e-4)


def test_masked_examples_do_not_count(network):
    model, variables, batch = network
    mask = jnp.arange(12) < 7
    masked = LastLayerLaplace("full", 1.0).fit(None, model, variables, [batch._replace(mask=mask)])
    alone = LastLayerLaplace("full", 1.0).fit(None, model, variables, [jax.tree.map(lambda leaf: leaf[:7], batch)])
    np.testing.assert_allclose(masked.factors.values, alone.factors.values, atol=1e-4)
    np.testing.assert_allclose(masked.log_marginal_likelihood(), alone.log_marginal_likelihood(), rtol=1e-5)


@every_curvature
def test_tuning_finds_the_greatest_evidence(network, curvature):
    model, variables, batch = network
    posterior = LastLayerLaplace(curvature).fit(None, model, variables, [batch])
    grid = np.exp(np.linspace(-9, 9, 200))
    evidences = [float(posterior.log_marginal_likelihood(delta)) for delta in grid]
    assert float(posterior.log_marginal_likelihood()) >= max(evidences) - 1e-2


@pytest.mark.parametrize("link", ["probit", "bridge", "monte_carlo"])
def test_predictive_is_a_logits_function(network, link):
    """Less sure than the network; alike under jit, of part of a batch, and stacked."""
    model, variables, batch = network
    posterior = LastLayerLaplace("kron", 0.5).fit(None, model, variables, [batch])
    logits_fn = posterior.logits_fn(KEY, link=link, num_samples=200)
    logits = jax.jit(lambda f, x: f(x))(logits_fn, batch.image)
    np.testing.assert_allclose(logits_fn(batch.image[3:5]), logits[3:5], atol=1e-4)
    plain = models.predictor(model, variables)(batch.image)
    assert jax.nn.softmax(logits).max(axis=-1).mean() < jax.nn.softmax(plain).max(axis=-1).mean()
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), logits_fn)
    np.testing.assert_allclose(jax.vmap(lambda f: f(batch.image))(stacked)[1], logits, atol=1e-4)


def test_probit_approximates_the_mean_of_the_softmax():
    generator = np.random.default_rng(0)
    mean = generator.normal(size=(1, 4))
    root = 0.6 * generator.normal(size=(4, 4))
    samples = mean + generator.normal(size=(200_000, 4)) @ root.T
    expected = special.softmax(samples, axis=1).mean(axis=0)
    found = jax.nn.softmax(probit(jnp.float32(mean), jnp.float32(root @ root.T)[None]))[0]
    np.testing.assert_allclose(found, expected, atol=0.08)
    np.testing.assert_allclose(probit(jnp.float32(mean), 1e-6 * jnp.eye(4)[None]), mean, atol=1e-5)


def test_bridge_inverts_the_map_from_dirichlet_to_normal_distributions():
    """Mean and covariance of a Dirichlet distribution in the softmax basis (arXiv 2003.01227, equations 3 and 4)."""
    alpha, k = np.array([0.7, 3.0, 1.2, 8.0]), 4
    mean = np.log(alpha) - np.log(alpha).mean()
    inverse = 1 / alpha
    covariance = np.diag(inverse) - (inverse[:, None] + inverse - inverse.sum() / k) / k
    # A part along (1, …, 1), which no softmax sees.
    shift = 0.3 + 0.5 * np.ones((k, k))
    found = laplace_bridge(jnp.float32(mean)[None], jnp.float32(covariance + shift)[None])[0]
    np.testing.assert_allclose(jnp.exp(found), alpha / alpha.sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda n: LastLayerLaplace("krone"), "Did you mean 'kron'"),
        (lambda n: LastLayerLaplace(prior_precision=0.0), "prior_precision"),
        (lambda n: LastLayerLaplace(sigma=-1.0), "sigma"),
        (lambda n: LastLayerLaplace().fit(None, *n[:2], []), "Expected data"),
        (lambda n: LastLayerLaplace().fit(None, *n[:2], [n[2]._replace(mask=jnp.zeros(12, bool))]), "Expected data"),
        (lambda n: LastLayerLaplace().fit(None, *n[:2], [n[2]._replace(image=n[2].image * jnp.inf)]), "not finite"),
        (lambda n: LastLayerLaplace().fit(None, n[0], {"params": {"fc": {}}}, [n[2]]), "got layers fc"),
        (lambda n: LastLayerLaplace().fit(None, *n[:2], [n[2]]).logits_fn(link="mean"), "link"),
        (lambda n: LastLayerLaplace().fit(None, *n[:2], [n[2]]).logits_fn(link="monte_carlo"), "Expected a key"),
    ],
)
def test_bad_input(network, run, message):
    with pytest.raises(ValueError, match=message):
        run(network)
