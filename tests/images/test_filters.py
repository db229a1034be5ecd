"""Filters and resampling against scipy, Pillow and closed forms; the same under jit and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from robust_jax.images.borders import MODES
from robust_jax.images.filters import (
    disk_kernel,
    filter2d,
    gaussian_blur,
    gaussian_kernel,
    separable,
)
from robust_jax.images.quantise import quantise
from robust_jax.images.resample import map_coordinates, pixelate, resize, sample_grid

# What scipy calls the modes for which its plain name means something else.
SCIPY = {"wrap": "grid-wrap", "constant": "grid-constant"}

every_mode = pytest.mark.parametrize("mode", MODES)


def random_image(shape=(13, 17, 3), seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@every_mode
@pytest.mark.parametrize("order", [0, 1])
def test_map_coordinates(mode, order):
    image = random_image()
    rows, columns = np.random.default_rng(1).uniform(-20, 40, (2, 5, 40)).astype(np.float32)
    options = {"order": order, "mode": SCIPY.get(mode, mode), "cval": 0.3}
    expected = np.stack(
        [scipy.ndimage.map_coordinates(image[..., c], [rows, columns], **options) for c in range(3)], -1
    )
    read = lambda image: map_coordinates(image, rows, columns, order=order, mode=mode, cval=0.3)  # noqa: E731
    np.testing.assert_allclose(read(image), expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(read))(image[None])[0], expected, atol=1e-6)


def test_map_coordinates_of_a_single_row():
    image = random_image((1, 4, 1))
    for mode in MODES:
        expected = scipy.ndimage.map_coordinates(
            image[..., 0], [[-2.0, 3.0], [1.5, -1.0]], order=1, mode=SCIPY.get(mode, mode)
        )
        actual = map_coordinates(image, jnp.array([-2.0, 3.0]), jnp.array([1.5, -1.0]), mode=mode)
        np.testing.assert_allclose(actual[:, 0], expected, atol=1e-6)


def test_gradient_of_map_coordinates_is_its_transpose():
    image = random_image((5, 6, 1))
    rows, columns = np.random.default_rng(1).uniform(0, 4, (2, 9)).astype(np.float32)
    read = lambda image: map_coordinates(image, rows, columns)  # noqa: E731
    weights = random_image((9, 1), seed=2)
    gradient = jax.grad(lambda image: jnp.vdot(read(image), weights))(jnp.asarray(image))
    np.testing.assert_allclose(jnp.vdot(gradient, image), jnp.vdot(read(image), weights), rtol=1e-5)


def test_grid_is_map_coordinates():
    image = random_image()
    rows, columns = np.linspace(-3, 15, 8).astype(np.float32), np.linspace(2, 19, 5).astype(np.float32)
    expected = map_coordinates(image, *np.meshgrid(rows, columns, indexing="ij"))
    np.testing.assert_allclose(sample_grid(image, rows, columns), expected, atol=1e-6)


@every_mode
@pytest.mark.parametrize("sigma", [0.3, 1.0, 6.0])
def test_gaussian_blur(mode, sigma):
    image = random_image()
    expected = scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode=mode)
    np.testing.assert_allclose(gaussian_blur(image, sigma, mode=mode), expected, atol=1e-6)
    traced = jax.jit(lambda sigma: gaussian_blur(image, sigma, radius=30, mode=mode))
    np.testing.assert_allclose(traced(sigma), expected, atol=1e-6)
    np.testing.assert_allclose(traced(0.0), image, atol=1e-7)


@every_mode
@pytest.mark.parametrize("size", [(1, 3), (3, 5), (9, 11)])
def test_filter2d(mode, size):
    """Both ways: shifted copies for small kernels, Fourier transforms for large ones."""
    image, kernel = random_image(), random_image(size, seed=3) - 0.3
    expected = scipy.ndimage.correlate(image, kernel[..., None], mode=mode)
    np.testing.assert_allclose(filter2d(image, jnp.asarray(kernel), mode=mode), expected, atol=2e-5)
    images = jnp.stack([image, 1 - image])
    batched = jax.jit(jax.vmap(lambda image: filter2d(image, jnp.asarray(kernel), mode=mode)))(images)
    np.testing.assert_allclose(batched[0], expected, atol=2e-5)


@every_mode
def test_separable_is_filter2d(mode):
    image = random_image()
    rows, columns = random_image((5,), seed=4), random_image((3,), seed=5)
    expected = scipy.ndimage.correlate(image, (rows[:, None] * columns)[..., None], mode=mode)
    np.testing.assert_allclose(separable(image, rows, columns, mode=mode), expected, atol=1e-5)


def test_kernels():
    kernel = gaussian_kernel(2.0, radius=10, truncate=3.0)
    k = np.arange(-10, 11)
    expected = np.where(np.abs(k) <= 6, np.exp(-(k**2) / 8), 0)
    np.testing.assert_allclose(kernel, expected / expected.sum(), atol=1e-7)
    disk = disk_kernel(3.0, 0.0, size=9)
    assert int((np.asarray(disk) > 0).sum()) == 29, "whole points within a radius of 3"
    soft = disk_kernel(3.0, 0.5, size=11)
    np.testing.assert_allclose(soft.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(soft, scipy.ndimage.gaussian_filter(np.pad(disk, 1), 0.5, radius=1), atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (20, 31), (13, 9), (26, 17)])
@pytest.mark.parametrize(
    ("method", "filter"),
    [("box", Image.BOX), ("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC), ("nearest", Image.NEAREST)],
)
def test_resize_is_that_of_pillow(method, filter, shape):
    image = random_image()
    planes = [Image.fromarray(image[..., c]).resize(shape[::-1], filter) for c in range(3)]
    np.testing.assert_allclose(resize(image, shape, method), np.stack(planes, -1), atol=2e-6)


def test_area_is_the_mean_of_what_is_covered():
    image = random_image((12, 10, 1))
    np.testing.assert_allclose(resize(image, (4, 5), "area"), image.reshape(4, 3, 5, 2, 1).mean((1, 3)), atol=1e-6)
    row = np.arange(3, dtype=np.float32).reshape(1, 3, 1)
    np.testing.assert_allclose(resize(row, (1, 2), "area")[0, :, 0], [(0 + 0.5) / 1.5, (0.5 + 2) / 1.5], atol=1e-6)


@pytest.mark.parametrize("size", [(5, 8), (9, 16), (13, 17)])
def test_pixelate_is_pillow_there_and_back(size):
    pixels = np.round(255 * random_image()).astype(np.uint8)
    small = Image.fromarray(pixels).resize(size[::-1], Image.BOX)
    expected = np.asarray(small.resize((17, 13), Image.BOX))
    limits = {"max_height": 13, "max_width": 17, "min_height": 5, "min_width": 8}
    run = jax.jit(lambda height, width: pixelate(jnp.float32(pixels / 255), height, width, rounding=quantise, **limits))
    difference = np.abs(np.round(255 * run(*size)) - expected)
    # Pillow rounds means that end in a half by its own fixed-point weights.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_quantise():
    image = jnp.array([-0.2, 0.0, 0.4999 / 255, 0.5001 / 255, 100 / 255, 100.99 / 255, 1.0, 3.0])
    np.testing.assert_allclose(255 * quantise(image, "round_u8"), [0, 0, 0, 1, 100, 101, 255, 255], atol=1e-4)
    np.testing.assert_allclose(255 * quantise(image, "trunc_u8"), [0, 0, 0, 0, 100, 100, 255, 255], atol=1e-4)
    np.testing.assert_allclose(quantise(image, "float"), jnp.clip(image, 0, 1))
    levels = jnp.arange(256) / 255
    for mode in ("round_u8", "trunc_u8"):
        np.testing.assert_array_equal(jnp.round(255 * quantise(levels, mode)), np.arange(256))
        np.testing.assert_array_equal(jax.vmap(jax.grad(lambda x, mode=mode: quantise(x, mode)))(levels[1:-1]), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantise(jnp.zeros(2), "floor"), "Unknown mode 'floor'. Did you mean 'float'"),
        (lambda: filter2d(random_image(), jnp.ones((3, 3)), mode="edge"), "Unknown mode 'edge'"),
        (lambda: map_coordinates(random_image(), jnp.zeros(1), jnp.zeros(1), order=3), "order 0 or 1, got order=3"),
        (lambda: resize(random_image(), (3, 3), "bicubc"), "Did you mean 'bicubic'"),
        (lambda: resize(random_image(), (0, 3)), "side > 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
