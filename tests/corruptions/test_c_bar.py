"""C-bar against the original code: its pixels for given parameters, its statistics for drawn ones, scipy's warps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from robust_jax.corruptions import c_bar
from robust_jax.corruptions.c_bar import blur, chromatic, distortion, obscure, sparkles, waves
from robust_jax.images.borders import pad
from robust_jax.images.filters import gaussian_blur
from robust_jax.images.quantise import quantise
from robust_jax.images.resample import map_coordinates, sample_grid

pytestmark = pytest.mark.long

CLASSES = {
    "blue_noise_sample": c_bar.BlueNoiseSample,
    "brownish_noise": c_bar.BrownishNoise,
    "caustic_refraction": c_bar.CausticRefraction,
    "checkerboard_cutout": c_bar.CheckerboardCutout,
    "circular_motion_blur": c_bar.CircularMotionBlur,
    "concentric_sine": c_bar.ConcentricSine,
    "inverse_sparkles": c_bar.InverseSparkles,
    "lines": c_bar.Lines,
    "perlin_noise": c_bar.PerlinNoise,
    "pinch_and_twirl": c_bar.PinchAndTwirl,
    "plasma_noise": c_bar.PlasmaNoise,
    "ripple": c_bar.Ripple,
    "single_frequency_greyscale": c_bar.SingleFrequencyGreyscale,
    "sparkles": c_bar.Sparkles,
    "transverse_chromatic_aberration": c_bar.TransverseChromaticAberration,
}
DETERMINISTIC = ("circular_motion_blur",)
# Those whose clean form is another program, not only without truncation.
REPAIRED = ("blue_noise_sample", "brownish_noise", "caustic_refraction", "circular_motion_blur", "lines",
            "pinch_and_twirl", "ripple", "transverse_chromatic_aberration")  # fmt: skip
SHAPE = (32, 32)

# Pixels [2::6, 3::6] of what the original makes of PATTERN with the parameters in `with_parameters`.
ORIGINAL_PIXELS = {
    "single_frequency_greyscale": (
        "0000001e3143405c771b406406346128415900204115406a5387ba5390cc325a815687b7316ba41b5ea04e9ae5144b812969"
        "a867b0f869bbff3d98006bb1f64796e430880061c22290fa63"
    ),
    "concentric_sine": (
        "00030c415466132f4a41668a5684b1213a521638595883ad0a3e713b78b44c749b4576a609437c6caff1226eb9538ac04f8f"
        "ce5fa8f02072c360bb155ca2e765b4ff57af0645a6065ec831"
    ),
    "plasma_noise": (
        "003c3a404a612f497600248000379a005b4805695149709359649400369f005b3a4f483b5d5c800032780552843a2d975949"
        "6f1a3c790956921095371d3bd85349ca5e5d2b1fa8393fd465"
    ),
    "checkerboard_cutout": (
        "09131c8080801b375224496d2d5b8818314980808080808033679a3c79b58080808080803973ac8080808080808080808080"
        "804891d9808080808080458bd080808057af0660c12169d33c"
    ),
    "sparkles": (
        "3941482e3e4e364e663d5e7e3a658f2e455b5d768ef8f9fa6189b05389be3c608343709b5889b9689dd2bbd8f45281afdae6"
        "f28fbbe770b3f56dbd2b79abdd61a8ed6ab82268c42c71d547"
    ),
    "inverse_sparkles": (
        "9a9ea15e6b7760738693a5b77e9ab6788795516b852f59824373a2719ec957769448749e3973ac4285c76eabe787a8c88db3"
        "d84891d951a3f470bf30adcceaa1cbf4b1da8b9ad77291de70"
    ),
    "lines": (
        "09131c16283a1b375224496d2d5b883a4b5b2143642a557f33679a3c79b5274f763061917b7f826c81964b97e2406f9e8080"
        "804891d951a3f45ab50f458bd04e9deb5aab1067b1376acf3f"
    ),
    "caustic_refraction": (
        "020b130012242b4864547ba1204e7b0000116485a6376592497db15b98d520497135669600073e5595d57bc9ff76ade364a4"
        "e44690d94596e60560003d83c84b99e63a915d7edd3c63cd36"
    ),
    "pinch_and_twirl": (
        "08121b1225371b375324496d2c598519324b21436429547e33679a3c79b6254b703061923a74ae4285c74992db366da33f7f"
        "be4891d951a3f45ab50f478fd74d9cea59b20c5fc01f6bd642"
    ),
    "ripple": (
        "08121a1123341b375323486c2c5885162e451f3f5e29547d3264973a75af254c722e5d8b3871aa4182c34993dc356ba13e7c"
        "ba4891d950a2f258b20b458bd14e9cea58b10960c22369d23b"
    ),
    "transverse_chromatic_aberration": (
        "14132e1b254622375e294976315b8e20315627436e2e558635679e3d79b62c4f7e3361963a73ae4185c64897de386da63f7f"
        "be4691d64da3ee54b538448bce4b9de652afc859c11560d32d"
    ),
    "circular_motion_blur": (
        "09131c1225371b375224496d2d5b881831492143642a557f33679a3c79b5274f763061913973ac4284c74b96e2366da33f7e"
        "be4890d951a2fa5ab412458ad04e9ce857ae0460c02169d23b"
    ),
}

# Mean absolute difference in grey levels and PSNR in dB, at severities 1, 3 and 5, of the original on the 32 golden
# CIFAR images (24 draws each; 250 of the chess board), and on the two golden ones of 224 (4 to 58 draws each).
ORIGINAL_CIFAR = {
    "blue_noise_sample": ((1.232, 25.50), (3.442, 21.05), (12.020, 15.61)),
    "brownish_noise": ((15.259, 22.56), (32.026, 16.13), (39.647, 14.27)),
    "checkerboard_cutout": ((2.843, 24.70), (8.533, 19.94), (14.233, 17.71)),
    "circular_motion_blur": ((8.526, 20.74), (10.106, 20.46), (11.901, 20.02)),
    "inverse_sparkles": ((25.623, 17.63), (42.509, 13.22), (62.713, 9.90)),
    "lines": ((1.645, 28.88), (6.385, 22.82), (12.019, 19.94)),
    "pinch_and_twirl": ((3.837, 28.84), (4.473, 27.47), (6.471, 24.40)),
    "ripple": ((8.266, 24.63), (9.762, 23.16), (11.921, 21.39)),
    "sparkles": ((10.999, 19.64), (28.332, 14.42), (38.656, 12.59)),
    "transverse_chromatic_aberration": ((9.092, 24.58), (16.702, 18.89), (23.291, 16.23)),
}
ORIGINAL_IMAGENET = {
    "blue_noise_sample": ((1.340, 25.30), (4.295, 20.23), (23.703, 12.80)),
    "brownish_noise": ((6.287, 30.29), (19.220, 20.66), (29.387, 16.93)),
    "caustic_refraction": ((5.755, 26.71), (11.044, 21.86), (18.797, 18.06)),
    "checkerboard_cutout": ((5.504, 22.41), (9.739, 19.92), (14.852, 18.09)),
    "concentric_sine": ((9.570, 27.25), (25.089, 18.87), (31.010, 17.02)),
    "inverse_sparkles": ((24.169, 18.30), (54.718, 11.25), (81.669, 7.95)),
    "perlin_noise": ((19.973, 21.04), (24.788, 19.11), (37.858, 15.44)),
    "plasma_noise": ((21.471, 19.83), (37.390, 15.01), (45.619, 13.35)),
    "single_frequency_greyscale": ((12.426, 25.32), (24.406, 19.43), (56.824, 12.01)),
    "sparkles": ((1.219, 29.96), (10.416, 19.89), (31.439, 13.79)),
}
# Where few draws leave the original's own statistics uncertain: two to three standard errors, relative and dB.
UNCERTAIN = {
    "brownish_noise": (0.05, 0.4),
    "checkerboard_cutout": (0.125, 0.6),
    "sparkles": (0.12, 0.8),
    "caustic_refraction": (0.05, 0.4),
    "inverse_sparkles": (0.04, 0.3),
    "plasma_noise": (0.05, 0.3),
}


def pattern():
    row, column, channel = np.mgrid[:32, :32, :3]
    return (((row * 5 + column * 3) * (channel + 1) // 2) % 256).astype(np.float32) / 255


def with_parameters(name, image):
    """What a corruption makes of the image with parameters fixed, before truncation, at a published level."""
    if name == "single_frequency_greyscale":
        return image + 196 / 255 * 0.2 * waves.plane_wave(SHAPE, -0.4, 1.3, 2.0)[..., None]
    if name == "concentric_sine":
        return image + 128 / 255 * 0.8 * waves.rings(SHAPE, 20.6, 11.3, 3.7, 1.9, 2.3)[..., None]
    if name == "plasma_noise":
        amount = 64 / 255 * 0.85
        return (1 - amount) * image + amount * waves.folded_waves(SHAPE, 7.5, 5, 0.8, 4.4)
    if name == "checkerboard_cutout":
        hidden = obscure.chess_squares(SHAPE, 2.5, 4.3, original_squares(4.3, 0.6))
        return jnp.where(hidden[..., None], 128 / 255, image)
    if name == "sparkles":
        random, rest = np.random.RandomState(3), 1.0
        centres = ((4.2, 6.3), (20.1, 11.7), (30.4, 2.2), (15.5, 25.3), (8.8, 16.1))
        for (row, column), rays in zip(centres, (50, 77, 120, 199, 90), strict=True):
            lengths = np.maximum(1, 1.792 * (1 + 0.25 * random.randn(rays))).astype(np.float32)
            rest = rest * (1 - sparkles.sparkle(SHAPE, row, column, rays, jnp.asarray(lengths), 1.0))
        return 1 - rest[..., None] * (1 - image)
    if name == "inverse_sparkles":
        lengths = jnp.asarray(8 * (1 + 0.25 * np.random.RandomState(3).randn(123)), jnp.float32)
        return 1 - sparkles.sparkle(SHAPE, 14.3, 17.8, 123, lengths, 0.13 * 2.5)[..., None] * (1 - image)
    if name == "lines":
        row, column, turn = np.random.RandomState(3).uniform(size=(8, 3)).T
        angle = 1.1 + 2 * np.pi * 0.6 * (turn - 0.5)
        rise, run, row, column = 32 * np.sin(angle), 32 * np.cos(angle), 32 * row, 32 * column
        ends = np.trunc(np.stack([row - run, column - rise, row + run, column + rise], -1))
        return obscure.draw_lines(image, jnp.asarray(ends, jnp.float32), 8, 128 / 255, truncate=True)
    if name == "caustic_refraction":
        surface = gaussian_blur(distortion.caustics(SHAPE, 1.3, 29.0)[..., None], 1.0, mode="reflect")[..., 0]
        return distortion.refract(image, surface, 0.05 * 4.9 * 32, 0.2 * 4.9, seams=True)
    if name == "pinch_and_twirl":
        signs = jnp.asarray([[1.0, -1, 1], [-1, -1, 1], [1, 1, -1]])
        # There cells are numbered by column first.
        rows, columns = distortion.twirls(SHAPE, 10.0, 5.0, 0.65 * jnp.pi / 2, jnp.float32(0.36), signs.T)
        return map_coordinates(image, rows, columns, mode="constant")
    if name == "ripple":
        rows, columns = distortion.ripple(32, 5.2 / 10, 5.3, 1.0), distortion.ripple(32, 5.2 / 10, 8.8, 4.0)
        return sample_grid(pad(image, 1, 1, "constant"), rows + 1, columns + 1)
    if name == "transverse_chromatic_aberration":
        scales, order = jnp.asarray([1, 1.125, 1.25]), jnp.asarray([2, 0, 1])
        return quantise(chromatic.magnify_channels(image, scales, order, splines=True), "round_u8")
    if name == "circular_motion_blur":
        return blur.rotation_blur(image, jnp.float32(np.deg2rad(1.5 * 4.4)), dark_border=True)
    raise ValueError(name)


def original_squares(side, chance):
    """The original's grid by our numbering: it rounds towards 0, where we round down."""
    drawn = np.random.RandomState(3).uniform(size=(int(4 * 32 // side),) * 2) < chance
    number = np.arange(-12, 12)
    there = np.where(number < 0, number + 1, number)
    squares = np.zeros((32, 32), bool)
    squares[np.ix_(number, number)] = drawn[np.ix_(there, there)]
    return jnp.asarray(squares)


def grey(image):
    return np.round(np.asarray(image, np.float64) * 255)


@pytest.mark.parametrize("name", ORIGINAL_PIXELS)
def test_pixels_are_the_original_ones_for_the_same_parameters(name):
    expected = np.frombuffer(bytes.fromhex(ORIGINAL_PIXELS[name]), np.uint8).reshape(5, 5, 3).astype(float)
    actual = grey(quantise(with_parameters(name, jnp.asarray(pattern())), "trunc_u8"))[2::6, 3::6]
    difference = np.abs(actual - expected)
    # A whole number that single precision misses is truncated to the one below.
    assert difference.max() <= 1
    assert difference.mean() <= 0.05
    if name != "circular_motion_blur":
        assert np.abs(grey(pattern())[2::6, 3::6] - expected).mean() > 1


@pytest.mark.parametrize("shape", [(32, 32, 3), (20, 27, 1), (80, 70, 1)])
def test_circular_motion_blur_is_scipys_rotations(shape):
    image = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    share = np.linspace(-1, 1, 21)
    weights = np.exp(-2 * share**2)
    turned = [ndimage.rotate(image.astype(float), 6.6 * u, reshape=False) for u in share]
    expected = sum(w * t for w, t in zip(weights, turned, strict=True)) / weights.sum()
    actual = jax.jit(lambda x: blur.rotation_blur(x, jnp.float32(np.deg2rad(6.6)), dark_border=True))(image)
    np.testing.assert_allclose(actual, expected, atol=2e-4)


@pytest.mark.parametrize("level", [1, 2, 5, 9, 10])
def test_magnified_channels_are_scipys_zooms(level):
    image = np.random.default_rng(0).uniform(size=(40, 40, 3)).astype(np.float32)
    scales = np.array([1, 1 + level / 40, 1 + level / 20])
    expected = np.zeros_like(image)
    for channel, scale in enumerate(scales[[1, 2, 0]]):
        zoomed = ndimage.zoom(image[..., channel], scale, prefilter=False)
        edge = (len(zoomed) - 40) // 2
        expected[..., channel] = zoomed[edge : edge + 40, edge : edge + 40]
    actual = chromatic.magnify_channels(
        jnp.asarray(image), jnp.asarray(scales, jnp.float32), jnp.asarray([1, 2, 0]), splines=True
    )
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def example(shape, count=None):
    shape = shape if count is None else (count, *shape)
    return jnp.asarray(np.random.default_rng(1).uniform(0.1, 0.9, shape).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "compat"), [(name, "original") for name in CLASSES] + [(name, "clean") for name in REPAIRED]
)
def test_one_program_serves_batches_and_severities(name, compat):
    corruption, traces = CLASSES[name](compat=compat), []
    images, keys, levels = example((28, 28, 1), 3), jax.random.split(jax.random.key(0), 3), jnp.asarray([0.0, 2.5, 5])

    def traced(key, image, severity):
        traces.append(1)
        return corruption(key, image, severity)

    one = jax.jit(traced)
    pairs = list(zip(keys, images, strict=True))
    singles = np.asarray([[one(key, image, level) for level in levels] for key, image in pairs])
    assert len(traces) == 1
    over_levels = jax.vmap(corruption, (None, None, 0))
    batch = np.asarray(jax.jit(jax.vmap(over_levels, (0, 0, None)))(keys, images, levels))
    # Reordered sums may take a grey level across the edge of truncation, or a pixel across a threshold.
    tolerance = 1.01 / 255 if compat == "original" else 1e-4
    assert np.mean(np.abs(batch - singles) > tolerance) < 2e-3
    assert np.abs(batch - singles).mean() < 1e-3
    np.testing.assert_allclose(singles[:, 0], images, atol=1e-6)
    assert singles.min() >= 0
    assert singles.max() <= 1
    assert np.abs(singles[:, 2] - images).mean() > np.abs(singles[:, 1] - images).mean() > 1e-3
    if name not in DETERMINISTIC:
        assert np.abs(one(keys[0], images[1], 5.0) - singles[1, 2]).mean() > 1e-3
    if compat == "original":
        np.testing.assert_allclose(singles[:, 1:] * 255, np.round(singles[:, 1:] * 255), atol=1e-3)


@pytest.mark.parametrize("name", ["brownish_noise", "checkerboard_cutout", "ripple"])
def test_eager_is_compiled(name):
    corruption, image, key = CLASSES[name](), example((28, 28, 1)), jax.random.key(2)
    difference = np.abs(corruption(key, image, 3.0) - jax.jit(corruption)(key, image, 3.0))
    assert np.mean(difference > 1e-5) < 2e-3


@pytest.mark.parametrize("name", CLASSES)
def test_gradients_are_finite(name):
    image = example((47, 96, 3))

    def total(image, severity):
        return jnp.sum(CLASSES[name]()(jax.random.key(0), image, severity))

    value, gradient = jax.jit(jax.value_and_grad(total))(image, 4.0)
    assert gradient.shape == image.shape
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_presets_choose_between_the_two_sets():
    key, image = jax.random.key(0), jnp.ones((64, 64, 3))
    black = lambda preset: np.mean(c_bar.BlueNoiseSample(preset=preset)(key, image, 5.0) == 0)  # noqa: E731
    assert black("cifar32") == black("tiny64") == black("auto")
    # Thresholds of -0.82 and -1.24 standard deviations.
    assert black("imagenet224") == black("scaled") == pytest.approx(0.206, abs=0.02)
    assert black("auto") == pytest.approx(0.108, abs=0.02)


def test_clean_repairs_the_named_quirks():
    key, image = jax.random.key(0), jnp.full((32, 32, 3), 0.6)
    for name in ("circular_motion_blur", "ripple", "transverse_chromatic_aberration"):
        # A grey wall stays one under a warp, where black came in from beyond the border.
        repaired = CLASSES[name](compat="clean")(key, image, 5.0)
        np.testing.assert_allclose(repaired, image, atol=1e-4)
    for name in ("circular_motion_blur", "ripple"):
        assert jnp.min(CLASSES[name]()(key, image, 5.0)) < 0.5
    image = example((33, 33, 3))
    moved = lambda compat: np.abs(c_bar.PinchAndTwirl(compat=compat)(key, image, 5.0) - image).max(-1) > 0.02  # noqa: E731
    # Disks of radius 5.5 about pixel 5 leave the corners of cells alone, symmetrically only when clean.
    for compat, symmetric in (("clean", True), ("original", False)):
        reach = np.any(moved(compat)[:11], axis=1)
        assert (reach == reach[::-1]).all() == symmetric


def test_lines_are_counted_by_severity_and_size():
    key, image = jax.random.key(4), jnp.zeros((32, 32, 1))
    covered = [np.mean(c_bar.Lines(compat="clean")(key, image, float(s)) > 0.01) for s in range(1, 6)]
    assert covered == sorted(covered)
    assert covered[0] > 0.01
    # One line of length 2 x 32 and width 2 on 32 x 32 pixels.
    assert covered[0] < 0.1


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 10x10 for PinchAndTwirl"):
        c_bar.PinchAndTwirl()(jax.random.key(0), example((9, 12, 3)), 1.0)


def test_names_belong_to_classes():
    assert set(c_bar.BAR_IMAGENET) | set(c_bar.BAR_CIFAR) == set(CLASSES)
    assert len(c_bar.BAR_IMAGENET) == len(c_bar.BAR_CIFAR) == 10


# Last, as they optimise what is compiled from here on.


def damage_statistics(corruption, clean, draws, severity):
    """Mean absolute difference in grey levels, and PSNR of the mean square, over draws of every image."""
    images = jnp.tile(jnp.asarray(clean, jnp.float32) / 255, (draws, 1, 1, 1))
    keys = jax.random.split(jax.random.key(11), len(images))
    damaged = jax.jit(jax.vmap(corruption, (0, 0, None)))(keys, images, jnp.float32(severity))
    difference = np.asarray(damaged - images) * 255
    return np.abs(difference).mean(), 10 * np.log10(255**2 / (difference**2).mean())


def check_statistics(name, expected, clean, draws, uncertain=(0, 0)):
    for severity, (absolute, psnr) in zip((1, 3, 5), expected, strict=True):
        actual = damage_statistics(CLASSES[name](), clean, draws, severity)
        assert actual[0] == pytest.approx(absolute, rel=0.05 + uncertain[0]), severity
        assert actual[1] == pytest.approx(psnr, abs=0.5 + uncertain[1]), severity


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("name", c_bar.BAR_CIFAR)
def test_statistics_are_the_original_ones_on_cifar(name, golden_arrays):
    clean = golden_arrays("cifar10c_golden32")["clean"]
    check_statistics(name, ORIGINAL_CIFAR[name], clean, {"checkerboard_cutout": 150}.get(name, 32))


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("name", c_bar.BAR_IMAGENET)
def test_statistics_are_the_original_ones_at_224(name, golden_arrays):
    clean = golden_arrays("imagenetc_golden")["clean"]
    check_statistics(name, ORIGINAL_IMAGENET[name], clean, 24, UNCERTAIN.get(name, (0, 0)))
