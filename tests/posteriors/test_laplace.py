"""Laplace approximations: exact where the posterior is normal, and by brute force elsewhere."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import KEY, NETWORKS, SHAPE, batch_of, brute_force, expected_covariances, trained
from scipy import special, stats
from tables import long_if, long_unless

from robust_jax import models
from robust_jax.core.mesh import data_mesh, replicate, shard_batch
from robust_jax.posteriors import (
    Laplace,
    LargestMagnitude,
    LargestVariance,
    RandomWeights,
    laplace_bridge,
    probit,
)
from robust_jax.types import Output

CURVATURES = ("full", "kron", "diag", "low_rank")
every_curvature = pytest.mark.parametrize("curvature", CURVATURES)


class Linear(nn.Module):
    """Outputs that are linear in the pixels."""

    num_outputs: int = 2

    @nn.compact
    def __call__(self, images, *, train=False):
        features = images.reshape(images.shape[0], -1)
        return Output(nn.Dense(self.num_outputs, name="head")(features), features)


def regression(curvature, sigma=0.5, delta=2.0):
    """Orthogonal columns for the diagonal, equal ones for a low rank, for which they are exact; any for the others."""
    generator = np.random.default_rng(0)
    design = np.column_stack([generator.normal(size=(40, 3)), np.ones(40)])
    if curvature == "low_rank":
        design[:, 2] = design[:, 1]
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
    laplace = Laplace("all", curvature, delta, likelihood="gaussian", sigma=sigma, rank=6)
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
    return trained(NETWORKS["resnet"])


@pytest.mark.parametrize("name", long_unless(["resnet"], NETWORKS))
@pytest.mark.parametrize("curvature", long_unless(["low_rank"], ["full", "diag", "low_rank"]))
def test_network_against_brute_force(name, curvature):
    model, variables, batch = trained(NETWORKS[name])
    posterior = Laplace("all", curvature, 1.5, rank=24).fit(None, model, variables, [batch])
    jacobian, hessian = brute_force(model, variables, batch)
    ggn = np.einsum("bki,bkl,blj->ij", jacobian, hessian, jacobian)
    if curvature == "diag":
        ggn = np.diag(np.diag(ggn))
    precision = ggn + 1.5 * np.eye(len(ggn))
    expected = expected_covariances(jacobian, precision)
    _, covariance = jax.jit(lambda p, x: p.distribution(x))(posterior, batch.image)
    np.testing.assert_allclose(covariance, expected, atol=1e-4 * np.abs(expected).max())
    weights = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables["params"])]).astype(np.float64)
    logits = np.asarray(models.predictor(model, variables)(batch.image), np.float64)
    likelihood = np.sum(special.log_softmax(logits, axis=1)[np.arange(12), batch.label])
    log_det = np.linalg.slogdet(precision)[1] - len(ggn) * np.log(1.5)
    evidence = likelihood - 0.75 * weights @ weights - 0.5 * log_det
    np.testing.assert_allclose(posterior.log_marginal_likelihood(), evidence, rtol=1e-4)


def test_kron_of_the_last_layer_against_brute_force(network):
    model, variables, batch = network
    posterior = Laplace("last_layer", "kron", 1.5).fit(None, model, variables, [batch])
    jacobian, hessian = brute_force(model, variables, batch, lambda path: path.startswith("head/"))
    features = np.asarray(model.apply(variables, batch.image, train=False).features, np.float64)
    features = np.column_stack([np.ones(len(features)), features])
    # The bias first, then the kernel by feature, as the tree's leaves.
    precision = np.kron(features.T @ features / 12, hessian.sum(axis=0)) + 1.5 * np.eye(jacobian.shape[-1])
    expected = expected_covariances(jacobian, precision)
    np.testing.assert_allclose(posterior.distribution(batch.image)[1], expected, rtol=1e-4, atol=1e-4)


def test_kron_of_a_convolution_sums_over_positions(network):
    """Each factor by hand from the layer's patches and the derivatives in its outputs."""
    model, variables, batch = network
    name = "stage1_block1/conv1"
    posterior = Laplace((name,), "kron", 1.5).fit(None, model, variables, [batch])
    (block,) = posterior.blocks
    layer = block.layer
    shift = jnp.zeros((1, *layer.output_shape))

    def one(image):
        run = lambda s: models.apply_tapped(model, variables, image, {layer.path: s})  # noqa: E731
        inputs = run(shift)[1][layer.path][0]
        return inputs, jax.jacrev(lambda s: run(s)[0].prediction[0])(shift)[:, 0]

    inputs, gradients = jax.jit(jax.vmap(one))(batch.image)
    padded = np.pad(np.asarray(inputs, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.stack([padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], axis=3)
    patches = patches.reshape(12, 64, -1)
    gradients = np.asarray(gradients, np.float64).reshape(12, 3, 64, -1)
    _, hessian = brute_force(model, variables, batch, lambda path: path == f"{name}/kernel")
    of_reads = np.einsum("bpi,bpj->ij", patches, patches) / (12 * 64)
    of_outputs = np.einsum("bkpo,bkl,blpq->oq", gradients, hessian, gradients)
    jacobian = np.einsum("bpi,bkpo->bkio", patches, gradients).reshape(12, 3, -1)
    precision = np.kron(of_reads, of_outputs) + 1.5 * np.eye(jacobian.shape[-1])
    expected = expected_covariances(jacobian, precision)
    np.testing.assert_allclose(posterior.distribution(batch.image)[1], expected, rtol=1e-3, atol=1e-4)
    kernel = brute_force(model, variables, batch, lambda path: path == f"{name}/kernel")[0]
    np.testing.assert_allclose(jacobian, kernel, atol=1e-4)


def test_empirical_fisher(network):
    model, variables, batch = network
    posterior = Laplace("last_layer", "full", 1.0, fisher="empirical").fit(None, model, variables, [batch])
    jacobian, _ = brute_force(model, variables, batch, lambda path: path.startswith("head/"))
    probs = special.softmax(np.asarray(models.predictor(model, variables)(batch.image), np.float64), axis=1)
    gradients = np.einsum("bk,bki->bi", probs - np.eye(3)[np.asarray(batch.label)], jacobian)
    expected = expected_covariances(jacobian, gradients.T @ gradients + np.eye(jacobian.shape[-1]))
    np.testing.assert_allclose(posterior.distribution(batch.image)[1], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("curvature", long_if(["full"], ["full", "kron", "diag"]))
def test_prior_of_each_layer(network, curvature):
    """Equal numbers are the one number; greater ones of one layer fix it."""
    model, variables, batch = network
    posterior = Laplace(("head", "stem_conv"), curvature, 2.0).fit(None, model, variables, [batch])
    of_each = {block.name: jnp.float32(2.0) for block in posterior.blocks}
    alike = dataclasses.replace(posterior, prior_precision=of_each)
    np.testing.assert_allclose(alike.distribution(batch.image)[1], posterior.distribution(batch.image)[1], rtol=1e-3)
    np.testing.assert_allclose(alike.log_marginal_likelihood(), posterior.log_marginal_likelihood(), rtol=1e-4)
    tuned = posterior.tuned("layer")
    assert tuned.log_marginal_likelihood() > posterior.tuned().log_marginal_likelihood()


def test_prior_of_each_parameter(network):
    model, variables, batch = network
    posterior = Laplace("last_layer", "diag", prior_per="parameter").fit(None, model, variables, [batch])
    curvature, delta = posterior.curvature.values["head"], posterior.prior_precision["head"]
    weights = jnp.concatenate([variables["params"]["head"]["kernel"], variables["params"]["head"]["bias"][None]])
    # Where the evidence is greatest, 1 - δ / (H + δ) = δ θ².
    inside = (delta > 1e-3) & (delta < 1e3)
    assert inside.sum() > 10
    residual = 1 - delta / (curvature + delta) - delta * weights**2
    np.testing.assert_allclose(residual[inside], 0, atol=2e-2)


@pytest.mark.long
def test_a_small_budget_takes_fewer_examples_at_once(network):
    model, variables, batch = network
    for curvature in ("full", "kron", "diag"):
        whole = Laplace("all", curvature, 1.0).fit(None, model, variables, [batch])
        parts = Laplace("all", curvature, 1.0, byte_budget=15_000_000).fit(None, model, variables, [batch])
        parts = dataclasses.replace(parts, byte_budget=300_000)
        for a, b in zip(whole.distribution(batch.image), parts.distribution(batch.image), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3)


@every_curvature
def test_drawn_weights_have_the_posterior_covariance(curvature):
    """A linear network's logits under drawn weights have the covariance of the linearised ones."""
    _, _, _, variables = regression("kron")
    images = jax.random.normal(KEY, (40, 1, 1, 3))
    laplace = Laplace("all", curvature, 2.0, likelihood="gaussian", sigma=0.5, rank=4)
    posterior = laplace.fit(None, Linear(), variables, [batch_of(images, np.zeros((40, 2), np.float32))])
    drawn = posterior.draw(jax.random.key(1), 20_000).members(images[:3])
    mean, covariance = posterior.distribution(images[:3])
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=2e-2)
    centred = drawn - drawn.mean(axis=0, keepdims=True)
    found = np.einsum("sbk,sbl->bkl", centred, centred) / 20_000
    np.testing.assert_allclose(found, covariance, atol=0.04 * float(np.abs(covariance).max()))


def test_coverage_says_what_becomes_of_each_parameter(network):
    model, variables, _ = network
    rules = {c.name: c.rule for c in Laplace("all").coverage(model, variables, SHAPE)}
    assert rules["head"] == rules["stage1_block1/conv1"] == "kron"
    assert rules["stem_norm/scale"] == "diag"
    last = {c.name: c.rule for c in Laplace().coverage(model, variables, SHAPE)}
    assert {name for name, rule in last.items() if rule != "fixed"} == {"head"}
    assert sum(c.num_weights for c in Laplace().coverage(model, variables, SHAPE)) == models.num_parameters(
        variables["params"]
    )
    fixed = {c.name: c.rule for c in Laplace("all", others="fixed").coverage(model, variables, SHAPE)}
    assert fixed["stem_norm/scale"] == "fixed"


def test_validated_prior_is_the_best_of_the_grid(network):
    model, variables, batch = network
    posterior = Laplace("last_layer", "kron", 1.0).fit(None, model, variables, [batch])
    best, search = posterior.validated([batch, batch._replace(mask=jnp.arange(12) < 5)], num_precisions=9)
    assert search.nll[jnp.argmin(search.nll)] == search.nll.min()
    assert best.prior_precision == search.best
    # By hand, at one of the points.
    posterior = dataclasses.replace(posterior, prior_precision=search.precisions[4])
    log_probs = jax.nn.log_softmax(posterior(batch.image))[jnp.arange(12), batch.label]
    expected = -(log_probs.sum() + log_probs[:5].sum()) / 17
    np.testing.assert_allclose(search.nll[4], expected, rtol=1e-4)
    assert search.at_edge == (search.best in (search.precisions[0], search.precisions[-1]))
    at_once = Laplace("last_layer", "kron", prior_by="held_out").fit(None, model, variables, [batch], [batch])
    assert at_once.prior_precision == posterior.validated([batch])[1].best


def test_members_are_tuned_and_validated_together(network):
    model, variables, batch = network
    other = {**variables, "params": jax.tree.map(lambda leaf: 0.5 * leaf, variables["params"])}
    both = [Laplace("last_layer", "kron", 1.0).fit(None, model, v, [batch]) for v in (variables, other)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    together = jax.vmap(lambda p: p.tuned().prior_precision)(stacked)
    np.testing.assert_allclose(together, [p.tuned().prior_precision for p in both], rtol=1e-3)
    validated = jax.vmap(lambda p: p.validated([batch], num_precisions=5)[1].nll)(stacked)
    np.testing.assert_allclose(validated[1], both[1].validated([batch], num_precisions=5)[1].nll, rtol=1e-3)


def test_masked_examples_do_not_count(network):
    model, variables, batch = network
    mask = jnp.arange(12) < 7
    masked = Laplace("last_layer", "full", 1.0).fit(None, model, variables, [batch._replace(mask=mask)])
    alone = Laplace("last_layer", "full", 1.0).fit(None, model, variables, [jax.tree.map(lambda leaf: leaf[:7], batch)])
    np.testing.assert_allclose(masked.curvature.values, alone.curvature.values, atol=1e-4)
    np.testing.assert_allclose(masked.log_marginal_likelihood(), alone.log_marginal_likelihood(), rtol=1e-5)


@every_curvature
def test_tuning_finds_the_greatest_evidence(network, curvature):
    model, variables, batch = network
    posterior = Laplace("last_layer", curvature, rank=10).fit(None, model, variables, [batch])
    grid = np.exp(np.linspace(-9, 9, 200))
    evidences = [float(posterior.log_marginal_likelihood(delta)) for delta in grid]
    assert float(posterior.log_marginal_likelihood()) >= max(evidences) - 1e-2


@pytest.mark.parametrize("link", long_unless(["probit"], ["probit", "bridge", "monte_carlo", "weights"]))
def test_predictive_is_a_predictor(network, link):
    """Less sure than the network; alike under jit, of part of a batch, and stacked."""
    model, variables, batch = network
    posterior = Laplace("last_layer", "kron", 0.5).fit(None, model, variables, [batch])
    predictor = posterior.predictive(KEY, link=link, num_samples=200)
    logits = jax.jit(lambda f, x: f(x))(predictor, batch.image)
    np.testing.assert_allclose(predictor(batch.image[3:5]), logits[3:5], atol=1e-4)
    plain = models.predictor(model, variables)(batch.image)
    assert jax.nn.softmax(logits).max(axis=-1).mean() < jax.nn.softmax(plain).max(axis=-1).mean()
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), predictor)
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
        (lambda n: Laplace(curvature="krone"), "Did you mean 'kron'"),
        (lambda n: Laplace("al"), "Did you mean 'all'"),
        (lambda n: Laplace(prior_precision=0.0), "prior_precision"),
        (lambda n: Laplace(sigma=-1.0), "sigma"),
        (lambda n: Laplace(prior_per="parameter"), "curvature diag, got curvature='kron'"),
        (lambda n: Laplace(LargestVariance(5)), "curvature='full' for a subnetwork"),
        (lambda n: Laplace(prior_by="held_out", likelihood="gaussian"), "likelihood='categorical'"),
        (lambda n: Laplace(prior_by="held_out").fit(None, *n), "held_out=None"),
        (lambda n: LargestMagnitude(0), "num_weights"),
        (lambda n: Laplace().fit(None, *n[:2], []), "Expected data"),
        (lambda n: Laplace().fit(None, *n[:2], [n[2][0]._replace(mask=jnp.zeros(12, bool))]), "Expected data"),
        (lambda n: Laplace().fit(None, *n[:2], [n[2][0]._replace(image=n[2][0].image * jnp.inf)]), "not finite"),
        (lambda n: Laplace(("hed",)).fit(None, *n), "Did you mean 'head'"),
        (lambda n: Laplace("all", others="error").fit(None, *n), "got stage1_block1/norm1/bias"),
        (lambda n: Laplace(LargestMagnitude(5000), "full").fit(None, *n), "num_weights=5000"),
        (lambda n: Laplace("all", "full", byte_budget=2_000_000).fit(None, *n), "full curvature of 4"),
        (lambda n: Laplace("all", "diag", byte_budget=1000).fit(None, *n), "derivatives of one example"),
        (lambda n: Laplace("last_layer", "low_rank").fit(None, *n), "got rank=32"),
        (
            lambda n: Laplace("all", "low_rank").fit(None, *n[:2], [n[2][0]._replace(mask=jnp.zeros(12, bool))]),
            "Expected data",
        ),
        (lambda n: Laplace(RandomWeights(5), "full").fit(None, *n), "Expected a key"),
        (lambda n: Laplace().fit(None, *n).predictive(link="mean"), "link"),
        (lambda n: Laplace().fit(None, *n).predictive(link="monte_carlo"), "Expected a key"),
        (lambda n: Laplace().fit(None, *n).validated([]), "Expected held-out data"),
    ],
)
def test_bad_input(network, run, message):
    model, variables, batch = network
    with pytest.raises(ValueError, match=message):
        run((model, variables, [batch]))


def test_batch_norm_in_training_is_an_error():
    class Trains(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            features = nn.BatchNorm(use_running_average=False, name="norm")(images).mean(axis=(1, 2))
            return Output(nn.Dense(3, name="head")(features), features)

    variables = {"params": Trains().init(KEY, jnp.zeros((1, 8, 8, 3)))["params"]}
    with pytest.raises(ValueError, match="norm in training mode"):
        Laplace().coverage(Trains(), variables, SHAPE)


@pytest.mark.long
def test_separate_bias_is_a_block_of_its_own(network):
    """Its Kronecker factors are 1 and that of the outputs: the bias's whole curvature."""
    model, variables, batch = network
    posterior = Laplace(("head/bias",), "kron", 1.5, separate_bias=True).fit(None, model, variables, [batch])
    jacobian, hessian = brute_force(model, variables, batch, lambda path: path == "head/bias")
    expected = expected_covariances(jacobian, hessian.sum(axis=0) + 1.5 * np.eye(3))
    np.testing.assert_allclose(posterior.distribution(batch.image)[1], expected, rtol=1e-4, atol=1e-5)
    whole = Laplace("all", "full", 1.5, separate_bias=True).fit(None, model, variables, [batch])
    together = Laplace("all", "full", 1.5).fit(None, model, variables, [batch])
    np.testing.assert_allclose(
        whole.distribution(batch.image)[1], together.distribution(batch.image)[1], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("curvature", long_unless(["kron"], ["full", "kron", "diag", "low_rank"]))
def test_batches_divided_over_devices(network, curvature):
    """Fitted to several, in parts, and predicted from: as on one device."""
    model, variables, batch = network
    names = ("head", "stage1_block1/conv2")
    laplace = Laplace(names, curvature, 1.0, rank=20, byte_budget=2_000_000)
    alone = laplace.fit(None, model, variables, [batch, batch])
    mesh = data_mesh(jax.devices()[:2])
    split = shard_batch(batch, mesh)
    found = laplace.fit(None, model, replicate(variables, mesh), [split, split])
    found = dataclasses.replace(found, byte_budget=150_000)
    run = jax.jit(lambda posterior, images: posterior.distribution(images))
    for a, b in zip(run(alone, batch.image), run(found, split.image), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
