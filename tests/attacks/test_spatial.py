"""Attacks on parameters of transforms, against scipy, brute force and closed forms."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from robust_jax import attacks, config, corruptions, predictors
from robust_jax.core.keys import example_keys

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(12 * 9 * 3, 20)) / 8, RNG.normal(size=(20, 4))


@jax.tree_util.Partial
def network(images):
    hidden = jnp.tanh((images.reshape(len(images), -1) - 0.5) @ jnp.asarray(FIRST, jnp.float32))
    return hidden @ jnp.asarray(SECOND, jnp.float32)


def problem(size=12, seed=1):
    noise = np.random.default_rng(seed).random((size, 12, 9, 3))
    images = jnp.asarray(np.clip(ndimage.gaussian_filter(noise, (0, 1, 1, 0)) * 3 - 1, 0, 1), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, jnp.argmax(network(images), axis=-1)


def turned(image, dx, dy, degrees):
    """In double precision by scipy."""
    height, width, channels = image.shape
    rows, columns = np.mgrid[:height, :width].astype(float)
    x, y = columns - dx - (width - 1) / 2, rows - dy - (height - 1) / 2
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    source = [-sin * x + cos * y + (height - 1) / 2, cos * x + sin * y + (width - 1) / 2]
    planes = [
        ndimage.map_coordinates(image[..., c], source, order=1, mode="grid-constant", cval=0.0) for c in range(channels)
    ]
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize("parameters", [(0, 0, 0), (2, -1, 0), (0.5, 0.25, 30), (-1.7, 2.2, -17)])
def test_rotation_and_translation_by_scipy(parameters):
    image = problem()[1][0]
    np.testing.assert_allclose(
        attacks.rotate_translate(image, *parameters), turned(np.asarray(image, float), *parameters), atol=1e-5
    )


def test_directions():
    image = jnp.zeros((9, 9, 1)).at[2, 4].set(1)
    assert attacks.rotate_translate(image, 2, 0, 0)[2, 6, 0] == 1, "right"
    assert attacks.rotate_translate(image, 0, 3, 0)[5, 4, 0] == 1, "down"
    np.testing.assert_allclose(attacks.rotate_translate(image, 0, 0, 90)[4, 6, 0], 1, atol=1e-5)
    np.testing.assert_allclose(attacks.rotate_translate(image, 1, 0, 90)[4, 7, 0], 1, atol=1e-5)


def test_gradient_in_the_parameters():
    image = problem()[1][0]
    weights = jnp.asarray(RNG.normal(size=image.shape), jnp.float32)
    # Within a cell of the pixel grid, where bilinear interpolation is smooth.
    at = np.array([0.3, -0.4, 7.0])
    gradient = jax.grad(lambda p: jnp.sum(weights * attacks.rotate_translate(image, *p)))(jnp.asarray(at, jnp.float32))
    for axis, width in enumerate((1e-4, 1e-4, 1e-4)):
        step = width * np.eye(3)[axis]
        ends = [np.sum(np.asarray(weights) * turned(np.asarray(image, float), *(at + s * step))) for s in (-1, 1)]
        np.testing.assert_allclose(gradient[axis], (ends[1] - ends[0]) / (2 * width), rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("eps", [1.0, 0.5])
def test_grid_is_brute_force(eps):
    keys, images, labels = problem()
    grid = (3, 1, 5)
    found = attacks.ParameterSearch(threat=attacks.Spatial(shift=0.2), grid=grid).run(
        keys, network, images, labels, eps=eps
    )
    axes = [eps * np.linspace(-1, 1, 3) * 0.2 * 9, [0.0], eps * np.linspace(-1, 1, 5) * 30]
    candidates = [(0.0, 0.0, 0.0), *itertools.product(*axes)]
    assert 0 < found.success.mean() < 1
    for image, label, row in zip(np.asarray(images, float), np.asarray(labels), range(12), strict=True):
        flat = np.stack([turned(image, *candidate).reshape(-1) for candidate in candidates])
        logits = np.tanh((flat - 0.5) @ FIRST) @ SECOND
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[:, label]
        wrong = logits.argmax(axis=1) != label
        judged = np.where(wrong, losses, -np.inf) if wrong.any() else losses
        assert bool(found.success[row]) == wrong.any()
        np.testing.assert_allclose(found.loss[row], judged.max(), rtol=1e-3)
        in_pixels = np.asarray(found.parameters[row]) * [9, 12, 1]
        np.testing.assert_allclose(in_pixels, candidates[judged.argmax()], atol=1e-4)
    assert (found.queries == 16).all()


def test_images_are_those_of_the_parameters():
    keys, images, labels = problem()
    for attack in (attacks.ParameterSearch(draws=5), attacks.ParameterPGD(steps=4, restarts=2)):
        found = attack.run(keys, network, images, labels)
        again = jax.vmap(attack.threat.apply)(found.parameters, images)
        np.testing.assert_allclose(found.images, again, atol=1e-6)
        limits = np.array([3 / 32, 3 / 32, 30])
        np.testing.assert_allclose(found.norm, np.max(np.abs(found.parameters) / limits, axis=1), rtol=1e-5)
        assert (found.norm <= 1 + 1e-6).all()


def test_more_draws_break_no_fewer_and_the_grid_most():
    keys, images, labels = problem(40)
    rates = [
        attacks.ParameterSearch(draws=1).run(keys, network, images, labels).success,
        attacks.ParameterSearch(draws=10).run(keys, network, images, labels).success,
    ]
    assert (rates[1] | ~rates[0]).all()
    grid = attacks.ParameterSearch(grid=(5, 5, 31), early_stop=True).run(keys, network, images, labels).success
    first_order = attacks.ParameterPGD(steps=10).run(keys, network, images, labels).success
    assert rates[0].mean() < rates[1].mean() < grid.mean()
    assert first_order.mean() < grid.mean() + 0.051


def brighter(parameters, image):
    """Another brightness of each channel."""
    return image + 0.3 * parameters[None, None]


@pytest.mark.parametrize(
    "attack",
    [attacks.ParameterPGD(steps=12), attacks.ParameterSearch(grid=(2, 2, 2)), attacks.ParameterSearch(draws=400)],
)
def test_closed_form_of_a_linear_problem(attack):
    """On logits linear in the parameters, with two classes, the worst ones are at the limits the signs name."""
    threat = attacks.Parameters(brighter, low=(-1.0, -0.5, 0.0), high=(1.0, 1.0, 0.8), neutral_values=(0.0, 0.0, 0.0))
    keys, images, _ = problem()
    images = 0.4 + 0.2 * images
    weights = jnp.asarray(RNG.normal(size=(12 * 9 * 3, 2)), jnp.float32)
    predictor = jax.tree_util.Partial(lambda images: images.reshape(len(images), -1) @ weights)
    labels = jnp.argmax(predictor(images), axis=-1)
    attack = dataclasses.replace(attack, threat=threat, loss="margin")
    found = attack.run(keys, predictor, images, labels)
    slope = np.asarray(weights).reshape(12 * 9, 3, 2).sum(axis=0) * 0.3
    direction = slope[:, 1 - np.asarray(labels)].T - slope[:, np.asarray(labels)].T
    worst = np.where(direction > 0, [1.0, 1.0, 0.8], [-1.0, -0.5, 0.0])
    before = attacks.margin(predictor(images), labels)
    gain = np.sum(direction * worst, axis=1)
    if getattr(attack, "grid", ()) is None:
        assert (found.loss <= before + gain + 1e-3).all()
        assert ((found.loss - before) / gain > 0.7).all()
    else:
        np.testing.assert_allclose(found.loss, before + gain, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found.parameters, worst, atol=1e-6)


def test_severity_of_a_corruption():
    """Between no damage and the worst severity, with one key for all images."""
    contrast = functools.partial(corruptions.COMPONENTS["contrast"](compat="clean"), jax.random.key(0))
    threat = attacks.Parameters(
        lambda parameters, image: contrast(image, parameters[0]), low=(0.0,), high=(5.0,), neutral_values=(0.0,)
    )
    keys, images, labels = problem(8)
    for attack in (
        attacks.ParameterSearch(threat=threat, grid=(11,)),
        attacks.ParameterPGD(threat=threat, steps=8, start="uniform"),
    ):
        found = attack.run(keys, network, images, labels)
        assert (found.parameters >= 0).all()
        assert (found.parameters <= 5).all()
        assert (found.loss >= attacks.cross_entropy(network(images), labels) - 1e-5).all()
        np.testing.assert_allclose(attack(keys, network, images, labels, eps=0.0), images, atol=1e-7)
        half = attack.run(keys, network, images, labels, eps=0.5)
        assert (half.parameters <= 2.5 + 1e-5).all()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_joint_is_at_least_as_strong_as_its_parts(norm):
    keys, images, labels = problem(60)
    radius = {"Linf": 0.02, "L2": 0.2}[norm]
    joint = attacks.Joint(attacks.Spatial(), norm, radius)
    additive = attacks.PGD(norm=norm, eps=radius, steps=20).run(keys, network, images, labels)
    spatial = attacks.ParameterPGD(steps=20).run(keys, network, images, labels)
    both = attacks.ParameterPGD(threat=joint, steps=20, restarts=2).run(keys, network, images, labels)
    assert 0.05 < additive.success.mean() < both.success.mean()
    assert 0.05 < spatial.success.mean() < both.success.mean()
    parameters, delta = both.parameters
    transformed = jax.vmap(attacks.Spatial().apply)(parameters, images)
    np.testing.assert_allclose(both.images, transformed + delta, atol=1e-6)
    sizes = {"Linf": np.abs(delta).max((1, 2, 3)), "L2": np.linalg.norm(delta.reshape(60, -1), axis=1)}[norm]
    assert (sizes <= radius * (1 + 1e-5)).all()
    assert both.images.min() >= -1e-6
    assert both.images.max() <= 1 + 1e-6


def test_gradients_averaged_over_draws():
    keys, images, labels = problem(4)
    noisy = predictors.through(network, lambda key, image: image + 0.01 * jax.random.normal(key, image.shape))
    joint = attacks.Joint(attacks.Spatial())
    result = attacks.ParameterPGD(threat=joint, steps=3, num_draws=4).run(keys, noisy, images, labels)
    assert (result.gradients == 16).all()


def test_components():
    attack = attacks.ParameterPGD(threat=attacks.Joint(attacks.Spatial(degrees=10.0), "L2", 0.5))
    assert config.from_json(config.to_json(attack)) == attack


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.Spatial(shift=-1.0), "shift >= 0"),
        (lambda: attacks.Spatial(degrees=np.inf), "finite degrees"),
        (lambda: attacks.Spatial(border="reflekt"), "Did you mean 'reflect'"),
        (lambda: attacks.Parameters(brighter, (0.0,), (1.0, 1.0)), "as many"),
        (lambda: attacks.Parameters(brighter, (1.0,), (0.0,), (0.5,)), "low <= neutral_values <= high"),
        (lambda: attacks.ParameterSearch(grid=(3, 3)), "Expected 3 positive numbers"),
        (lambda: attacks.ParameterSearch(grid=(3, 0, 3)), "Expected 3 positive numbers"),
        (lambda: attacks.ParameterSearch(draws=0), "draws > 0"),
        (lambda: attacks.ParameterSearch(threat=attacks.Joint(attacks.Spatial()), grid=(2,)), "parameters alone"),
        (lambda: attacks.Joint(attacks.Spatial(), "linf"), "Did you mean 'Linf'"),
        (lambda: attacks.Joint(attacks.Spatial(), radius=0.0), "radius > 0"),
        (lambda: attacks.ParameterPGD(keep="lats"), "Did you mean 'last'"),
        (lambda: attacks.ParameterPGD(relative_step=0.0), "relative_step > 0"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
