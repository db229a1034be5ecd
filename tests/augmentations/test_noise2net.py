"""Noise2Net: its convolutions against JAX's own, what a block's result is like, and how far images move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax.augmentations import Noise2Net, noise2net
from robust_jax.core.random_words import random_normal

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(jax.random.key(1), (10, 12, 3), minval=0.3, maxval=0.7)


def test_convolutions_have_their_size_and_dilation():
    """Recomputed from the same draws."""
    kinds = set()
    for seed in range(12):
        key = jax.random.key(seed)
        size_key, dilation_key, kernel_key = jax.random.split(key, 3)
        dilation = int(jax.random.randint(dilation_key, (), 1, 4))
        kernel = random_normal(kernel_key, (3, 3, 3, 3))
        single = bool(jax.random.bernoulli(size_key))
        kinds.add((single, dilation))
        if single:
            kernel = jnp.zeros_like(kernel).at[1, 1].set(kernel[1, 1])
        expected = jax.lax.conv_general_dilated(
            IMAGE[None],
            kernel,
            (1, 1),
            "SAME",
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]
        np.testing.assert_allclose(noise2net._random_convolution(key, IMAGE), expected, atol=1e-4)
    assert {single for single, _ in kinds} == {True, False}
    assert {dilation for _, dilation in kinds} == {1, 2, 3}


def test_blocks_are_normalised():
    for seed in range(3):
        block = np.asarray(noise2net.random_block(jax.random.key(seed), IMAGE, 4))
        assert block.shape == IMAGE.shape
        np.testing.assert_allclose(block.mean(axis=(0, 1)), 0, atol=1e-4)
        np.testing.assert_allclose(block.var(axis=(0, 1)), 1, atol=1e-2)


def test_epsilon_says_how_far():
    """Four blocks of variance 1 each, in units of the images' standard deviation."""
    keys = jax.random.split(KEY, 200)
    change = np.asarray(jax.vmap(Noise2Net(epsilon=0.1, hidden=3), (0, None))(keys, IMAGE)) - np.asarray(IMAGE)[None]
    sizes = np.sqrt(np.mean(change**2, axis=(1, 2, 3))) / 0.25
    # ε is 0.075 on average; independent blocks would give twice that.
    assert 0.1 < sizes.mean() < 0.25
    assert sizes.max() < 4 * 0.1
    np.testing.assert_allclose(Noise2Net(epsilon=0.0)(KEY, IMAGE), IMAGE, atol=1e-6)
    wider = Noise2Net(epsilon=0.1, hidden=3, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.5))(KEY, IMAGE) - IMAGE
    spread = np.sqrt(np.mean(np.asarray(wider) ** 2, axis=(0, 1)))
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("fields", [{"epsilon": -0.1}, {"hidden": 0}, {"std": (0.0,)}])
def test_bad_input(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Noise2Net(**fields)
