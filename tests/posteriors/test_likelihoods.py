"""Roots of the curvature of likelihoods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax.posteriors.likelihoods import curvature_roots, log_likelihoods

LABELS = jnp.arange(20) % 5


@pytest.mark.parametrize("scale", [1, 10, 300])
def test_roots_of_the_hessian(scale):
    """Also of sure networks, whose other probabilities are below what 1 - p can tell; in proportion to each entry."""
    logits = scale * jax.random.normal(jax.random.key(0), (20, 5))
    probs = np.exp(np.asarray(jax.nn.log_softmax(logits), np.float64))
    expected = -probs[:, :, None] * probs[:, None]
    for i in range(5):
        expected[:, i, i] = probs[:, i] * np.delete(probs, i, axis=1).sum(axis=1)
    roots = np.asarray(curvature_roots("categorical", "ggn", 1.0, logits, LABELS), np.float64)
    assert roots.shape == (20, 4, 5)
    found = np.einsum("bci,bcj->bij", roots, roots)
    size = np.sqrt(np.einsum("bi,bj->bij", *2 * [np.einsum("bii->bi", expected)]))
    np.testing.assert_array_less(np.abs(found - expected), 3e-5 * size + 1e-30)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_roots_against_differentiation(kind):
    logits = jax.random.normal(jax.random.key(0), (20, 5))
    labels = LABELS if kind == "categorical" else jax.random.normal(jax.random.key(1), (20, 5))
    loss = lambda logits, label: -log_likelihoods(kind, 0.5, logits[None], label[None])[0]  # noqa: E731
    for fisher, derivative in (("ggn", jax.hessian(loss)), ("empirical", jax.grad(loss))):
        roots = curvature_roots(kind, fisher, 0.5, logits, labels)
        expected = jax.vmap(derivative)(logits, labels)
        expected = expected if fisher == "ggn" else expected[:, :, None] * expected[:, None]
        np.testing.assert_allclose(jnp.einsum("bci,bcj->bij", roots, roots), expected, atol=1e-5)
