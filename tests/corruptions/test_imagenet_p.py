"""The perturbation sequences against Pillow, scipy and what the original code made.

Literal pixels were made by the published code's calls of OpenCV 5 and scikit-image on the image below.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from robust_jax.core.keys import example_keys
from robust_jax.corruptions import imagenet_p
from robust_jax.corruptions.base import VARIABLES

pytestmark = pytest.mark.long

Y, X, C = np.mgrid[:32, :32, :3]
IMAGE = np.clip(120 + 70 * np.sin(Y / 4 + C) + 60 * np.cos(X / 5 - C * Y / 9), 0, 255).astype(np.uint8)
KEY = jax.random.key(5)
ALL = tuple(imagenet_p.SEQUENCES)
every_sequence = pytest.mark.parametrize("name", ALL)

# Green at rows and columns 3, 12, 21, 30, by perturbation and frame.
PUBLISHED = {
    ("tilt", 0): [208, 153, 151, 240, 118, 106, 11, 55, 89, 174, 102, 63, 120, 214, 220, 134],
    ("tilt", 22): [243, 159, 144, 241, 112, 95, 8, 73, 107, 180, 105, 76, 114, 197, 185, 39],
    ("tilt", 30): [240, 157, 142, 241, 118, 94, 7, 35, 106, 182, 113, 0, 114, 134, 0, 0],
    ("brightness", 0): [188, 102, 85, 179, 75, 45, 3, 44, 63, 119, 75, 45, 90, 153, 156, 93],
    ("brightness", 22): [255, 186, 169, 255, 127, 119, 11, 73, 127, 203, 110, 74, 130, 237, 240, 128],
    ("brightness", 30): [255, 217, 200, 255, 146, 146, 14, 83, 150, 234, 110, 84, 130, 255, 255, 128],
    ("gaussian_blur", 0): [245, 159, 142, 236, 111, 95, 9, 64, 107, 176, 100, 65, 120, 210, 213, 121],
    ("gaussian_blur", 30): [244, 159, 142, 235, 111, 95, 10, 64, 107, 176, 100, 65, 120, 209, 212, 122],
}


def frames_of(name, pixels=IMAGE, key=KEY, **fields):
    """All frames in grey levels."""
    sequence = imagenet_p.SEQUENCES[name](**fields)
    return 255 * np.asarray(jax.jit(sequence.frames)(key, pixels / np.float32(255)))


def pillow(pixels, linear, centre, *, crop=None, shift=0, resample=Image.Resampling.BILINEAR):
    """The original's use of Pillow: a linear map (a, b, d, e) about a centre, then the middle square."""
    a, b, d, e = linear
    x, y = centre
    coefficients = (a, b, x - a * (x + shift) - b * y, d, e, y - d * (x + shift) - e * y)
    warped = Image.fromarray(pixels).transform(pixels.shape[1::-1], Image.Transform.AFFINE, coefficients, resample)
    return cropped(np.asarray(warped), crop)


def cropped(pixels, crop):
    if crop is None:
        return pixels
    top, left = (round((side - crop) / 2) for side in pixels.shape[:2])
    return pixels[top : top + crop, left : left + crop]


def movements(preset):
    """Linear map and shift of every frame, by perturbation."""
    angles = [math.radians(i - 15) for i in range(31)]
    first, step = (0.7, 0.02) if preset == "cifar32" else (0.4, 0.025)
    shifts = range(-7, 9) if preset == "cifar32" else range(-20, 21)
    factors = [1 / (first + step * i) for i in range(31)]
    return {
        "rotate": [((math.cos(t), math.sin(t), -math.sin(t), math.cos(t)), 0) for t in angles],
        "shear": [((1, math.tan(t), 0, 1 / math.cos(t)), 0) for t in angles],
        "scale": [((f, 0, 0, f), 0) for f in factors],
        "translate": [((1, 0, 0, 1), shift) for shift in shifts],
    }


@pytest.mark.parametrize("name", ["rotate", "shear", "scale", "translate"])
@pytest.mark.parametrize("setting", ["cifar", "imagenet"])
def test_movements_against_pillow(name, setting):
    if setting == "cifar":
        pixels, fields = IMAGE, {}
    else:
        pixels, fields = np.tile(IMAGE, (2, 3, 1))[:60, :77], {"preset": "imagenet224", "crop": 48}
    ours = frames_of(name, pixels, **fields)
    # Half a pixel off: centres of Pillow's pixels are at halves, and the original adds another half.
    centre = (pixels.shape[1] / 2 + 0.5, pixels.shape[0] / 2 + 0.5)
    resample = Image.Resampling.NEAREST if name == "translate" else Image.Resampling.BILINEAR
    law = movements("cifar32" if setting == "cifar" else "imagenet224")[name]
    theirs = [pillow(pixels, m, centre, shift=s, crop=fields.get("crop"), resample=resample) for m, s in law]
    assert ours.shape == np.shape(theirs)
    difference = np.abs(ours - np.array(theirs, np.float64))
    assert difference.mean() < 0.02
    assert (difference > 1.01).mean() < 2e-4


@pytest.mark.parametrize("fields", [{}, {"preset": "imagenet224", "crop": 25}])
def test_zoom_blur_against_pillow(fields):
    crop, centre = fields.get("crop"), (16.5, 16.5)
    total, theirs = cropped(IMAGE, crop).astype(np.float64), [cropped(IMAGE, crop)]
    for i in range(1, 31):
        factor = 1 / (1 + 0.004 * i)
        total = total + pillow(IMAGE, (factor, 0, 0, factor), centre, crop=crop)
        theirs.append(np.floor(total / (i + 1)))
    difference = np.abs(frames_of("zoom_blur", **fields) - np.array(theirs))
    assert difference.mean() < 0.05
    assert difference.max() < 1.01
    assert difference[0].max() < 0.01


@pytest.mark.parametrize(("name", "frame"), PUBLISHED)
def test_pixels_of_the_published_code(name, frame):
    ours = frames_of(name)[frame][3::9, 3::9, 1].ravel()
    difference = np.abs(ours - np.array(PUBLISHED[name, frame]))
    assert difference.max() < 1.01
    assert difference.mean() < 0.2


def test_gaussian_blur_of_imagenet_against_scipy():
    ours = frames_of("gaussian_blur", preset="imagenet224", compat="clean")
    for frame in (0, 13, 30):
        sigma = 0.25 + 0.035 * frame
        theirs = ndimage.gaussian_filter(IMAGE.astype(float), (sigma, sigma, 0), mode="nearest", truncate=6)
        np.testing.assert_allclose(ours[frame], theirs, atol=0.02)


def test_motion_blur_turns():
    """Against a sum of shifted copies written out, in the middle of the image."""
    for preset, radius, sigma, step, length in (("cifar32", 6, 1.8, 9, 21), ("imagenet224", 10, 3, 4, 31)):
        ours = frames_of("motion_blur", preset=preset)
        assert len(ours) == length
        weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
        weights /= weights.sum()
        padded = np.pad(IMAGE.astype(float), ((32, 32), (32, 32), (0, 0)), mode="edge")
        for frame in (0, length // 3, length - 1):
            angle = math.radians((frame - length + 1) * step)
            total = 0
            for i, weight in enumerate(weights):
                # Copies halfway between pixels go where ImageMagick's double precision sends them.
                y, x = ((2 * radius + 1) * part(angle) for part in (math.sin, math.cos))
                down, right = (math.ceil(i * part / math.hypot(x, y) - 0.5) for part in (y, x))
                total = total + weight * padded[32 + down : 64 + down, 32 + right : 64 + right]
            difference = np.abs(ours[frame] - total)
            assert difference.max() < 0.51, (preset, frame)


@pytest.mark.parametrize(
    ("name", "preset", "law"),
    [
        ("gaussian_noise", "cifar32", lambda x: 0.02 + 0 * x),
        ("gaussian_noise", "imagenet224", lambda x: 0.03 + 0 * x),
        ("gaussian_noise", "tiny64", lambda x: 0.025 + 0 * x),
        ("shot_noise", "cifar32", lambda x: np.sqrt(x / 700)),
        ("shot_noise", "imagenet224", lambda x: np.sqrt(x / 300)),
        ("speckle_noise", "cifar32", lambda x: 0.05 * x),
    ],
)
def test_noise_has_its_deviation_and_frames_are_independent(name, preset, law):
    pixels = np.clip(IMAGE, 60, 200)
    ours = frames_of(name, pixels, preset=preset, compat="clean") / 255
    clean = pixels / 255
    np.testing.assert_allclose(ours[0], clean, atol=1e-6)
    z = (ours[1:] - clean) / law(clean)
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / z.size)
    correlation = np.corrcoef(z.reshape(30, -1))[np.triu_indices(30, 1)]
    assert np.abs(correlation).max() < 5 / math.sqrt(z[0].size)
    assert np.abs(correlation).mean() > 0


def test_original_noise_is_truncated():
    """The published code's mean change on CIFAR images was −0.52 grey levels, its mean absolute one 4.05."""
    ours = frames_of("gaussian_noise", np.clip(IMAGE, 40, 215))
    np.testing.assert_allclose(ours, np.round(ours), atol=1e-3)
    change = ours[1:] - np.clip(IMAGE, 40, 215)
    assert change.mean() == pytest.approx(-0.5, abs=0.1)
    assert np.abs(change).mean() == pytest.approx(4.08, abs=0.08)


def test_snow_keeps_its_flakes_and_whitens_as_published():
    """Of the published law: 30.2 grey levels on 32 CIFAR images at frames 0, 15 and 30, here a share of that."""
    dark = np.full((32, 32, 3), 20, np.uint8)
    batch = jax.vmap(imagenet_p.SnowSequence().frames, (0, None))
    frames = 255 * np.asarray(jax.jit(batch)(jax.random.split(KEY, 64), dark / np.float32(255)))
    # Without flakes: 0.85 x + 0.15 (1.5 x + 0.5).
    floor = 0.85 * 20 + 0.15 * (1.5 * 20 + 127.5)
    assert frames.min() >= math.floor(floor)
    flakes = frames - floor
    # A blur keeps the mean of the layer, but for what passes the border; the layer and its half turn are added.
    per_frame = flakes.mean(axis=(0, 2, 3, 4))
    assert per_frame.min() > 0.9 * per_frame.max()
    # P(z > 1.5) · E: noise N(0.05, 0.3) above 0.5, averaged over the zoom's four neighbours it is less.
    assert 2 < per_frame.mean() < 2 * 255 * 0.0668 * 0.6
    first, last = flakes[:, 0].reshape(64, -1), flakes[:, 30].reshape(64, -1)
    follow = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(flakes[:, 0].reshape(64, -1), flakes[:, 1].reshape(64, -1), strict=True)
    ]
    other = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, np.roll(last, 1, axis=0), strict=True)]
    assert np.mean(follow) > 0.6
    assert np.mean(other) < 0.2
    turned = frames[:, :, ::-1, ::-1]
    np.testing.assert_allclose(frames, turned, atol=1e-3)


@pytest.mark.parametrize(("preset", "kernel"), [("cifar32", [0.2, 0.8]), ("imagenet224", [0.05, 0.1, 0.15, 0.7])])
def test_water_runs_down_as_numpy_convolves(preset, kernel):
    sequence = imagenet_p.SpatterSequence(preset=preset)
    state = sequence.start(KEY, jnp.asarray(IMAGE / np.float32(255)))
    water = np.asarray(state[1], np.float64)
    assert (water > 0).any()
    for frame in range(1, 6):
        state = sequence.advance(state, frame)
        water = np.apply_along_axis(lambda column: np.convolve(column, kernel, mode="same"), 0, water)
        np.testing.assert_allclose(state[1], water, atol=1e-6)


def test_spatter_is_black_without_water_as_published_unless_clean():
    """Of 256 draws of the published law on CIFAR images, 14 % of the last frames and 2 % of the first were black."""
    for compat, expected in (("original", (0.02, 0.14)), ("clean", (0.0, 0.0))):
        batch = jax.vmap(imagenet_p.SpatterSequence(compat=compat).frames, (0, None))
        frames = np.asarray(jax.jit(batch)(jax.random.split(KEY, 128), np.maximum(IMAGE, 9) / np.float32(255)))
        black = (frames.max(axis=(2, 3, 4)) == 0).mean(axis=0)
        assert black[0] == pytest.approx(expected[0], abs=0.04)
        assert black[-1] == pytest.approx(expected[1], abs=0.1 if compat == "original" else 0)
        changed = np.abs(frames[:, 0] - np.maximum(IMAGE, 9) / 255)[black.argmin() :].max(axis=(1, 2, 3))
        assert (changed > 0.2).mean() > 0.8


@every_sequence
def test_frames_one_by_one_under_jit_and_vmap(name):
    sequence = imagenet_p.SEQUENCES[name]()
    images = jnp.asarray(np.stack([IMAGE, IMAGE[::-1], IMAGE[:, ::-1]]) / np.float32(255))
    keys = example_keys(KEY, jnp.array([4, 9, 2]))
    traces = []

    @jax.jit
    def one(keys, images, frame):
        traces.append(None)
        return jax.vmap(sequence, (0, 0, None))(keys, images, frame)

    length = sequence.num_frames(images.shape[1:])
    # Eagerly a fused product and sum may round the other way: a grey level where it is cut off.
    together = frames_of(name, np.asarray(images[1] * 255), key=keys[1])
    assert together.shape == (length, 32, 32, 3)
    for frame in (0, 1, length // 2, length - 1):
        difference = np.abs(255 * np.asarray(one(keys, images, frame))[1] - together[frame])
        assert (difference > 1.01).mean() < 1e-3
        assert difference.mean() < 0.05
    assert len(traces) == 1
    assert 0 <= together.min() <= together.max() <= 255
    # Blurs may round to the same pixels twice, and snow may fall where the image is white.
    assert (np.abs(together[1:] - together[:-1]).max(axis=(1, 2, 3)) > 0.9).mean() > 0.7


@every_sequence
@pytest.mark.parametrize(("shape", "frames"), [((28, 28, 1), "cifar"), ((47, 96, 3), "cifar"), ((64, 70, 3), "tiny")])
def test_other_sizes_and_gradients(name, shape, frames):
    sequence = imagenet_p.SEQUENCES[name](compat="clean")
    special = {"cifar": {"motion_blur": 21, "translate": 16}, "tiny": {}}[frames]
    assert sequence.num_frames(shape) == special.get(name, 31)
    image = jnp.asarray(np.random.default_rng(1).uniform(0.1, 0.9, shape), jnp.float32)

    @jax.jit
    def value_and_slope(image):
        return jax.value_and_grad(lambda image: jnp.sum(sequence(KEY, image, jnp.int32(7))))(image)

    value, slope = value_and_slope(image)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert (np.asarray(slope) != 0).mean() > 0.3


def test_lengths_and_presets():
    counts = {
        name: [cls().num_frames((side, side, 3)) for side in (32, 64, 224, 300)]
        for name, cls in imagenet_p.SEQUENCES.items()
    }
    assert counts.pop("translate") == [16, 31, 41, 41]
    assert counts.pop("motion_blur") == [21, 31, 31, 31]
    assert set(map(tuple, counts.values())) == {(31, 31, 31, 31)}
    assert imagenet_p.TranslateSequence(crop=224).num_frames((256, 300, 3)) == 41
    assert {name for name in ALL if imagenet_p.SEQUENCES[name].is_noise} == {name for name in ALL if "noise" in name}
    assert all(cls.variable in VARIABLES for cls in imagenet_p.SEQUENCES.values())
    assert len(imagenet_p.PERTURBATIONS) == 10
    assert imagenet_p.PERTURBATIONS_EXTRA == ("speckle_noise", "gaussian_blur", "spatter", "shear")
    assert set(imagenet_p.PERTURBATIONS_CIFAR) - set(imagenet_p.PERTURBATIONS) == {"spatter"}


def test_scaled_lengths_follow_the_size():
    pixels = np.tile(IMAGE, (4, 4, 1))[:112, :112]
    ours = frames_of("translate", pixels, preset="scaled")
    np.testing.assert_allclose(ours[0][:, :102], pixels[:, 10:], atol=0.01)
    assert (ours[0][:, 102:] == 0).all()
    halves = ours[21][:, 1:].astype(float)
    between = (pixels[:, 1:].astype(float) + pixels[:, :-1]) / 2
    assert np.abs(halves - np.floor(between)).max() < 1.01


def test_clean_repairs_what_it_says():
    middle = {name: frames_of(name, compat="clean")[15] for name in ("rotate", "tilt", "shear", "scale")}
    for name, frame in middle.items():
        np.testing.assert_allclose(frame, IMAGE, atol=0.01, err_msg=name)
    turned = frames_of("rotate", compat="clean")
    mirrored = frames_of("rotate", IMAGE[:, ::-1], compat="clean")
    np.testing.assert_allclose(turned[3], mirrored[27][:, ::-1], atol=0.02)
    assert np.abs(frames_of("rotate")[3] - frames_of("rotate", IMAGE[:, ::-1])[27][:, ::-1]).max() > 5
    assert np.abs(frames_of("tilt")[15] - IMAGE).mean() > 1


def test_bad_input_is_named():
    image = jnp.zeros((32, 32, 3))
    with pytest.raises(ValueError, match=r"frame in \[0, 21\), got frame=21"):
        imagenet_p.MotionBlurSequence()(KEY, image, 21)
    with pytest.raises(ValueError, match="at least crop=40"):
        imagenet_p.RotateSequence(crop=40)(KEY, image, 0)
    with pytest.raises(ValueError, match="Did you mean 'cifar32'"):
        imagenet_p.TiltSequence(preset="cifar")
    with pytest.raises(ValueError, match="Did you mean 'clean'"):
        imagenet_p.TiltSequence(compat="clear")
    with pytest.raises(TypeError, match="divide pixels by 255"):
        imagenet_p.TiltSequence()(KEY, jnp.zeros((32, 32, 3), jnp.uint8), 0)
    with pytest.raises(ValueError, match="crop > 0"):
        imagenet_p.ZoomBlurSequence(crop=0)
