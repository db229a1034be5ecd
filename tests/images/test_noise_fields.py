"""Noise fields against other algorithms for the same draws, and against the statistics of the original codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import long_unless

from robust_jax.core.random_words import random_uniform
from robust_jax.images import noise_fields, perlin

SHAPES = [(8, 8), (6, 9), (7, 6), (5, 7), (1, 4)]


def draw(field, count, seed=0):
    return np.asarray(jax.jit(jax.vmap(field))(jax.random.split(jax.random.key(seed), count)), np.float64)


def power(planes):
    """Mean power spectrum, each plane's mean taken off."""
    return (np.abs(np.fft.fft2(planes - planes.mean((1, 2), keepdims=True))) ** 2).mean(0)


def one_by_one(displacement, size, decay):
    """Diamond-square a point at a time, in double precision."""
    height, step, amplitude = np.zeros((size, size)), size, 1.0
    while step > 1:
        half, side = step // 2, size // step
        new = displacement[side * side : 4 * side * side].reshape(3, side, side) * amplitude
        at = lambda i, j: height[i % size, j % size]  # noqa: E731
        corners = [(i, j) for i in range(0, size, step) for j in range(0, size, step)]
        for i, j in corners:
            mean = (at(i, j) + at(i + step, j) + at(i, j + step) + at(i + step, j + step)) / 4
            height[i + half, j + half] = mean + new[0, i // step, j // step]
        for number, (down, across) in ((1, (0, half)), (2, (half, 0))):
            for i, j in corners:
                i, j = i + down, j + across
                mean = (at(i - half, j) + at(i + half, j) + at(i, j - half) + at(i, j + half)) / 4
                height[i, j] = mean + new[number, i // step, j // step]
        step, amplitude = half, amplitude / decay**2
    return (height - height.min()) / (height.max() - height.min())


@pytest.mark.parametrize("size", [2, 4, 16])
def test_plasma_is_diamond_square(size):
    key = jax.random.key(3)
    displacement = 2 * np.asarray(random_uniform(key, (size * size,)), np.float64) - 1
    plasma = noise_fields.plasma(key, size, 1.7)
    np.testing.assert_allclose(plasma, one_by_one(displacement, size, 1.7), atol=1e-5)
    assert plasma.min() == 0
    assert plasma.max() == pytest.approx(1, abs=1e-6)


# Of 20,000 maps of side 32 made by the code of ImageNet-C: quantiles 0.1, 0.25, 0.5, 0.75, 0.9; mean of the standard
# deviations; log10 of the power at FREQUENCIES.
FREQUENCIES = ((0, 1), (1, 0), (1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (16, 0))
ORIGINAL_PLASMA = {
    3.0: (
        (0.2680, 0.3703, 0.5014, 0.6317, 0.7333), 0.1469,
        (3.6559, 3.6502, 3.0029, 0.6726, -1.7445, -3.8714, -5.2053, -5.0313),
    ),
    1.5: (
        (0.2334, 0.3518, 0.5003, 0.6486, 0.7669), 0.1836,
        (3.7478, 3.7450, 3.2423, 1.9852, 0.7724, -0.1924, -0.6395, -0.4595),
    ),
}  # fmt: skip


@pytest.mark.parametrize("decay", long_unless([3.0], ORIGINAL_PLASMA))
def test_plasma_has_the_statistics_of_the_original(decay):
    quantiles, deviation, log_power = ORIGINAL_PLASMA[decay]
    planes = draw(lambda key: noise_fields.plasma(key, 32, decay), 4000)
    np.testing.assert_allclose(np.quantile(planes, (0.1, 0.25, 0.5, 0.75, 0.9)), quantiles, atol=0.006)
    np.testing.assert_allclose(planes.std((1, 2)).mean(), deviation, rtol=0.01)
    np.testing.assert_allclose(np.log10([power(planes)[f] for f in FREQUENCIES]), log_power, atol=0.06)


def test_plasma_wraps_around():
    planes = draw(lambda key: noise_fields.plasma(key, 32, 2.0), 200)
    jump = lambda a, b: np.abs(planes[:, a] - planes[:, b]).mean()  # noqa: E731
    assert jump(31, 0) == pytest.approx(jump(15, 16), rel=0.2)
    assert jump(31, 0) < 0.3 * jump(0, 16)


def test_plasma_needs_a_power_of_two():
    with pytest.raises(ValueError, match="power of two, got size=24"):
        noise_fields.plasma(jax.random.key(0), 24, 2.0)


@pytest.mark.parametrize("shape", long_unless(SHAPES[:1], SHAPES))
def test_mirrored_waves_are_the_real_part_of_a_whole_spectrum(shape):
    height, width = shape
    key, amplitude = jax.random.key(5), np.random.default_rng(0).uniform(1, 2, shape)
    drawn = 2 * np.pi * np.asarray(random_uniform(key, (height, (width + 1) // 2)), np.float64)
    phase = np.zeros(shape)
    phase[:, : width // 2] = drawn[:, : width // 2]
    phase[:, width - width // 2 :] = drawn[::-1, : width // 2][:, ::-1]
    if width % 2:
        upper = drawn[: height // 2, -1]
        phase[: height // 2, width // 2] = upper
        phase[height - height // 2 :, width // 2] = upper[::-1]
    spectrum = np.roll(amplitude * np.exp(1j * phase), (height // 2, width // 2), (0, 1))
    expected = np.fft.ifft2(spectrum).real
    actual = noise_fields.mirrored_waves(key, shape, amplitude)
    np.testing.assert_allclose(actual, expected / expected.std(), atol=2e-5)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("colour", ["blue", "brown"])
def test_colours_have_their_spectra(colour, mirrored):
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(16) * 16] * 2, indexing="ij"))
    amplitude = frequency if colour == "blue" else 1 / (frequency**2 + 1)
    planes = draw(lambda key: getattr(noise_fields, colour)(key, (16, 16), mirrored=mirrored), 5000)
    expected = amplitude**2 / (amplitude**2)[frequency > 0].sum()
    assert planes.std((1, 2)) == pytest.approx(np.ones(len(planes)), abs=1e-4)
    # Division by each plane's own deviation weakens the largest waves a little, of which brown noise has few.
    np.testing.assert_allclose(power(planes)[frequency > 0] / 16**4, expected[frequency > 0], rtol=0.18)
    # The mean of brown noise is random; of blue noise it is 0.
    assert planes.mean((1, 2)).std() == pytest.approx(0.7 if colour == "brown" else 0, abs=0.12)
    if mirrored:
        assert (planes[:, 0, 0] ** 2).mean() > 1.6 * (planes[:, 4, 8] ** 2).mean()


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 2.0])
def test_one_over_f_is_a_gaussian_field_of_that_power(alpha):
    planes = draw(lambda key: noise_fields.one_over_f(key, (16, 24), alpha), 8000)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(24), indexing="ij"))
    known = frequency > 0
    slope = np.polyfit(np.log(frequency[known]), np.log(power(planes)[known]), 1)[0]
    # Division by each plane's own deviation bends the slope a little.
    assert slope == pytest.approx(-alpha, abs=0.06)
    assert planes.mean((1, 2)) == pytest.approx(np.zeros(len(planes)), abs=1e-5)
    assert planes.std() == pytest.approx(1, abs=1e-4)
    kurtosis = (planes[:, 3, 5] ** 4).mean() / (planes[:, 3, 5] ** 2).mean() ** 2
    assert kurtosis == pytest.approx(3, abs=0.4)


def test_one_over_f_takes_a_traced_exponent():
    key = jax.random.key(0)
    field = jax.jit(lambda alpha: noise_fields.one_over_f(key, (8, 8), alpha))
    np.testing.assert_allclose(field(1.0), noise_fields.one_over_f(key, (8, 8), 1.0), atol=1e-5)
    assert jnp.isfinite(jax.grad(lambda alpha: field(alpha)[2, 3])(1.0))


def test_turbulence_interpolates_gradients():
    key, cell = jax.random.key(1), 4.0
    field = perlin.turbulence(key, (9, 13), cell=cell, octaves=1)
    gradient = 2 * np.asarray(random_uniform(key, (2, 4, 5)), np.float64) - 1
    gradient /= np.linalg.norm(gradient, axis=0)
    for row, column in ((0, 0), (3, 2), (5, 11), (8, 12), (6, 7)):
        y, x = row / cell, column / cell
        i, j = int(y), int(x)
        smooth = lambda t: 3 * t**2 - 2 * t**3  # noqa: E731
        corner = [[gradient[:, i + a, j + b] @ (y - i - a, x - j - b) for b in (0, 1)] for a in (0, 1)]
        upper, lower = ((1 - smooth(x - j)) * first + smooth(x - j) * second for first, second in corner)
        expected = 1.5 * abs((1 - smooth(y - i)) * upper + smooth(y - i) * lower)
        assert field[row, column] == pytest.approx(expected, abs=1e-6)


def test_turbulence_has_the_statistics_of_the_original():
    planes = draw(lambda key: perlin.turbulence(key, (32, 32), cell=32 / 7), 400)
    # Of 30 fields made by the code of C-bar.
    assert planes.mean() == pytest.approx(0.4972, rel=0.02)
    assert planes.std() == pytest.approx(0.2216, rel=0.03)
    assert np.quantile(planes, (0.05, 0.5, 0.95)) == pytest.approx((0.1767, 0.4719, 0.8959), rel=0.03)


@pytest.mark.parametrize(
    "field",
    [
        lambda key: noise_fields.plasma(key, 16, 2.0),
        lambda key: noise_fields.blue(key, (12, 9), mirrored=True),
        lambda key: noise_fields.brown(key, (12, 9)),
        pytest.param(lambda key: perlin.turbulence(key, (12, 9), cell=3.3, octaves=3), marks=pytest.mark.long),
    ],
)
def test_fields_depend_on_the_key_alone(field):
    keys = jax.random.split(jax.random.key(0), 3)
    batch = np.asarray(jax.jit(jax.vmap(field))(keys))
    np.testing.assert_allclose(batch, [jax.jit(field)(key) for key in keys], atol=2e-5)
    np.testing.assert_allclose(batch[0], field(keys[0]), atol=2e-5)
    assert np.abs(batch[0] - batch[1]).max() > 0.1
