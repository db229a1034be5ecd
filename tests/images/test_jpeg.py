"""JPEG against Pillow."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from PIL import Image
from tables import long_if

from robust_jax.images.jpeg import CHROMA_TABLE, LUMA_TABLE, block_dct, block_idct, jpeg, quality_table

QUALITIES = (7, 10, 25, 50, 65, 80, 95)
compress = jax.jit(jpeg, static_argnames="subsampling")


def pillow(levels: np.ndarray, quality: int, **options) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality, **options)
    return np.asarray(Image.open(buffer), np.float32)


def drawing(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shades with edges and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.05, 0.4, (3, 3))]
    image = np.stack(waves, -1) * 70 + 128 + 60 * ((x - width / 2) ** 2 + (y - height / 2) ** 2 < 150)[..., None]
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def ours(levels: np.ndarray, quality: float, **options) -> np.ndarray:
    return np.asarray(compress(jnp.asarray(levels, jnp.float32) / 255, quality, **options)) * 255


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("size", [(224, 224), (32, 32), (47, 61), (48, 40), (30, 20), (16, 6), (9, 5), (3, 4)], ids=str)
def test_agrees_with_pillow(size, subsampling):
    levels = drawing(*size)
    for quality in QUALITIES:
        difference = np.abs(
            ours(levels, quality, subsampling=subsampling) - pillow(levels, quality, subsampling=subsampling)
        )
        assert difference.mean() <= 0.02, quality


def test_agrees_with_pillow_on_photographs(shared_data):
    folder = shared_data / "imagenet_sample"
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:6]
    assert files
    differences = []
    for path in files:
        levels = np.asarray(Image.open(path).convert("RGB"))[:187, :333]
        differences += [np.abs(ours(levels, quality) - pillow(levels, quality)).mean() for quality in QUALITIES]
    assert np.max(differences) <= 0.02


def test_one_channel_is_a_grey_file():
    levels = drawing(47, 61)[..., 0]
    for quality in QUALITIES:
        difference = np.abs(ours(levels[..., None], quality)[..., 0] - pillow(levels, quality))
        assert difference.mean() <= 0.02


def test_tables_are_those_in_files():
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.fromarray(drawing(16, 16)).save(buffer, "JPEG", quality=quality)
        tables = Image.open(buffer).quantization
        for index, table in enumerate((LUMA_TABLE, CHROMA_TABLE)):
            # Pillow gives them row by row.
            np.testing.assert_array_equal(quality_table(table, float(quality)).reshape(-1), tables[index])


def test_transform_is_the_orthonormal_one_of_scipy():
    plane = np.random.default_rng(0).integers(-128, 128, (24, 16)).astype(np.float32)
    coefficients = block_dct(jnp.asarray(plane))
    block = plane[8:16, 8:16]
    # Coefficients are multiples of 1/8, samples whole numbers.
    np.testing.assert_allclose(coefficients[1, :, 1, :], scipy.fft.dctn(block, norm="ortho"), atol=0.15)
    np.testing.assert_array_equal(coefficients * 8, jnp.round(coefficients * 8))
    np.testing.assert_allclose(block_idct(coefficients), plane, atol=1)


def test_result_has_eight_bits_and_a_second_pass_changes_little():
    once = ours(drawing(64, 64), 40)
    np.testing.assert_allclose(once, np.round(once), atol=1e-3)
    assert once.min() >= 0
    assert once.max() <= 255
    assert np.abs(ours(np.round(once).astype(np.uint8), 40) - once).mean() < 1.0


def test_lower_quality_is_further_away_and_traced_once():
    traces = []

    @jax.jit
    def function(image, quality):
        traces.append(quality)
        return jpeg(image, quality)

    image = jnp.asarray(drawing(64, 64), jnp.float32) / 255
    errors = [float(jnp.abs(function(image, quality) - image).mean()) for quality in (95.0, 50.0, 22.5, 5.0)]
    assert errors == sorted(errors)
    assert len(traces) == 1


def test_vmap_agrees_with_single_images():
    batch = jnp.stack([jnp.asarray(drawing(24, 40, seed), jnp.float32) / 255 for seed in range(3)])
    qualities = jnp.array([10.0, 50.0, 90.0])
    together = jax.jit(jax.vmap(jpeg))(batch, qualities)
    for image, quality, result in zip(batch, qualities, together, strict=True):
        # A coefficient may round otherwise in another order of sums.
        assert np.abs(compress(image, quality) - result).mean() < 0.1 / 255


@pytest.mark.parametrize("channels", long_if([3], [1, 3]))
def test_gradient_passes_straight_through(channels):
    image = jnp.asarray(drawing(24, 40)[..., :channels], jnp.float32) / 255 * 0.5 + 0.25
    gradient = jax.grad(lambda x: jnp.sum(jpeg(x, 95.0)))(image)
    assert np.isfinite(gradient).all()
    # The sum over the image hardly depends on what is lost.
    np.testing.assert_allclose(gradient.mean(), 1, atol=0.02)


def test_unknown_subsampling_is_named():
    with pytest.raises(ValueError, match="Unknown subsampling '4:2:2'"):
        jpeg(jnp.zeros((8, 8, 3)), 50.0, subsampling="4:2:2")
