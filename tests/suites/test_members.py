"""Metrics by number of members: against averages by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import special

from robust_jax import config, data, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.predictors import ensemble

DATA = data.evaluation(data.Digits().load("test"), batch_size=200, mesh=data_mesh(jax.devices()[:1]))


def linear(kernel, images):
    return images.reshape(len(images), -1) @ kernel


def kernels(count):
    return [jax.random.normal(jax.random.key(seed), (64, 10)) for seed in range(count)]


def test_rows_are_means_over_groups_of_members():
    members = kernels(5)
    predictor = ensemble([Partial(linear, kernel) for kernel in members])
    suite = suites.Members(counts=(1, 2, 5))
    store = suites.CaseStore()
    rows = list(suite.rows(suites.Context(jax.random.key(0), predictor, DATA, store=store)))
    images, labels = [], []
    for batch in DATA.batches():
        images.append(np.asarray(batch.image)[np.asarray(batch.mask)])
        labels.append(np.asarray(batch.label)[np.asarray(batch.mask)])
    images, labels = np.concatenate(images), np.concatenate(labels)
    probs = np.stack([special.softmax(images.reshape(len(images), -1) @ np.asarray(k), axis=-1) for k in members])
    for count in (1, 2, 5):
        groups = [probs[i * count : (i + 1) * count].mean(axis=0) for i in range(5 // count)]
        expected = {
            "error": np.mean([group.argmax(axis=-1) != labels for group in groups]),
            "nll": -np.mean([np.log(group[np.arange(len(labels)), labels]) for group in groups]),
        }
        for metric, value in expected.items():
            (row,) = [row for row in rows if (row.case, row.metric) == (f"{count} members", metric)]
            assert row.severity == count
            assert row.low <= row.value <= row.high
            np.testing.assert_allclose(row.value, value, rtol=1e-4)
    # Found again, and a subset of it too.
    assert list(suite.rows(suites.Context(None, predictor, DATA, store=store))) == rows
    assert len(list(suites.Members(counts=(2,)).rows(suites.Context(None, None, DATA, store=store)))) == len(rows) / 3
    assert config.from_json(config.to_json(suite)) == suite


def test_bad_input():
    with pytest.raises(ValueError, match="got none"):
        suites.Members(counts=())
    with pytest.raises(ValueError, match="counts > 0"):
        suites.Members(counts=(0,))
    with pytest.raises(ValueError, match="got one model"):
        list(suites.Members().rows(suites.Context(None, Partial(linear, jnp.zeros((64, 10))), DATA)))
    few = ensemble([Partial(linear, kernel) for kernel in kernels(2)])
    with pytest.raises(ValueError, match="counts <= 2"):
        list(suites.Members(counts=(1, 5)).rows(suites.Context(None, few, DATA)))
