"""RMSE and NLL of networks and ensembles against scipy; and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial

from robust_jax import data, posteriors, report, suites
from robust_jax.core.mesh import data_mesh

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(30, 3)).astype(np.float32)
Y = GENERATOR.normal(4, 10, 30).astype(np.float32)
WEIGHTS = GENERATOR.normal(size=(3, 3, 2)).astype(np.float32)
KEY = jax.random.key(0)
TEST = np.arange(0, 30, 2)


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    np.savez(folder / "toy.npz", x=X, y=Y, test_0=TEST)
    source = data.Tabular("toy", 0, str(folder)).load("test")
    return source, data.evaluation(source, batch_size=4, mesh=data_mesh(jax.devices()[:2]))


def moments(source):
    """Of each member, in the data's units and in float64."""
    inputs, _ = source.decode()
    outputs = inputs.reshape(-1, 3).astype(float) @ WEIGHTS.astype(float)
    (scale,), train = source.target_scale, np.setdiff1d(np.arange(30), TEST)
    return outputs[..., 0] * scale + Y[train].mean(), (np.log1p(np.exp(outputs[..., 1])) + 1e-6) * scale**2


def values(predictor, evaluation, **settings):
    rows = suites.RegressionSuite(**settings).rows(suites.Context(KEY, predictor, evaluation))
    return {row.metric: row for row in rows}


def test_one_network_is_scipys(split):
    source, evaluation = split
    mean, variance = (moment[0] for moment in moments(source))
    found = values(Partial(linear, jnp.asarray(WEIGHTS[0])), evaluation)
    expected = -scipy.stats.norm.logpdf(Y[TEST], mean, np.sqrt(variance)).mean()
    np.testing.assert_allclose(found["nll"].value, expected, rtol=1e-5)
    np.testing.assert_allclose(found["mixture_nll"].value, expected, rtol=1e-5)
    np.testing.assert_allclose(found["rmse"].value, np.sqrt(np.mean((mean - Y[TEST]) ** 2)), rtol=1e-5)
    for row in found.values():
        assert row.low < row.value < row.high
        assert row.count == 15


def test_members_are_a_mixture(split):
    """The published NLL is of one normal distribution with the mixture's moments; the mixture's own is lower here."""
    source, evaluation = split
    means, variances = moments(source)
    ensemble = posteriors.gaussian_ensemble([Partial(linear, jnp.asarray(each)) for each in WEIGHTS])
    found = values(ensemble, evaluation)
    mean = means.mean(axis=0)
    sd = np.sqrt((variances + means**2).mean(axis=0) - mean**2)
    np.testing.assert_allclose(found["rmse"].value, np.sqrt(np.mean((mean - Y[TEST]) ** 2)), rtol=1e-5)
    matched = -scipy.stats.norm.logpdf(Y[TEST], mean, sd).mean()
    np.testing.assert_allclose(found["nll"].value, matched, rtol=1e-5)
    density = scipy.stats.norm.pdf(Y[TEST], means, np.sqrt(variances)).mean(axis=0)
    np.testing.assert_allclose(found["mixture_nll"].value, -np.log(density).mean(), rtol=1e-5)
    # As one predictor it hands the same mixture to those who know no members.
    alone = values(lambda images: ensemble(images), evaluation)
    np.testing.assert_allclose(alone["nll"].value, matched, rtol=1e-4)


def test_means_alone_have_an_rmse(split):
    source, evaluation = split
    predictor = Partial(linear, jnp.asarray(WEIGHTS[0, :, :1]))
    found = values(predictor, evaluation, variance=False)
    assert set(found) == {"rmse"}
    np.testing.assert_allclose(found["rmse"].value, np.sqrt(np.mean((moments(source)[0][0] - Y[TEST]) ** 2)), rtol=1e-5)
    several = posteriors.gaussian_ensemble([predictor, predictor], variance=False)
    np.testing.assert_allclose(values(several, evaluation, variance=False)["rmse"].value, found["rmse"].value)


def test_store_and_table(split):
    _, evaluation = split
    store = suites.CaseStore()
    suite = suites.RegressionSuite()
    first = list(suite.rows(suites.Context(KEY, Partial(linear, jnp.asarray(WEIGHTS[0])), evaluation, store=store)))
    again = list(suite.rows(suites.Context(KEY, Partial(linear, jnp.asarray(WEIGHTS[1])), evaluation, store=store)))
    assert first == again
    text = report.comparison_markdown({"one": first}, suites.declarations({"regression": suite}))
    assert "RMSE" in text
    assert "mixture NLL" in text


def test_what_does_not_fit_is_named(split):
    _, evaluation = split
    with pytest.raises(ValueError, match=r"predictions \[b, 2\] .* got predictions \(4, 1\)"):
        values(Partial(linear, jnp.asarray(WEIGHTS[0, :, :1])), evaluation)
    classes = data.Arrays(test=(np.zeros((4, 2, 2, 1)), np.arange(4))).load("test")
    with pytest.raises(ValueError, match="real targets, got arrays with 4 classes"):
        values(lambda images: images, data.evaluation(classes, batch_size=4, mesh=data_mesh(jax.devices()[:1])))
    with pytest.raises(ValueError, match=r"data with classes, got \w+ with real targets"):
        list(suites.Clean().rows(suites.Context(KEY, Partial(linear, jnp.asarray(WEIGHTS[0])), evaluation)))
    with pytest.raises(ValueError, match="least_variance > 0"):
        suites.RegressionSuite(least_variance=0.0)
    with pytest.raises(ValueError, match="one member or more"):
        posteriors.gaussian_ensemble([])
