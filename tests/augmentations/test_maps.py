"""Label maps that move with their images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import long_unless

from robust_jax import augmentations
from robust_jax.augmentations import moving_maps
from robust_jax.types import IGNORED

SHAPE = (12, 10, 3)
NUM = 16
GEOMETRIC = [
    augmentations.Diffeomorphism(),
    augmentations.HorizontalFlip(),
    augmentations.RandomCrop(padding=3),
    augmentations.RandomCrop(padding=3, mode="edge"),
    augmentations.RandomCrop(padding=3, mode="reflect"),
    augmentations.RandomResizedCrop(),
    augmentations.RotateTranslate(),
    augmentations.RotateTranslate(border="reflect"),
]
POLICIES = [
    augmentations.AutoAugment("imagenet"),
    augmentations.RandAugment(interpolation="bilinear"),
    augmentations.TrivialAugment(),
]
PHOTOMETRIC = [
    augmentations.ColourJitter(),
    augmentations.Cutout(size=3),
    augmentations.Gaussian(sigma=0.1),
    augmentations.GaussianBlur(probability=1.0),
    augmentations.Identity(),
    augmentations.Noise2Net(hidden=3),
    augmentations.PatchGaussian(size=5),
    augmentations.RandomErasing(probability=1.0),
    augmentations.RandomFilter(),
    augmentations.RandomLp(cases="c2"),
    augmentations.SmoothColour(),
]
COMPOSED = [
    augmentations.Chain((augmentations.RandomCrop(3), augmentations.Gaussian(), augmentations.HorizontalFlip())),
    augmentations.OneOf((augmentations.HorizontalFlip(1.0), augmentations.RandomCrop(3), augmentations.Gaussian())),
    augmentations.Yoco(augmentations.HorizontalFlip()),
]
CANNOT = [augmentations.AugMix(), augmentations.DeepAugment(), augmentations.Prime()]

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(NUM, *SHAPE)), jnp.float32)
KEYS = jax.random.split(jax.random.key(0), NUM)
# Every pixel has a class of its own, so that the map says where it came from.
MAPS = jnp.broadcast_to(jnp.arange(SHAPE[0] * SHAPE[1], dtype=jnp.int32).reshape(SHAPE[:2]), (NUM, *SHAPE[:2]))


def moved(augmentation):
    return jax.jit(jax.vmap(moving_maps(augmentation).with_map))(KEYS, IMAGES, MAPS)


def test_every_augmentation_is_listed():
    listed = {type(one).__name__ for one in (*GEOMETRIC, *POLICIES, *PHOTOMETRIC, *COMPOSED, *CANNOT)}
    public = {name for name in augmentations.__all__ if isinstance(getattr(augmentations, name), type)}
    assert listed == public - {"CutMix", "Mixup"}


@pytest.mark.parametrize(
    "augmentation",
    long_unless((GEOMETRIC[-1], PHOTOMETRIC[0], *COMPOSED), [*GEOMETRIC, *POLICIES, *PHOTOMETRIC, *COMPOSED]),
    ids=str,
)
def test_the_image_is_that_without_a_map(augmentation):
    """To the bit, and the map keeps its shape and dtype."""
    images, maps = moved(augmentation)
    np.testing.assert_array_equal(images, jax.jit(jax.vmap(augmentation))(KEYS, IMAGES))
    assert (maps.shape, maps.dtype) == (MAPS.shape, MAPS.dtype)


@pytest.mark.parametrize("augmentation", GEOMETRIC, ids=str)
def test_a_map_moves_as_its_image_at_the_nearest_pixel(augmentation):
    """An image whose grey level is the map, read at the nearest pixel by the same draw, is the moved map."""
    _, maps = moved(augmentation)

    def nearest(key, label):
        image = label.astype(jnp.float32)[..., None] / 128
        return 128 * augmentation.warp(augmentation.draw(key, SHAPE), image, order=0, beyond=IGNORED / 128)[..., 0]

    np.testing.assert_array_equal(jax.jit(jax.vmap(nearest))(KEYS, MAPS), maps)
    assert not np.array_equal(maps, MAPS)
    assert maps.min() >= IGNORED


@pytest.mark.parametrize("augmentation", GEOMETRIC, ids=str)
def test_a_smooth_image_is_where_its_map_says(augmentation):
    """Channels that hold row and column of a pixel are, after a bilinear warp, within a pixel of the map's."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    place = jnp.asarray(np.stack([rows + 1, columns + 1, 0 * rows], axis=-1) / 20)
    images, maps = jax.jit(jax.vmap(lambda key, label: augmentation.with_map(key, place, label)))(KEYS, MAPS)
    row, column = np.divmod(np.asarray(maps), SHAPE[1])
    # Beside the border, bilinear reads partly beyond it.
    inner = np.zeros(SHAPE[:2], bool)
    inner[1:-1, 1:-1] = True
    seen = (maps != IGNORED) & np.isin(maps, np.asarray(MAPS[0])[inner])
    assert seen.mean() > 0.2
    for channel, position in ((0, row), (1, column)):
        off = np.abs(20 * np.asarray(images)[..., channel] - 1 - position)
        assert off[seen].max() < 0.51


@pytest.mark.long
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_policies_move_maps_by_their_geometric_operations(policy):
    """Pixel by pixel the map is the image's, where an operation is geometric and reads the nearest pixel."""
    numbers, values = jax.vmap(lambda key: policy.draw(key, SHAPE))(KEYS)
    _, maps = moved(policy)
    geometric = np.asarray(numbers) < len(augmentations.operations.GEOMETRIC)
    unmoved = np.array([np.array_equal(one, MAPS[0]) for one in maps])
    assert unmoved[~geometric.any(axis=1)].all()
    assert not unmoved.all()
    label = MAPS[0].astype(jnp.float32)[..., None] / 255
    for number, value, found in zip(numbers, values, maps, strict=True):
        image = label
        for one, strength in zip(number, value, strict=True):
            if one < len(augmentations.operations.GEOMETRIC):
                # 1 is beyond the border.
                image = augmentations.operate(one, strength, image, interpolation="nearest", fill=1.0)
        expected = np.round(255 * np.asarray(image)[..., 0])
        np.testing.assert_array_equal(found, np.where(expected == 255, IGNORED, expected))


@pytest.mark.parametrize("augmentation", PHOTOMETRIC, ids=str)
def test_photometric_ones_leave_the_map_alone(augmentation):
    np.testing.assert_array_equal(moved(augmentation)[1], MAPS)


def test_halves_move_each_on_their_own():
    _, maps = moved(augmentations.Yoco(augmentations.HorizontalFlip(1.0)))
    whole = np.asarray(MAPS[0])
    across = np.concatenate([whole[:, :5][:, ::-1], whole[:, 5:][:, ::-1]], axis=1)
    for found in maps:
        assert np.array_equal(found, whole[:, ::-1]) or np.array_equal(found, across)


@pytest.mark.parametrize("augmentation", CANNOT, ids=str)
def test_what_cannot_move_a_map_says_so(augmentation):
    for one in (augmentation, augmentations.Chain((augmentation,))):
        with pytest.raises(TypeError, match=f"moves label maps .* got {type(augmentation).__name__}"):
            moving_maps(one).with_map(KEYS[0], IMAGES[0], MAPS[0])
