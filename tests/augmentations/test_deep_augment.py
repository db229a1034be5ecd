"""DeepAugment: its convolutions against JAX's own, what distortions do to weights, training, and files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax.augmentations import DeepAugment, deep_augment
from robust_jax.images import colour

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
# Smooth, as photographs are.
IMAGE = jnp.asarray(
    np.stack([np.add.outer(np.linspace(0.1, 0.4, 12), np.linspace(0, s, 14)) for s in (0.5, 0.3, 0.1)], -1), jnp.float32
)
NETWORKS = deep_augment.read(deep_augment.WEIGHTS)
every_network = pytest.mark.parametrize("name", deep_augment.WIDTHS)


@every_network
def test_one_image_and_a_batch_are_computed_alike(name):
    """Sums over taps beside XLA's convolutions, also of odd sides."""
    for image in (IMAGE, IMAGE[:11, :13]):
        batch = deep_augment.translate(name, NETWORKS[name], image[None])[0]
        assert batch.shape == image.shape
        np.testing.assert_allclose(deep_augment.translate(name, NETWORKS[name], image), batch, atol=1e-5)


def test_squares_are_taken_apart_and_put_together():
    x = jnp.arange(3 * 5 * 3, dtype=jnp.float32).reshape(3, 5, 3)
    deep = deep_augment._to_squares(x)
    assert deep.shape == (2, 3, 12)
    np.testing.assert_array_equal(deep[0, 1], x[0:2, 2:4].reshape(-1))
    np.testing.assert_array_equal(deep[1, 2], jnp.tile(x[2, 4], 4))
    np.testing.assert_array_equal(deep_augment._from_squares(deep, x.shape), x)


@every_network
def test_undistorted_networks_keep_the_image(name):
    found = DeepAugment(networks=(name,), probability=0.0)(KEY, IMAGE)
    for one in (found, deep_augment.translate(name, NETWORKS[name], IMAGE)):
        assert -10 * np.log10(np.mean((one - IMAGE) ** 2)) > 25, "PSNR in dB"


def test_denoiser_denoises():
    noise = 25 / 255 * jax.random.normal(KEY, (64, *IMAGE.shape))
    error = deep_augment.translate("denoiser", NETWORKS["denoiser"], IMAGE[None] + noise) - IMAGE[None]
    assert jnp.mean(error**2) < 0.5 * jnp.mean(noise**2)


def test_distorted_images_differ_and_stay_recognisable():
    images = jax.vmap(DeepAugment(), (0, None))(jax.random.split(KEY, 200), IMAGE)
    changes = np.sqrt(np.mean((images - IMAGE[None]) ** 2, axis=(1, 2, 3)))
    assert 0.01 < np.median(changes) < 0.3
    # Means as the image's, but for clipping.
    np.testing.assert_allclose(np.median(images.mean(axis=(1, 2)), axis=0), IMAGE.mean(axis=(0, 1)), atol=0.02)
    likeness = [np.corrcoef(np.ravel(image), np.ravel(IMAGE))[0, 1] for image in images if np.std(image) > 1e-3]
    assert np.median(likeness) > 0.7


def test_grey_images_are_read_in_colour():
    grey = IMAGE[..., :1]
    found = DeepAugment()(KEY, grey)
    expected = DeepAugment()(KEY, jnp.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(found[..., 0], expected.mean(axis=-1), atol=1e-6)
    assert colour.grey(found).shape == IMAGE.shape[:2]


@pytest.mark.parametrize("kind", deep_augment.DISTORTIONS, ids=lambda kind: kind.__name__)
def test_distortions(kind):
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 5, 400)), jnp.float32)
    found, kernel = np.asarray(kind(KEY, kernel)), np.asarray(kernel)
    of_channels = found.reshape(-1, 400), kernel.reshape(-1, 400)
    same = np.all(of_channels[0] == of_channels[1], axis=0)
    if kind.__name__ in ("_zero", "_negate"):
        assert 0.12 < 1 - same.mean() < 0.28
        expected = 0 * kernel if kind.__name__ == "_zero" else -kernel
        np.testing.assert_array_equal(found[..., ~same], expected[..., ~same])
    elif kind.__name__ == "_scale":
        logs = np.log(found / kernel).reshape(-1, 400)
        np.testing.assert_allclose(logs.std(axis=0), 0, atol=1e-4)
        assert logs[0].std() == pytest.approx(0.5, abs=0.06)
    elif kind.__name__ == "_add_noise":
        assert (found - kernel).std() == pytest.approx(0.5 * kernel.std(), rel=0.03)
    elif kind.__name__ == "_exchange":
        ways = (kernel.swapaxes(0, 1), kernel[::-1], kernel[:, ::-1])
        drawn = [np.asarray(kind(jax.random.key(i), kernel)) for i in range(12)]
        counts = [sum(np.array_equal(one, way) for one in drawn) for way in ways]
        assert min(counts) > 0
        assert sum(counts) == 12
    else:
        np.testing.assert_allclose(found.mean(axis=(0, 1)), kernel.mean(axis=(0, 1)), atol=1e-6)
        assert found.std(axis=(0, 1)).mean() < kernel.std(axis=(0, 1)).mean()


def test_every_layer_is_distorted_by_chance():
    layer = NETWORKS["denoiser"][1]
    keys = jax.random.split(KEY, 300)
    kernels = jax.vmap(lambda key: deep_augment.distort(key, layer, 0.3).kernel)(keys)
    changed = jnp.any(kernels != layer.kernel[None], axis=(1, 2, 3, 4))
    assert 0.2 < changed.mean() < 0.4


def test_training_and_files(tmp_path):
    images = jnp.clip(IMAGE[None] + jax.random.uniform(KEY, (16, 1, 1, 3), minval=-0.3, maxval=0.3), 0, 1)
    error = lambda networks: jnp.mean(  # noqa: E731
        (deep_augment.translate("autoencoder", networks["autoencoder"], images) - images) ** 2
    )
    short, long = (deep_augment.fit(KEY, images, num_steps=n, batch_size=8) for n in (1, 40))
    assert error(long) < 0.3 * error(short)
    path = tmp_path / "own.safetensors"
    deep_augment.write(path, long)
    jax.tree.map(np.testing.assert_array_equal, deep_augment.read(path), long)
    own = DeepAugment(weights=str(path))(KEY, IMAGE)
    assert not np.allclose(own, DeepAugment()(KEY, IMAGE), atol=1e-3)


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="denoiser"):
        DeepAugment(networks=("denoise",))
    with pytest.raises(ValueError, match="one network or more"):
        DeepAugment(networks=())
    with pytest.raises(ValueError, match="probability"):
        DeepAugment(probability=1.5)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        DeepAugment()(KEY, jnp.zeros((8, 8, 2)))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        DeepAugment(weights="nowhere.safetensors")(KEY, IMAGE)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        DeepAugment(weights=str(damaged))(KEY, IMAGE)
    other = tmp_path / "other.safetensors"
    deep_augment.write(other, {"denoiser": NETWORKS["denoiser"]})
    with pytest.raises(ValueError, match="layer 0 of the autoencoder"):
        DeepAugment(weights=str(other))(KEY, IMAGE)
    with pytest.raises(ValueError, match="num_steps"):
        deep_augment.fit(KEY, IMAGE[None], num_steps=0)
    with pytest.raises(ValueError, match="shape"):
        deep_augment.fit(KEY, IMAGE[None, ..., :1])
