"""Subnetworks of Laplace approximations: which weights they are, and that only these are uncertain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import KEY, NETWORKS, batch_of, brute_force, expected_covariances, trained

from robust_jax import models
from robust_jax.posteriors import Laplace, LargestMagnitude, LargestVariance, RandomWeights, Swag

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def network():
    return trained(NETWORKS["resnet"])


@pytest.mark.parametrize("rule", [LargestVariance(30), LargestMagnitude(30), RandomWeights(30)])
def test_subnetwork(network, rule):
    model, variables, batch = network
    posterior = Laplace(rule, "full", 1.5).fit(KEY, model, variables, [batch])
    chosen = posterior.curvature.chosen
    assert sum(len(places) for places in chosen.values()) == 30
    # As matrices, in the blocks' order.
    jacobian, hessian = [], None
    for block in posterior.blocks:
        parts = [brute_force(model, variables, batch, lambda p, path=path: p == "/".join(path)) for path in block.paths]
        hessian = parts[0][1]
        jacobian.append(np.concatenate([part[0] for part in parts], axis=-1)[:, :, np.asarray(chosen[block.name])])
    if isinstance(rule, LargestMagnitude):
        every = np.concatenate([np.abs(np.ravel(leaf)) for leaf in jax.tree.leaves(variables["params"])])
        found = np.concatenate(
            [
                np.ravel(np.concatenate([np.reshape(_leaf(variables["params"], path), (-1, block.shape[1]))
                                         for path in block.paths]))[np.asarray(chosen[block.name])]
                for block in posterior.blocks
            ]
        )  # fmt: skip
        np.testing.assert_allclose(np.sort(np.abs(found)), np.sort(every)[-30:])
    jacobian = np.concatenate(jacobian, axis=-1)
    ggn = np.einsum("bki,bkl,blj->ij", jacobian, hessian, jacobian)
    expected = expected_covariances(jacobian, ggn + 1.5 * np.eye(30))
    _, covariance = posterior.distribution(batch.image)
    np.testing.assert_allclose(covariance, expected, atol=1e-4 * np.abs(expected).max())


def _leaf(params, path):
    for name in path:
        params = params[name]
    return params


def test_largest_variance_is_least_curvature(network):
    model, variables, batch = network
    diagonal = Laplace("all", "diag", 1.0).fit(None, model, variables, [batch])
    posterior = Laplace(LargestVariance(50), "full", 1.0).fit(None, model, variables, [batch])
    every, chosen = [], []
    for block in posterior.blocks:
        row = np.ravel(diagonal.curvature.values[block.name])
        every.append(row)
        chosen.append(row[np.asarray(posterior.curvature.chosen[block.name])])
    np.testing.assert_allclose(np.sort(np.concatenate(chosen)), np.sort(np.concatenate(every))[:50])


def test_variances_along_sgd_leave_out_weights_that_do_nothing():
    """Of a dead unit: nothing depends on what it reads, and under the curvature its variances are the largest."""
    model = models.Mlp(widths=(6, 4), num_classes=3)
    images = jax.random.uniform(KEY, (30, 2, 2, 1))
    labels = jnp.argmax(images.reshape(30, 4)[:, :3], axis=1)
    params, state = models.init(model, KEY, (2, 2, 1))
    first = next(iter(params))
    params[first]["bias"] = params[first]["bias"].at[0].set(-100.0)
    variables = {"params": params, **state}
    batch = batch_of(images, labels)
    swag = Swag(epochs=5, learning_rate=0.1, weight_decay=0.0, batch_size=10, rank=0)
    rules = {"laplace": LargestVariance(5), "swag": LargestVariance(5, swag)}
    chosen = {
        name: Laplace(rule, "full", 1.0).fit(KEY, model, variables, [batch]).curvature.chosen
        for name, rule in rules.items()
    }
    dead = np.arange(5) * 6
    assert set(np.asarray(chosen["laplace"][first])) <= set(dead)
    assert not set(np.asarray(chosen["swag"][first])) & set(dead)
    squares = swag.moments(KEY, model, variables, [batch]).squares
    every = np.sort(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(squares)]))
    found = np.concatenate(
        [np.ravel(_matrix(squares, name))[np.asarray(places)] for name, places in chosen["swag"].items()]
    )
    np.testing.assert_allclose(np.sort(found), every[-5:], rtol=1e-5)


def _matrix(tree, name):
    layer = _leaf(tree, name.split("/"))
    return np.concatenate([layer["kernel"], layer["bias"][None]])
