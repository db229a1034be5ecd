"""Poisson variates against scipy's distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from robust_jax.mathematics.poisson import random_poisson

NUM = 400_000


@pytest.mark.parametrize("rate", [0.01, 0.5, 3.0, 7.99, 8.0, 12.0, 60.0, 500.0])
def test_distribution(rate):
    x = np.asarray(jax.jit(lambda key: random_poisson(key, jnp.full((NUM,), rate)))(jax.random.key(1)))
    assert np.all(x == np.round(x))
    low, high = (int(scipy.stats.poisson.ppf(q, rate)) for q in (1e-3, 1 - 1e-3))
    values = np.arange(low, high + 1)
    cdf = scipy.stats.poisson.cdf(values, rate)
    expected = NUM * np.append(np.diff(cdf[:-1], prepend=0), 1 - cdf[-2])
    observed = np.bincount(np.clip(x, low, high).astype(int) - low, minlength=len(values))
    if len(values) > 1:
        assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_zero_rate_and_odd_sizes():
    rate = jnp.array([0.0, 0.0, 5.0, 0.0, 100.0])
    x = random_poisson(jax.random.key(0), rate)
    assert x.shape == rate.shape
    np.testing.assert_array_equal(x[jnp.array([0, 1, 3])], 0)
    assert random_poisson(jax.random.key(0), jnp.array([3.0])).shape == (1,)


def test_mixed_rates_keep_their_own():
    rate = jnp.tile(jnp.array([1.0, 20.0, 7.0, 200.0]), NUM // 8)
    x = np.asarray(random_poisson(jax.random.key(2), rate)).reshape(-1, 4)
    np.testing.assert_allclose(x.mean(0), rate[:4], rtol=0.02)
    np.testing.assert_allclose(x.var(0), rate[:4], rtol=0.03)
    assert np.abs(np.corrcoef(x.T) - np.eye(4)).max() < 0.02


def test_the_last_uniform_number_is_not_one(monkeypatch):
    """At either end of the words the quantile is finite."""
    for word in (0, 2**32 - 1):
        words = lambda key, shape, word=word: jnp.full(shape, word, jnp.uint32)  # noqa: E731
        monkeypatch.setattr("robust_jax.mathematics.poisson.random_words", words)
        x = random_poisson(jax.random.key(0), jnp.array([0.5, 7.0, 20.0, 500.0]))
        assert np.isfinite(x).all()
        expected = scipy.stats.poisson.ppf(np.clip((word + 0.5) / 2**32, 3e-8, 1 - 3e-8), [0.5, 7.0, 20.0, 500.0])
        np.testing.assert_allclose(x, expected, atol=2)
