"""Rotation, translation, scale and shear by severity: from the identity on, by their matrices, either way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax.corruptions.base import VARIABLES
from robust_jax.corruptions.geometry import Rotation, Scale, Shear, Translation
from robust_jax.images import geometry

Y, X, C = np.mgrid[:32, :32, :3]
IMAGE = np.clip(120 + 70 * np.sin(Y / 4 + C) + 60 * np.cos(X / 5 - C * Y / 9), 0, 255).astype(np.uint8)
KEY = jax.random.key(5)

GEOMETRY = [Rotation(), Translation(), Scale(), Shear(), Rotation(max_angle=40.0, mode="reflect")]


@pytest.mark.parametrize("component", GEOMETRY, ids=str)
def test_geometry_grows_from_the_identity(component):
    image = jnp.asarray(IMAGE / np.float32(255))
    traces = []

    @jax.jit
    def corrupt(keys, image, severity):
        traces.append(None)
        return jax.vmap(component, (0, None, None))(keys, image, severity)

    keys = jax.random.split(KEY, 16)
    distances = [
        np.abs(np.asarray(corrupt(keys, image, s)) - np.asarray(image)).mean() for s in (0.0, 0.5, 1.0, 2.5, 5.0)
    ]
    assert distances[0] < 1e-5
    assert distances == sorted(distances)
    assert len(traces) == 1
    assert component.variable in VARIABLES
    with pytest.raises(ValueError, match="severity"):
        component(KEY, image, 5.5)


def test_geometry_is_that_of_its_matrix_with_a_random_sign():
    image = jnp.asarray(IMAGE / np.float32(255))
    centre = geometry.image_centre(image.shape)
    expected = {sign: geometry.warp(image, geometry.rotation(sign * 18.0, centre=centre)) for sign in (-1, 1)}
    found = []
    for key in jax.random.split(KEY, 12):
        turned = Rotation()(key, image, 3.0)
        found.append(min(expected, key=lambda sign: float(jnp.abs(expected[sign] - turned).max())))
        np.testing.assert_allclose(turned, expected[found[-1]], atol=1e-4)
    assert set(found) == {-1, 1}
    dot = jnp.zeros((65, 65, 1)).at[32, 32].set(1.0)
    moved = jax.vmap(Translation(), (0, None, None))(jax.random.split(KEY, 200), dot, 5.0)
    grid = jnp.mgrid[:65, :65]
    places = np.asarray(jnp.einsum("bhw,dhw->bd", moved[..., 0], grid.astype(jnp.float32))) - 32
    np.testing.assert_allclose(np.hypot(*places.T), 13, atol=1e-3)
    assert np.abs(places.mean(axis=0)).max() < 3


def test_bad_geometry_is_named():
    with pytest.raises(ValueError, match="max_factor > 1"):
        Scale(max_factor=0.5)
    with pytest.raises(ValueError, match="max_angle > 0"):
        Rotation(max_angle=-3.0)
    with pytest.raises(ValueError, match=r"max_angle / 90 in \[0, 1\]"):
        Shear(max_angle=120.0)
    with pytest.raises(ValueError, match="Did you mean 'nearest'"):
        Translation(mode="nearst")
