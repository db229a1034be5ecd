"""The fast words are those of the published cipher, and look random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from robust_jax.core.random_words import random_normal, random_uniform, random_words, threefry


@pytest.mark.parametrize(
    ("key", "block", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key, block, expected):
    """The test vectors published with the Random123 library."""
    x, y = threefry(jnp.array(key, jnp.uint32), *(jnp.array([word], jnp.uint32) for word in block))
    assert (int(x[0]), int(y[0])) == expected


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (64, 64, 3)])
def test_words(shape):
    keys = jax.random.split(jax.random.key(0), 3)
    words = jax.jit(jax.vmap(lambda key: random_words(key, shape)))(keys)
    assert words.shape == (3, *shape)
    assert words.dtype == jnp.uint32
    np.testing.assert_array_equal(random_words(keys[1], shape), words[1])
    assert len(np.unique(words)) > 0.99 * words.size


def test_every_bit_is_even_and_independent_of_the_next_word():
    words = np.asarray(random_words(jax.random.key(1), (100_001,)))
    bits = (words[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    for statistic in (bits[1:].mean(0), (bits[1:] ^ bits[:-1]).mean(0), (bits[1:] ^ (words[:-1, None] >> 31)).mean(0)):
        z = (statistic - 0.5) * 2 * np.sqrt(len(words) - 1)
        assert np.abs(z).max() < 4.5
    assert stats.kstest(words / 2**32, "uniform").pvalue > 1e-3


def test_keys_of_another_kind():
    words = random_words(jax.random.key(0, impl="rbg"), (1000,))
    assert stats.kstest(np.asarray(words) / 2**32, "uniform").pvalue > 1e-3


def test_uniform_and_normal():
    u = np.asarray(random_uniform(jax.random.key(2), (200_000,)))
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    x = np.asarray(random_normal(jax.random.key(3), (200_000,)), np.float64)
    assert stats.kstest(x, "norm").pvalue > 1e-3
    np.testing.assert_allclose([x.mean(), x.std(), stats.kurtosis(x)], [0, 1, 0], atol=0.04)
