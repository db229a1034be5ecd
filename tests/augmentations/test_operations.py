"""The operations of policies against Pillow, on photographs, level for level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from robust_jax import augmentations
from robust_jax.augmentations import OPERATIONS, operate, operation_number
from robust_jax.augmentations.operations import WITHOUT_VALUE, from_levels, operate_levels, to_levels
from robust_jax.images.quantise import quantise

pytestmark = pytest.mark.long

RESAMPLING = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
VALUES = {
    "shear_x": (0.27, -0.1, 0.9),
    "shear_y": (0.3, -0.05, -0.99),
    "translate_x": (5 / 96, -30 / 96, 0.1234),
    "translate_y": (7 / 64, -1 / 64, 0.3),
    "rotate": (13.0, -30.0, 135.0),
    "brightness": (0.1, 0.55, 1.9),
    "saturation": (0.1, 0.55, 1.9),
    "contrast": (0.1, 0.55, 1.9),
    "sharpness": (0.1, 0.55, 1.9),
    "posterise": (1.0, 4.0, 7.0),
    "solarise": (0.0, 100 / 255, 250 / 255),
}
CASES = [(name, value) for name, values in VALUES.items() for value in values] + [(n, 0.0) for n in WITHOUT_VALUE]
NEUTRAL = dict.fromkeys(("brightness", "saturation", "contrast", "sharpness"), 1.0)
NEUTRAL |= {"posterise": 8.0, "solarise": 1.1}


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg", "dark"])
def photograph(request):
    if request.param == "dark":
        light = np.asarray(Image.fromarray(load_sample_image("china.jpg")).resize((96, 64)))
        return Image.fromarray((light // 3 + 40).astype(np.uint8))
    return Image.fromarray(load_sample_image(request.param)).resize((96, 64))


def as_array(image):
    return jnp.asarray(np.asarray(image), jnp.float32) / 255


def in_pillow(image, name, value, interpolation):
    width, height = image.size
    affine = {
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, value * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, value * height),
    }
    if name in affine:
        resample = RESAMPLING[interpolation]
        return image.transform(image.size, Image.Transform.AFFINE, affine[name], resample=resample)
    enhancers = {"saturation": "Color", **{n: n.capitalize() for n in ("brightness", "contrast", "sharpness")}}
    if name in enhancers:
        return getattr(ImageEnhance, enhancers[name])(image).enhance(value)
    return {
        "rotate": lambda: image.rotate(value, resample=RESAMPLING[interpolation]),
        "posterise": lambda: ImageOps.posterize(image, int(value)),
        "solarise": lambda: ImageOps.solarize(image, round(255 * value)),
        "auto_contrast": lambda: ImageOps.autocontrast(image),
        "equalise": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "identity": lambda: image,
    }[name]()


@pytest.mark.parametrize("interpolation", RESAMPLING)
def test_as_pillow(photograph, interpolation):
    """All in one program. Values of a few pixels fall on a level exactly, and either side of it by rounding."""
    image = as_array(photograph)
    run = jax.jit(lambda number, value: operate(number, value, image, interpolation=interpolation))
    for name, value in CASES:
        expected = np.asarray(in_pillow(photograph, name, value, interpolation)).astype(int)
        levels = 255 * np.asarray(run(operation_number(name), value))
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-3, err_msg="whole levels")
        difference = np.abs(np.round(levels) - expected)
        assert (difference > 0).mean() < (0.05 if interpolation == "bilinear" else 0.01), (name, value)
        assert difference.max() <= (1 if name not in ("shear_x", "shear_y", "rotate") else 255), (name, value)


def test_luma_is_pillows_level_for_level():
    colours = np.random.default_rng(0).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    ours = 255 * operate(operation_number("saturation"), 0.0, as_array(colours))
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    np.testing.assert_array_equal(np.round(ours), np.repeat(expected[..., None], 3, axis=-1))


@pytest.mark.parametrize("interpolation", RESAMPLING)
def test_on_eight_bits_as_on_floats(photograph, interpolation):
    image = as_array(photograph)
    levels = jnp.asarray(np.asarray(photograph))
    settings = {"interpolation": interpolation, "fill": 0.4}
    on_floats = jax.jit(lambda number, value: operate(number, value, image, **settings))
    on_levels = jax.jit(lambda number, value: operate_levels(number, value, levels, **settings))
    for name, value in CASES:
        number = jnp.int32(operation_number(name))
        found = on_levels(number, value)
        assert found.dtype == jnp.uint8
        expected = to_levels(on_floats(number, value))
        # Of what is computed in another order, a value may fall on a level exactly, and either side of it by rounding.
        difference = np.abs(np.asarray(found, int) - np.asarray(expected, int))
        assert (difference > 0).mean() < 1e-3, name
        assert difference.max() <= 1, name


def test_policies_have_the_derivative_of_their_operations():
    image = jnp.round(255 * jax.random.uniform(jax.random.key(0), (12, 16, 3))) / 255
    policy = augmentations.RandAugment()
    gradients = jax.vmap(jax.grad(lambda x, key: jnp.sum(policy(key, x) ** 2)), (None, 0))(
        image, jax.random.split(jax.random.key(1), 20)
    )
    assert jnp.isfinite(gradients).all()
    assert (jnp.abs(gradients).max(axis=(1, 2, 3)) > 0).mean() > 0.8, "all but those that count levels"
    np.testing.assert_array_equal(from_levels(to_levels(image)), quantise(image))


@pytest.mark.parametrize("name", VALUES)
def test_without_strength_nothing_changes(photograph, name):
    image = as_array(photograph)
    np.testing.assert_allclose(operate(operation_number(name), NEUTRAL.get(name, 0.0), image), image, atol=1e-6)


def test_constant_images_stay():
    image = jnp.full((8, 9, 3), 100 / 255)
    for name in ("auto_contrast", "equalise", "contrast", "saturation", "sharpness"):
        np.testing.assert_allclose(operate(operation_number(name), 0.5, image), image, atol=1e-6)


def test_fill():
    moved = operate(operation_number("translate_x"), 0.5, jnp.zeros((4, 8, 1)), fill=1.0)
    np.testing.assert_array_equal(moved[..., 0], np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 4, axis=0))


def test_each_of_a_batch_has_its_own():
    """By vmap, by two of them, and with derivatives, as one by one."""
    image = jnp.round(255 * jax.random.uniform(jax.random.key(0), (12, 16, 3))) / 255
    numbers = jnp.arange(len(OPERATIONS))
    values = jnp.asarray([VALUES.get(name, (0.0,))[0] for name in OPERATIONS])
    one = lambda number, value: operate(number, value, image)  # noqa: E731
    alone = jax.jit(one)
    expected = np.stack([alone(number, value) for number, value in zip(numbers, values, strict=True)])
    np.testing.assert_allclose(one(numbers[4], values[4]), expected[4], atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(numbers, values), expected, atol=1e-6)
    twice = jax.jit(jax.vmap(jax.vmap(one)))(numbers.reshape(3, 5), values.reshape(3, 5))
    np.testing.assert_allclose(twice.reshape(expected.shape), expected, atol=1e-6)
    gradient = jax.grad(lambda x, number, value: jnp.sum(operate(number, value, x) ** 2))
    together = jax.jit(jax.vmap(gradient, (None, 0, 0)))(image, numbers, values)
    alone = jax.jit(gradient)
    for i in range(len(OPERATIONS)):
        np.testing.assert_allclose(together[i], alone(image, numbers[i], values[i]), rtol=1e-4, atol=1e-5)
    assert np.isfinite(together).all()


def test_bad_names():
    with pytest.raises(ValueError, match="Did you mean 'posterise'"):
        operation_number("posterize")
    with pytest.raises(ValueError, match="interpolation"):
        operate(0, 0.1, jnp.zeros((4, 4, 3)), interpolation="bicubic")
