"""Equalisation, edges and distances against OpenCV's values, scipy and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageOps

from robust_jax.images.distance import distance_transform
from robust_jax.images.edges import canny, sobel
from robust_jax.images.histogram import clahe, equalise, equalise_levels

HEIGHT, WIDTH = 45, 52
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def texture() -> np.ndarray:
    """Levels with edges of every direction and strength."""
    y, x = ROWS, COLUMNS
    return ((x * x * 3 + y * y * 5 + x * y * 7) // 11 + 40 * ((x // 9 + y // 7) % 3) + (x * 37 + y * 91) % 23) % 256


def smooth() -> np.ndarray:
    """A disk on a slope: few levels."""
    y, x = ROWS, COLUMNS
    return np.minimum((x - 20) ** 2 + (y - 17) ** 2, 900) // 6 + ((x * y) // 16) % 90


def unit(levels: np.ndarray) -> jax.Array:
    return jnp.asarray(levels, jnp.float32) / 255


def test_equalise_is_that_of_opencv():
    new = np.round(np.asarray(jax.jit(equalise)(unit(smooth()))) * 255).astype(int)
    assert new[20, :6].tolist() == [101, 92, 83, 73, 67, 58]
    assert (new.sum(), (new * COLUMNS).sum()) == (298757, 9103755)


def test_equalise_is_nearly_that_of_pillow():
    levels = np.random.default_rng(0).integers(40, 120, (60, 70)).astype(np.uint8)
    expected = np.asarray(ImageOps.equalize(Image.fromarray(levels)), int)
    # Pillow's steps are whole numbers of pixels.
    assert np.abs(equalise(unit(levels)) * 255 - expected).max() < 5


def test_equalise_spreads_levels_evenly_and_keeps_constants():
    levels = jnp.asarray(np.random.default_rng(1).normal(100, 9, (64, 64)).astype(np.int32))
    new = np.asarray(equalise_levels(levels))
    assert (new.min(), new.max()) == (0, 255)
    assert abs(new.mean() - 127.5) < 4
    order = np.argsort(np.asarray(levels).reshape(-1), kind="stable")
    assert (np.diff(new.reshape(-1)[order]) >= 0).all()
    np.testing.assert_allclose(equalise(jnp.full((9, 7), 0.4)), 102 / 255)


@pytest.mark.parametrize(
    ("limit", "tiles", "row", "sums"),
    [
        (2.0, (8, 8), [177, 147, 122, 98, 83, 76], (290169, 8135670)),
        (4.0, (3, 5), [137, 118, 102, 88, 78, 66], (280638, 7895566)),
        (40.0, (5, 4), [236, 216, 192, 173, 152, 128], (319518, 8366331)),
    ],
)
def test_clahe_is_that_of_opencv(limit, tiles, row, sums):
    new = np.round(
        np.asarray(jax.jit(clahe, static_argnames="tiles")(unit(smooth()), clip_limit=limit, tiles=tiles)) * 255
    )
    # A level interpolated to a half may round either way.
    assert np.abs(new[20, :6] - row).max() <= 1
    np.testing.assert_allclose((new.sum(), (new * COLUMNS).sum()), sums, rtol=2e-5)


def test_clahe_names_bad_tiles():
    with pytest.raises(ValueError, match="tiles=0"):
        clahe(unit(smooth()), tiles=(0, 8))
    with pytest.raises(ValueError, match="larger than its 8x8 tiles"):
        clahe(jnp.zeros((4, 30)))


@pytest.mark.parametrize("mode", ["mirror", "nearest", "reflect"])
def test_sobel_is_that_of_scipy(mode):
    plane = texture().astype(np.float32)
    dx, dy = sobel(jnp.asarray(plane), mode=mode)
    np.testing.assert_allclose(dx, scipy.ndimage.sobel(plane, axis=1, mode=mode), atol=1e-3)
    np.testing.assert_allclose(dy, scipy.ndimage.sobel(plane, axis=0, mode=mode), atol=1e-3)


@pytest.mark.parametrize(
    ("divisor", "low", "high", "count", "sums"),
    [
        (1, 50, 150, 763, (198498, 473427)),
        (1, 100, 300, 754, (197430, 473129)),
        (1, 20, 700, 623, (167842, 431733)),
        (3, 30, 220, 634, (169719, 435718)),
        (2, 60, 330, 636, (170694, 438115)),
    ],
)
def test_canny_is_that_of_opencv(divisor, low, high, count, sums):
    edges = np.asarray(jax.jit(canny)(jnp.asarray(texture() // divisor, jnp.float32), float(low), float(high)))
    assert edges.sum() == count
    assert ((edges * (ROWS * 3 + COLUMNS * 7)).sum(), (edges * ROWS * COLUMNS).sum()) == sums


def test_canny_follows_long_faint_edges():
    """A spiral edge that is strong at one end only, against connected components."""
    y, x = np.mgrid[-60:60, -60:60]
    turn = np.hypot(y, x) / 15 - np.arctan2(y, x) / (2 * np.pi)
    inside = (turn % 1 < 0.5) & (np.hypot(y, x) < 55)
    shaded = scipy.ndimage.gaussian_filter(np.where(inside, 200 - 2 * np.hypot(y, x), 0.0), 1.5)
    plane = jnp.asarray(np.round(shaded), jnp.float32)
    edges, weak, strong = (canny(plane, low, high) for low, high in ((30, 450), (30, 30), (450, 450)))
    labels, _ = scipy.ndimage.label(weak, np.ones((3, 3)))
    expected = np.isin(labels, np.unique(labels[np.asarray(strong)])) & (labels > 0)
    np.testing.assert_array_equal(edges, expected)
    assert strong.sum() > 0
    assert edges.sum() > 5 * strong.sum()


@pytest.mark.parametrize("limit", [1, 2, 5, 20, 70])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_distances_are_those_of_scipy(limit, share):
    mask = np.random.default_rng(limit).uniform(size=(47, 61)) < share
    expected = np.minimum(scipy.ndimage.distance_transform_edt(mask), limit)
    np.testing.assert_allclose(distance_transform(jnp.asarray(mask), limit=limit), expected, atol=1e-5)


def test_chamfer_distances_are_those_of_opencv():
    mask = np.add.outer(np.arange(31) * 7, np.arange(40) * 11) % 53 != 0
    distance = distance_transform(jnp.asarray(mask), limit=20, metric="chamfer")
    np.testing.assert_allclose(
        distance[:2, :6], [[0, 1, 2, 3, 4, 4.1969], [1, 1.4, 2.1969, 3.1969, 4.1969, 4]], atol=1e-4
    )
    np.testing.assert_allclose(distance.sum(), 3596.872, atol=0.05)
    mask = np.ones((25, 25), bool)
    mask[12, 12] = False
    distance = distance_transform(jnp.asarray(mask), limit=20, metric="chamfer")
    for (row, column), expected in {(12, 19): 7, (0, 0): 16.8, (5, 2): 12.1907, (5, 9): 7.5907}.items():
        np.testing.assert_allclose(distance[row, column], expected, atol=1e-3)


def test_distance_without_any_background_is_the_limit():
    np.testing.assert_array_equal(distance_transform(jnp.ones((5, 6), bool), limit=3), 3)


def test_bad_arguments_are_named():
    mask = jnp.ones((5, 6), bool)
    with pytest.raises(ValueError, match="limit=0"):
        distance_transform(mask, limit=0)
    with pytest.raises(ValueError, match=r"Unknown metric 'chamfr'\. Did you mean 'chamfer'\?"):
        distance_transform(mask, limit=3, metric="chamfr")


@pytest.mark.parametrize(
    "function",
    [
        equalise,
        clahe,
        lambda plane: canny(jnp.round(plane * 255), 50.0, 150.0),
        lambda plane: distance_transform(plane > 0.2, limit=9),
    ],
    ids=["equalise", "clahe", "canny", "distance"],
)
def test_jit_and_vmap_agree_with_eager_and_gradients_are_finite(function):
    batch = jnp.stack([unit(texture()), unit(smooth()), unit(texture()[::-1])])
    expected = jnp.stack([function(plane) for plane in batch])
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(batch), expected, atol=1.01 / 255)
    assert np.isfinite(jax.grad(lambda plane: jnp.sum(function(plane).astype(jnp.float32)))(batch[0])).all()
