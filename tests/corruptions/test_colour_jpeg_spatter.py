"""Brightness, contrast, saturation, JPEG and spatter against the original's pixels and statistics."""

import colorsys
import csv
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from robust_jax.core.keys import example_keys
from robust_jax.corruptions.imagenet_c.colour import Brightness, Contrast, Saturate, brighten, saturate
from robust_jax.corruptions.imagenet_c.jpeg import QUALITY, JpegCompression
from robust_jax.corruptions.imagenet_c.spatter import SPATTER, Spatter, mud_map, scaled_table, water_map
from robust_jax.data.tfds import Tfds

pytestmark = pytest.mark.long

DETERMINISTIC = {
    "brightness": Brightness,
    "contrast": Contrast,
    "saturate": Saturate,
    "jpeg_compression": JpegCompression,
}
ALL = [*DETERMINISTIC.values(), Spatter]
every_corruption = pytest.mark.parametrize("corruption", ALL, ids=lambda corruption: corruption.__name__)


@functools.partial(jax.jit, static_argnums=0)
def corrupt(corruption, keys, images, severity):
    return jax.vmap(corruption, in_axes=(0, 0, None))(keys, images, severity)


def keys(num, seed=0):
    return example_keys(jax.random.key(seed), jnp.arange(num))


def picture(height=32, width=32, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.05, 0.4, (channels, 3))]
    levels = np.clip(np.stack(waves, -1) * 90 + 128 + rng.normal(0, 6, (height, width, channels)), 0, 255)
    return jnp.asarray(levels.astype(np.uint8), jnp.float32) / 255


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("file", ["cifar10c_golden32", "imagenetc_golden"])
def test_pixels_are_those_of_the_original(golden_arrays, file, name):
    golden = golden_arrays(file)
    clean = jnp.asarray(golden["clean"], jnp.float32) / 255
    originals = golden["corrupted"][golden["names"].tolist().index(name)].astype(np.float32)
    severities = golden["severities"] if "severities" in golden else np.arange(1, 6)
    corruption = DETERMINISTIC[name](preset="cifar32" if file.startswith("cifar") else "imagenet224")
    for severity, original in zip(severities, originals, strict=True):
        difference = np.abs(np.asarray(corrupt(corruption, keys(len(clean)), clean, float(severity))) * 255 - original)
        assert difference.mean() <= 0.3, severity
        assert (difference <= 2).mean() >= 0.99, severity


@pytest.mark.parametrize("severity", range(1, 6))
def test_spatter_has_the_statistics_of_the_original(shared_data, severity):
    with open(shared_data.parent / "golden" / "resnet20_accuracy_on_original_cifar10c.csv") as file:
        rows = {(row["corruption"], int(row["severity"])): row for row in csv.DictReader(file)}
    source = Tfds("cifar10_lossless4000", data_dir=str(shared_data / "tfds")).load("train")
    images = jnp.asarray(source.subset(np.arange(500)).decode()[0], jnp.float32) / 255
    differences, ratios = [], []
    for seed in range(3):
        difference = (corrupt(Spatter(), keys(500, seed), images, float(severity)) - images) * 255
        differences.append(jnp.abs(difference).mean())
        ratios.append((10 * jnp.log10(255**2 / jnp.mean(difference**2, axis=(1, 2, 3)))).mean())
    original = rows["spatter", severity]
    np.testing.assert_allclose(np.mean(differences), float(original["mean_abs_difference"]), rtol=0.05)
    np.testing.assert_allclose(np.mean(ratios), float(original["psnr_db"]), atol=0.5)


def test_colours_against_the_standard_library():
    image = picture(9, 11)
    pixels = np.asarray(image, np.float64).reshape(-1, 3)
    for function, change in (
        (lambda x: brighten(x, 0.3), lambda h, s, v: (h, s, min(v + 0.3, 1))),
        (lambda x: saturate(x, 2.0, 0.1, tint_greys=True), lambda h, s, v: (h, min(2 * s + 0.1, 1), v)),
    ):
        expected = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in pixels]
        np.testing.assert_allclose(function(image).reshape(-1, 3), expected, atol=1e-5)


def test_greys_turn_red_in_the_original_only():
    greys = jnp.broadcast_to(jnp.linspace(0, 1, 32 * 32).reshape(32, 32, 1), (32, 32, 3))
    original, clean = (Saturate(compat=compat)(keys(1)[0], greys, 5.0) for compat in ("original", "clean"))
    np.testing.assert_allclose(original[..., 1], 0.8 * greys[..., 1], atol=1 / 255)
    np.testing.assert_allclose(original[..., 0], greys[..., 0], atol=1 / 255)
    np.testing.assert_allclose(clean, greys, atol=1e-6)


@pytest.mark.parametrize("preset", QUALITY)
def test_jpeg_is_a_file_of_the_tables_quality(preset):
    image = picture(48, 64)
    for severity, quality in enumerate(QUALITY[preset], start=1):
        buffer = io.BytesIO()
        Image.fromarray(np.uint8(np.round(image * 255))).save(buffer, "JPEG", quality=quality)
        result = corrupt(JpegCompression(preset=preset), keys(1), image[None], float(severity))[0]
        assert np.abs(result * 255 - np.asarray(Image.open(buffer), np.float32)).mean() < 0.05


def test_one_channel():
    image = picture(channels=1)
    np.testing.assert_array_equal(Saturate(compat="clean")(keys(1)[0], image, 3.0), image)
    brighter = Brightness(compat="clean")(keys(1)[0], image, 5.0)
    np.testing.assert_allclose(brighter, jnp.minimum(image + 0.3, 1), atol=1e-6)
    for severity, darker in ((3.0, False), (5.0, True)):
        change = Spatter(compat="clean")(keys(1)[0], jnp.full((64, 64, 1), 0.5), severity) - 0.5
        assert bool(jnp.sum(change) < 0) == darker
        assert (change != 0).any()


def test_spatter_colours():
    image = jnp.full((32, 32, 3), 0.3)
    added = np.asarray(Spatter(compat="clean")(keys(1)[0], image, 3.0) - image)
    wet = added[..., 0] > 0.02
    assert wet.any()
    np.testing.assert_allclose(
        added[wet] / added[wet][:, 1:2], np.broadcast_to([175 / 238, 1, 1], (wet.sum(), 3)), atol=1e-3
    )
    covered = np.asarray(Spatter(compat="clean")(keys(1)[0], image, 5.0))
    opacity = (0.3 - covered[..., 2]) / (0.3 - 20 / 255)
    assert opacity.max() > 0.8
    assert not ((opacity > 1e-3) & (opacity < 0.799)).any()
    np.testing.assert_allclose(covered[..., 0], 0.3 + opacity * (63 / 255 - 0.3), atol=1e-5)


def test_water_map_without_liquid():
    dry = jnp.zeros((16, 16))
    assert (water_map(dry, clean=True) == 0).all()
    image = jnp.ones((16, 16, 1))
    assert (image + 0.1 * water_map(dry)[..., None] < 0).all()


def test_water_beyond_white_wraps_in_the_original_only():
    liquid = jnp.zeros((24, 24)).at[4:20, 4:20].set(0.9).at[10:14, 10:14].set(1.02)
    assert (water_map(liquid)[11:13, 11:13] < 0.1).all()
    assert water_map(liquid, clean=True)[11:13, 11:13].mean() > 0.3


def test_mud_has_hard_edges():
    covered = jnp.zeros((20, 20), bool).at[5:15, 5:15].set(True)
    opacity = mud_map(covered, 1.5, max_sigma=1.5)
    assert opacity[10, 10] > 0.99
    assert opacity[5, 5] == 0


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_scaled_drops_cover_as_much(scale):
    size = round(224 * scale)
    table = scaled_table(SPATTER["imagenet224"], scale)
    np.testing.assert_allclose(table[:, 2], scale * np.array(SPATTER["imagenet224"])[:, 2])
    change = []
    for preset, side in (("imagenet224", 224), ("scaled", size)):
        images = jnp.full((6, side, side, 1), 0.25)
        change.append(jnp.mean(jnp.abs(corrupt(Spatter(preset=preset), keys(6), images, 4.0) - images)))
    np.testing.assert_allclose(change[1], change[0], rtol=0.25)


@every_corruption
def test_one_trace_serves_all_severities_and_vmap_agrees(corruption):
    traces = []

    @jax.jit
    def function(key, image, severity):
        traces.append(severity)
        return corruption()(key, image, severity)

    image, severities = picture(32, 40), jnp.array([0.0, 0.5, 1.0, 2.5, 4.0, 5.0])
    one_by_one = jnp.stack([function(keys(1)[0], image, severity) for severity in severities])
    assert len(traces) == 1
    together = jax.jit(jax.vmap(corruption(), in_axes=(None, None, 0)))(keys(1)[0], image, severities)
    assert jnp.abs(together - one_by_one).mean() < 0.1 / 255
    np.testing.assert_allclose(together[0], image, atol=1e-6)
    assert (jnp.abs(together[1:] - image[None]).max(axis=(1, 2, 3)) > 0).all()


@every_corruption
@pytest.mark.parametrize("shape", [(28, 28, 1), (47, 96, 3)], ids=str)
def test_any_size_with_finite_gradients(corruption, shape):
    image = picture(*shape).at[:4].set(0).at[4:8].set(0.5)
    for component in (corruption(compat="original"), corruption(compat="clean")):
        total = lambda x, component=component: jnp.sum(component(keys(1)[0], x, 4.0))  # noqa: E731
        value, gradient = jax.jit(jax.value_and_grad(total))(image)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0
