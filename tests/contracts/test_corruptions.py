"""What every corruption of a benchmark promises, at every size; those of ImageNet-C come free by their names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from products import product_precisions
from tables import long_unless

from robust_jax import config, corruptions
from robust_jax.core.keys import example_keys

NAMES = (*corruptions.COMMON, *corruptions.EXTRA)
SHAPES = ((28, 28, 1), (47, 96, 3), (375, 500, 3))
WITHOUT_GRADIENT = ("impulse_noise",)
# Noise, a loop, a mixture of layers, a codec.
KINDS = ("shot_noise", "glass_blur", "snow", "jpeg_compression")
every_name = pytest.mark.parametrize("name", long_unless(KINDS, NAMES))


def photograph(shape, seed=0):
    """Smooth shapes, an edge and texture, in eight bits."""
    rng = np.random.default_rng(seed)
    image = scipy.ndimage.gaussian_filter(rng.random(shape), (shape[0] / 10, shape[1] / 10, 0), mode="wrap")
    image = (image - image.min()) / np.ptp(image)
    image[:, shape[1] // 3 : shape[1] // 2] *= 0.4
    return np.round(255 * np.clip(image + 0.1 * (rng.random(shape) - 0.5), 0, 1)).astype(np.float32) / np.float32(255)


def batch(shape, num):
    return jnp.asarray(np.stack([photograph(shape, seed) for seed in range(num)]))


def keys(ids, seed=0):
    return example_keys(jax.random.key(seed), jnp.asarray(ids))


def assert_equal_but_for_rounding(first, second):
    """Programs compiled differently may round a value that lies between two grey levels differently."""
    difference = np.abs(255 * (np.asarray(first) - np.asarray(second)))
    assert (difference > 0.01).mean() < 0.005
    assert difference.mean() < 0.05


@pytest.mark.parametrize("shape", long_unless(SHAPES[1:2], SHAPES), ids=lambda shape: "x".join(map(str, shape)))
@every_name
def test_any_size(name, shape):
    """One trace serves all severities, 0 is the identity, results are images of eight bits that differ from theirs."""
    traces = []
    component = corruptions.component(name)

    @jax.jit
    def run(key, image, severity):
        traces.append(None)
        return component(key, image, severity)

    image = jnp.asarray(photograph(shape))
    key = jax.random.key(1)
    results = [np.asarray(run(key, image, jnp.float32(severity))) for severity in (0.0, 1.0, 2.5, 5.0)]
    assert len(traces) == 1
    np.testing.assert_array_equal(results[0], image)
    for result in results[1:]:
        assert result.shape == shape
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 1
        np.testing.assert_allclose(np.round(255 * result), 255 * result, atol=1e-3)
    if name == "saturate" and shape[-1] == 1:
        np.testing.assert_allclose(results[-1], image, atol=1.01 / 255)
    else:
        assert np.abs(results[-1] - image).mean() > 1e-3


@pytest.mark.parametrize(
    ("name", "size"),
    # Of large images one that is computed otherwise.
    [*((name, 32) for name in sorted({*NAMES, *corruptions.BAR_IMAGENET, *corruptions.BAR_CIFAR})),
     ("circular_motion_blur", 96)],
)  # fmt: skip
def test_products_have_full_precision_on_every_device(name, size):
    corrupt = lambda key, image: corruptions.corrupt(key, image, name, 3.0)  # noqa: E731
    found = product_precisions(corrupt, jax.random.key(0), jnp.zeros((size, size, 3)))
    assert found <= {"HIGHEST"}


@every_name
def test_batch(name):
    """The same image for the same key in any batch, by vmap over images, keys and severities."""
    images, ids = batch((32, 32, 3), 4), np.array([3, 14, 15, 92])
    severities = jnp.array([1.0, 2.5, 4.0])
    whole = corruptions.corrupt_batch(keys(ids), images, name, 4.0)
    order = np.array([2, 0, 0, 1])
    assert_equal_but_for_rounding(corruptions.corrupt_batch(keys(ids[order]), images[order], name, 4.0), whole[order])
    assert_equal_but_for_rounding(corruptions.corrupt(keys(ids)[1], images[1], name, 4.0), whole[1])

    component = corruptions.component(name)
    along = jax.jit(jax.vmap(jax.vmap(component, (0, 0, None)), (None, None, 0)))(keys(ids), images, severities)
    for i, severity in enumerate(severities):
        assert_equal_but_for_rounding(along[i], corruptions.corrupt_batch(keys(ids), images, name, severity))

    twins = corruptions.corrupt_batch(keys([1, 2, 3, 4]), jnp.stack([images[0]] * 4), name, 3.0)
    deterministic = bool((twins[0] == twins[1]).all())
    other = corruptions.corrupt_batch(keys([1, 2, 3, 4], seed=5), jnp.stack([images[0]] * 4), name, 3.0)
    assert deterministic == bool((other[0] == twins[0]).all()), "images alike are damaged alike, yet the key matters"


@pytest.mark.parametrize("name", long_unless(["glass_blur"], KINDS))
def test_without_jit(name):
    image, key = jnp.asarray(photograph((32, 32, 3))), jax.random.key(4)
    component = corruptions.component(name)
    assert_equal_but_for_rounding(component(key, image, 4.0), jax.jit(component)(key, image, jnp.float32(4)))


@every_name
def test_gradients_are_finite(name):
    image = jnp.asarray(photograph((32, 32, 3))).at[:4].set(0).at[4:8].set(0.5).at[8:10].set(1)
    component = corruptions.component(name)
    loss = lambda image, severity: jnp.sum(component(jax.random.key(2), image, severity) ** 2)  # noqa: E731
    gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(image, jnp.array([0.5, 2.0, 4.5]))
    assert np.isfinite(gradients).all()
    assert (np.abs(gradients).max((1, 2, 3)) > 0).all()


@every_name
def test_below_one_it_fades_in(name):
    image = jnp.asarray(photograph((32, 32, 3)))
    half, whole = (corruptions.corrupt(jax.random.key(3), image, name, severity) for severity in (0.5, 1.0))
    np.testing.assert_allclose(half, (image + whole) / 2, atol=1e-6)


@every_name
def test_clean_repairs_without_changing_the_kind(name):
    """Repaired, a corruption is about as strong as the original, and not rounded to eight bits."""
    images = batch((32, 32, 3), 4)
    run = lambda compat: corruptions.corrupt_batch(keys(range(4)), images, name, 3.0, compat=compat)  # noqa: E731
    original, clean = run("original"), run("clean")
    ratio = float(jnp.abs(clean - images).mean() / jnp.abs(original - images).mean())
    assert 0.5 < ratio < 1.6
    assert clean.min() >= 0
    assert clean.max() <= 1


@every_name
def test_constants_of_every_preset(name):
    image, key = jnp.asarray(photograph((32, 32, 3))), jax.random.key(3)
    for preset in ("tiny64", "scaled"):
        component = corruptions.component(name, preset=preset)
        assert jax.eval_shape(component, key, image, jnp.float32(3)).shape == image.shape
    small, large = (corruptions.corrupt(key, image, name, 3.0, preset=preset) for preset in ("cifar32", "imagenet224"))
    assert not np.array_equal(small, large)


@pytest.mark.parametrize(("size", "preset"), [(32, "cifar32"), (64, "tiny64"), (224, "imagenet224")])
def test_size_chooses_the_preset(size, preset):
    image, key = jnp.asarray(photograph((size, size, 3))), jax.random.key(3)
    default = corruptions.corrupt(key, image, "shot_noise", 3.0)
    for other in ("cifar32", "tiny64", "imagenet224"):
        result = corruptions.corrupt(key, image, "shot_noise", 3.0, preset=other)
        assert np.array_equal(default, result) == (other == preset)


def test_components_know_what_they_intervene_on():
    for name, cls in corruptions.COMPONENTS.items():
        assert cls.variable in corruptions.VARIABLES, name
    assert set(NAMES) | set(corruptions.BAR_IMAGENET) | set(corruptions.BAR_CIFAR) == set(corruptions.COMPONENTS)
    assert len(corruptions.COMMON) == 15
    assert len(corruptions.EXTRA) == 4


@pytest.mark.parametrize("name", corruptions.COMPONENTS)
def test_component_is_its_config(name):
    component = corruptions.component(name, preset="tiny64", compat="clean")
    assert config.from_json(config.to_json(component)) == component
    assert hash(component) == hash(config.from_json(config.to_json(component)))


IMAGE = np.full((32, 32, 3), 0.5, np.float32)
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: corruptions.corrupt(KEY, IMAGE, "fgo"), ValueError, "Unknown corruption 'fgo'. Did you mean 'fog'"),
        (lambda: corruptions.corrupt(KEY, IMAGE, "fog", 5.5), ValueError, r"severity in \[0, 5\], got severity=5.5"),
        (lambda: corruptions.corrupt(KEY, IMAGE, "fog", -1), ValueError, r"severity in \[0, 5\]"),
        (lambda: corruptions.corrupt(KEY, IMAGE, "fog", float("nan")), ValueError, r"severity in \[0, 5\]"),
        (lambda: corruptions.corrupt(KEY, IMAGE, "fog", preset="cifar"), ValueError, "Did you mean 'cifar32'"),
        (lambda: corruptions.corrupt(KEY, IMAGE, "fog", compat="orig"), ValueError, "Did you mean 'original'"),
        (lambda: corruptions.corrupt(KEY, IMAGE, "fog", texture="x"), TypeError, "fog has no field 'texture'"),
        (lambda: corruptions.corrupt(KEY, IMAGE, "frost", textures="nowhere"), FileNotFoundError, "nowhere"),
        (lambda: corruptions.corrupt(KEY, IMAGE[:5], "glass_blur"), ValueError, "at least 12x12 for glass_blur"),
        (lambda: corruptions.corrupt(KEY, 255 * IMAGE, "fog"), ValueError, r"got values in \[127.5"),
        (lambda: corruptions.corrupt(KEY, IMAGE.astype(np.uint8), "fog"), TypeError, "divide pixels by 255"),
        (lambda: corruptions.corrupt(KEY, IMAGE[..., :2], "fog"), ValueError, r"\[h, w, 1 or 3\], got \(32, 32, 2\)"),
        (lambda: corruptions.corrupt_batch(KEY, IMAGE, "fog"), ValueError, r"images \[b, h, w, c\] and b keys"),
        (lambda: corruptions.Fog()(KEY, IMAGE, 6), ValueError, "severity"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_photographs_too_small(tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((40, 200, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="photographs larger than 32x32"):
        corruptions.corrupt(KEY, IMAGE, "frost", textures=str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="No photographs"):
        corruptions.corrupt(KEY, IMAGE, "frost", textures=str(tmp_path / "empty"))
