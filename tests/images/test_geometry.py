"""Warps against scipy and Pillow, and closed forms of the matrices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from robust_jax.images import geometry, resample

SHAPE = (23, 31)
CENTRE = geometry.image_centre(SHAPE)
MATRICES = {
    "rotation": geometry.rotation(17.0, centre=CENTRE),
    "shearing": geometry.shearing(12.0, centre=(15.5, 11.5)),
    "scaling": geometry.scaling(0.7, centre=(15.5, 11.5)),
    "enlarging": geometry.scaling(1.3, centre=CENTRE),
    "translation": geometry.translation(2.25, -3.5),
    "tilting": geometry.tilting(10.0, -8.0, centre=CENTRE, focal=38.0),
    "all of it": geometry.compose(
        geometry.rotation(-40.0, centre=(3.0, 5.0)),
        geometry.tilting(5.0, 20.0, centre=CENTRE, focal=30.0, offset=1.0),
        geometry.translation(-3.0, 1.0),
    ),
}
every_matrix = pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES.keys())


def smooth_image():
    noise = np.random.default_rng(0).random((*SHAPE, 3))
    return (np.clip(ndimage.gaussian_filter(noise, (1.5, 1.5, 0)) * 3 - 1, 0, 1) * 255).astype(np.uint8)


IMAGE = smooth_image()


def points(matrix):
    """Rows and columns that a matrix reads, in float64."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    columns, rows, depth = np.einsum("ij,jhw->ihw", np.asarray(matrix, np.float64), np.stack([x, y, np.ones_like(x)]))
    return rows / depth, columns / depth


@every_matrix
@pytest.mark.parametrize(
    ("mode", "theirs"),
    [("constant", "grid-constant"), ("nearest", "nearest"), ("reflect", "reflect"), ("mirror", "mirror")],
)
def test_warp_against_scipy(matrix, mode, theirs):
    image = IMAGE / np.float32(255)
    ours = jax.jit(lambda image, matrix: geometry.warp(image, matrix, mode=mode, cval=0.25))(image, matrix)
    planes = [
        ndimage.map_coordinates(image[..., c].astype(float), points(matrix), order=1, mode=theirs, cval=0.25)
        for c in range(3)
    ]
    np.testing.assert_allclose(ours, np.stack(planes, axis=-1), atol=2e-4)


@every_matrix
def test_outline_against_pillow(matrix):
    # Pillow's pixels have their centres at halves.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    coefficients = half @ np.asarray(matrix, np.float64) @ np.linalg.inv(half)
    coefficients = (coefficients / coefficients[2, 2]).ravel()[:8]
    theirs = Image.fromarray(IMAGE).transform(
        SHAPE[::-1], Image.Transform.PERSPECTIVE, tuple(coefficients), resample=Image.Resampling.BILINEAR
    )
    ours = 255 * geometry.warp(jnp.asarray(IMAGE / np.float32(255)), matrix, mode=geometry.OUTLINE)
    difference = np.asarray(ours) - np.asarray(theirs, np.float64)
    # Pillow cuts off what is beyond whole grey levels.
    assert difference.min() > -0.01
    assert difference.max() < 1.01


def test_order_0_reads_the_nearest_pixel():
    matrix = geometry.rotation(31.0, centre=CENTRE)
    ours = geometry.warp(jnp.asarray(IMAGE / np.float32(255)), matrix, order=0, mode="nearest")
    rows, columns = (
        np.clip(np.floor(p + 0.5).astype(int), 0, n - 1) for p, n in zip(points(matrix), SHAPE, strict=True)
    )
    np.testing.assert_array_equal(ours, (IMAGE / np.float32(255))[rows, columns])


def test_directions_and_sizes_of_the_builders():
    image = jnp.zeros((9, 9, 1)).at[2, 4].set(1.0)
    centre = geometry.image_centre((9, 9))
    where = lambda matrix: np.argwhere(np.asarray(geometry.warp(image, matrix))[..., 0] > 0.5).tolist()  # noqa: E731
    assert where(geometry.translation(3, 1)) == [[3, 7]]
    assert where(geometry.rotation(90.0, centre=centre)) == [[4, 6]]
    assert where(geometry.scaling(2.0, centre=centre)) == [[0, 4]]
    assert where(geometry.shearing(45.0, centre=centre)) == [[2, 2]]
    # 2 above the centre at the distance 10, turned towards the viewer: 10 · 2 cos / (10 − 2 sin) above.
    rows, columns = geometry.source_points(
        geometry.inverse(geometry.tilting(30.0, 0.0, centre=centre, focal=10.0)), (9, 9)
    )
    angle = np.deg2rad(30)
    assert rows[2, 4] == pytest.approx(4 - 10 * 2 * np.cos(angle) / (10 - 2 * np.sin(angle)), abs=1e-4)
    assert columns[2, 4] == pytest.approx(4)


def test_warps_compose_and_invert():
    first, second = MATRICES["tilting"], MATRICES["rotation"]
    rows, columns = geometry.source_points(geometry.compose(first, second), SHAPE)
    inner = np.stack([*points(second)[::-1], np.ones(SHAPE)])
    outer = np.einsum("ij,jhw->ihw", np.asarray(first, np.float64), inner)
    np.testing.assert_allclose(columns, outer[0] / outer[2], atol=1e-3)
    np.testing.assert_allclose(rows, outer[1] / outer[2], atol=1e-3)
    identity = np.asarray(geometry.compose(first, geometry.inverse(first)))
    np.testing.assert_allclose(identity / identity[2, 2], np.eye(3), atol=1e-4)


def test_identity_shape_and_what_is_behind_the_viewer():
    image = jnp.asarray(IMAGE / np.float32(255))
    np.testing.assert_array_equal(geometry.warp(image, jnp.eye(3)), image)
    part = geometry.warp(image, geometry.translation(-4, -2), shape=(5, 7))
    np.testing.assert_array_equal(part, image[2:7, 4:11])
    edge_on = geometry.warp(image, geometry.tilting(0.0, 89.9, centre=CENTRE, focal=20.0))
    assert np.isfinite(edge_on).all()


@pytest.mark.long
def test_vmap_over_matrices_and_gradients():
    image = jnp.asarray(IMAGE / np.float32(255))
    turn = lambda angle: geometry.warp(image, geometry.rotation(angle, centre=CENTRE))  # noqa: E731
    angles = jnp.array([0.0, 20.0, -90.0])
    for batched, angle in zip(jax.vmap(turn)(angles), angles, strict=True):
        np.testing.assert_allclose(batched, turn(angle), atol=2e-5)
    slope = jax.grad(lambda angle: jnp.mean(turn(angle) ** 2))(20.0)
    assert np.isfinite(slope)
    assert slope != 0
    weights = jax.grad(lambda image: jnp.sum(geometry.warp(image, MATRICES["tilting"])))(image)
    assert np.isfinite(weights).all()


def test_unknown_mode():
    with pytest.raises(ValueError, match="Did you mean 'outline'"):
        geometry.warp(jnp.zeros((3, 3, 1)), jnp.eye(3), mode="outlined")


@pytest.mark.long
def test_reading_row_by_row_has_the_derivatives_of_reading_at_once():
    """Of every mode and order, also under vmap; on other devices than a CPU both are the same program."""
    image = jnp.asarray(IMAGE[:6, :7] / np.float32(255))
    rows, columns = (jnp.asarray(x) for x in np.random.default_rng(0).uniform(-1.5, 7.5, (2, 5, 4)).astype(np.float32))

    def read(at_once, image, rows, columns):
        points = (rows.ravel(), columns.ravel()) if at_once else (rows, columns)
        return jnp.sum(resample.map_coordinates(image, *points, mode="mirror") ** 2)

    at_once, by_rows = (lambda *given, flat=flat: read(flat, *given) for flat in (True, False))
    given = (image, rows, columns)
    every = (0, 1, 2)
    tangents = jax.tree.map(jnp.ones_like, given)
    hessian = lambda function: jax.jvp(jax.grad(function, every), given, tangents)[1]  # noqa: E731
    for derivative in (
        lambda function: jax.grad(function, every)(*given),
        lambda function: jax.jvp(function, given, tangents),
        hessian,
        lambda function: jax.vmap(jax.grad(function, every), in_axes=(None, 0, None))(image, rows[None], columns),
    ):
        chex.assert_trees_all_close(derivative(by_rows), derivative(at_once), rtol=1e-4, atol=1e-4)
