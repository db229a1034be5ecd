"""Colour spaces against scikit-image's values, Pillow and the standard library."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from robust_jax.images import colour

# Blue, grey, black; red, green, white.
COLOURS = np.array([[[0.2, 0.5, 0.9], [0.7, 0.7, 0.7], [0, 0, 0]], [[1, 0.1, 0.1], [0.3, 0.8, 0.2], [1, 1, 1]]])
# Of skimage.color.rgb2lab.
LAB = [
    [[53.7009, 12.1593, -58.3487], [72.7592, -0.0019, 0.0036], [0, 0, 0]],
    [[54.0866, 78.0882, 60.3972], [72.8786, -61.8449, 61.5692], [100, -0.0025, 0.0047]],
]
PAIRS = [
    (colour.rgb_to_hsv, colour.hsv_to_rgb),
    (colour.rgb_to_ycbcr, colour.ycbcr_to_rgb),
    (colour.rgb_to_lab, colour.lab_to_rgb),
]
every_pair = pytest.mark.parametrize(("there", "back"), PAIRS, ids=lambda function: function.__name__)


def image():
    """Random colours, with rows of greys, of black, of white and of each channel alone."""
    values = np.random.default_rng(0).uniform(size=(12, 10, 3))
    values[0] = values[0, :, :1]
    values[1], values[2] = 0, 1
    for channel in range(3):
        values[3 + channel] = 0
        values[3 + channel, :, channel] = np.linspace(0, 1, 10)
    return jnp.asarray(values, jnp.float32)


def test_hsv_is_that_of_the_standard_library():
    expected = [[colorsys.rgb_to_hsv(*pixel) for pixel in row] for row in np.asarray(image(), np.float64)]
    np.testing.assert_allclose(colour.rgb_to_hsv(image()), expected, atol=1e-6)
    expected = [[colorsys.hsv_to_rgb(*pixel) for pixel in row] for row in np.asarray(image(), np.float64)]
    np.testing.assert_allclose(colour.hsv_to_rgb(image()), expected, atol=1e-6)


def test_lab_is_that_of_scikit_image():
    np.testing.assert_allclose(colour.rgb_to_lab(jnp.asarray(COLOURS, jnp.float32)), LAB, atol=2e-3)


def test_ycbcr_and_grey_are_those_of_pillow():
    levels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    pixels = jnp.asarray(levels, jnp.float32) / 255
    expected = np.asarray(Image.fromarray(levels).convert("YCbCr"), np.float32)
    assert np.abs(colour.rgb_to_ycbcr(pixels) * 255 - expected).max() <= 1.01
    assert np.abs(colour.rgb_to_ycbcr(pixels) * 255 - expected).mean() < 0.5
    grey = np.asarray(Image.fromarray(levels).convert("L"), np.float32)
    assert np.abs(colour.grey(pixels) * 255 - grey).max() <= 0.501
    np.testing.assert_array_equal(colour.grey(pixels[..., :1]), pixels[..., 0])


@every_pair
def test_there_and_back(there, back):
    np.testing.assert_allclose(back(there(image())), image(), atol=2e-5)


@every_pair
def test_gradients_are_finite_on_greys_and_black(there, back):
    for function in (there, back, lambda x: back(there(x))):
        gradient = jax.grad(lambda x, function=function: jnp.sum(function(x) ** 2))(image())
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


@every_pair
def test_jit_and_vmap_agree_with_eager(there, back):
    batch = jnp.stack([image(), image()[::-1]])
    for function in (there, back):
        expected = jnp.stack([function(x) for x in batch])
        np.testing.assert_allclose(jax.jit(jax.vmap(function))(batch), expected, rtol=1e-4, atol=1e-5)
