"""PRIME's primitives against their formulas, written out, and against the laws they draw from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats
from tables import long_unless

from robust_jax import augmentations
from robust_jax.augmentations import Diffeomorphism, Prime, RandomFilter, SmoothColour, prime

IMAGE = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (14, 11, 3)), jnp.float32)
KEY = jax.random.key(0)


def split(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


def test_filter_is_centred():
    """Without noise the image stays where it is; the published code moves it by a pixel."""
    np.testing.assert_array_equal(RandomFilter(sigma=0.0)(KEY, IMAGE), IMAGE)
    kernels = np.asarray(jax.vmap(RandomFilter(sigma=4.0).kernel)(split(20_000)))
    expected = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(kernels.mean(axis=0), expected, atol=5 * 4 / np.sqrt(3 * 20_000))
    # Normal given σ, and σ is uniform: E σ² W² = 16 / 3.
    np.testing.assert_allclose(kernels.var(axis=0), 16 / 3, rtol=0.06)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_filter_correlates_every_channel(size):
    filtering = RandomFilter(size=size, sigma=0.3)
    kernel = np.asarray(filtering.kernel(KEY))
    expected = np.stack([ndimage.correlate(np.asarray(IMAGE)[..., c], kernel, mode="constant") for c in range(3)], -1)
    np.testing.assert_allclose(filtering(KEY, IMAGE), np.clip(expected, 0, 1), atol=1e-5)


@pytest.mark.parametrize("first", [1, 37])
def test_sine_series(first):
    image = (
        jnp.asarray(np.random.default_rng(1).uniform(0, 1, (9, 8, 3)), jnp.float32).at[0, :2].set(jnp.array([[0], [1]]))
    )
    coefficients = np.random.default_rng(2).normal(size=(3, 64))
    k = first + np.arange(64)
    expected = np.sum(coefficients * np.sin(np.pi * k * np.asarray(image, np.float64)[..., None]), axis=-1)
    series = prime.sine_series(image, jnp.asarray(coefficients, jnp.float32), first)
    np.testing.assert_allclose(series, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("bandwidth", long_unless([3], [None, 3]))
def test_colour_draws_its_frequencies(bandwidth):
    colour = SmoothColour(cut=8, temperature=0.04, bandwidth=bandwidth)
    coefficients, first = map(np.asarray, jax.vmap(lambda key: colour.coefficients(key, 3))(split(6000)))
    assert coefficients.shape == (6000, 3, bandwidth or 8)
    num = (coefficients != 0).all(axis=1).sum(axis=1)
    assert (num == (coefficients != 0).any(axis=1).sum(axis=1)).all(), "channels share their frequencies"
    last = first + num - 1
    if bandwidth is None:
        assert (first == 1).all()
        assert stats.chisquare(np.bincount(last, minlength=9)[1:]).pvalue > 1e-3
    else:
        assert num.max() == 3
        # K is uniform and the first of them uniform up to K.
        chances = [sum(1 / (8 * cut) for cut in range(k, 9)) for k in range(1, 9)]
        assert stats.chisquare(np.bincount(first, minlength=9)[1:], 6000 * np.array(chances)).pvalue > 1e-3
    np.testing.assert_allclose(np.mean(coefficients[:, 0, 0] ** 2), 0.02, rtol=0.1)
    shares = coefficients[:, 0, 0] / np.sqrt(np.mean(coefficients[:, 1:, 0] ** 2, axis=1))
    assert stats.kstest(shares, stats.t(2).cdf).pvalue > 1e-3, "normal, at one temperature"


def test_colour_is_its_series():
    colour = SmoothColour()
    added = prime.sine_series(IMAGE, *colour.coefficients(KEY, 3))
    np.testing.assert_allclose(colour(KEY, IMAGE), np.clip(IMAGE + added, 0, 1), atol=1e-6)
    np.testing.assert_allclose(SmoothColour(temperature=0.0)(KEY, IMAGE), IMAGE, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "cut", "greatest"), [((6, 5), 3, 4), ((6, 5), 17, 20), ((4, 7), 40, 60), ((2, 5), 3, 9)]
)
def test_covariance_of_fields(shape, cut, greatest):
    """Also where frequencies are higher than pixels can show, which the fields do not draw by themselves."""
    i, j = np.mgrid[1 : greatest + 1, 1 : greatest + 1]
    energy = (i**2 + j**2 < (cut + 0.5) ** 2) / (i**2 + j**2)
    y, x = (np.sin(np.pi * np.linspace(0, 1, n)[:, None] * np.arange(1, greatest + 1)[None]) for n in shape)
    expected = np.einsum("ij,ai,bi,cj,dj->acbd", energy, y, y, x, x).reshape(2 * (np.prod(shape),))
    draw = lambda key: prime.smooth_fields(key, jnp.float32(cut), (*shape, 3), num=2, greatest=greatest)  # noqa: E731
    fields = np.asarray(jax.vmap(draw)(split(20_000))).reshape(20_000, 2, -1)
    covariance = np.einsum("nfa,ngb->fgab", fields, fields) / 20_000
    scale = expected.max() + 1e-9
    np.testing.assert_allclose(covariance[0, 0] / scale, expected / scale, atol=0.06)
    np.testing.assert_allclose(covariance[1, 1] / scale, expected / scale, atol=0.06)
    np.testing.assert_allclose(covariance[0, 1] / scale, 0, atol=0.06)


def test_deformation_reads_at_its_displacement():
    deform = Diffeomorphism(greatest=5)
    down, across = np.asarray(deform.displacement(KEY, IMAGE.shape))
    y, x = np.mgrid[:14, :11]
    read = lambda plane: ndimage.map_coordinates(plane, [y - down, x - across], order=1, mode="nearest")  # noqa: E731
    expected = np.stack([read(np.asarray(IMAGE)[..., c]) for c in range(3)], axis=-1)
    assert 0.3 < max(np.abs(down).max(), np.abs(across).max()) < 5
    np.testing.assert_allclose(deform(KEY, IMAGE), expected, atol=1e-5)


def test_strength_of_deformations():
    cut, temperature = map(np.asarray, jax.vmap(lambda key: Diffeomorphism(greatest=9).strength(key, 32))(split(5000)))
    # U{3..9}, then 2 + ⌊B (most − 1)⌋ with B from Beta(1/2, 1/2).
    arcsine = stats.beta(0.5, 0.5).cdf
    chances = [
        np.mean([arcsine((k - 1) / (m - 1)) - arcsine((k - 2) / (m - 1)) for m in range(3, 10)]) for k in range(2, 10)
    ]
    assert stats.chisquare(np.bincount(cut.astype(int), minlength=10)[2:], 5000 * np.array(chances)).pvalue > 1e-3
    low, high = 1 / (np.pi * 32**2 * np.log(cut)), 4 / (np.pi**3 * cut**2 * np.log(cut))
    assert (high > low).all()
    assert stats.kstest((temperature - low) / (high - low), arcsine).pvalue > 1e-3


def test_chains_are_of_primitives():
    """One chain of one: the mixture of the image and either primitive, in equal numbers."""
    choices = (augmentations.HorizontalFlip(1.0), augmentations.Cutout(size=100, fill=0.25))
    mixed = np.asarray(jax.vmap(Prime(choices, width=1, depth=1), (0, None))(split(500), IMAGE))
    image = np.asarray(IMAGE)
    flipped, covered, change = image[:, ::-1] - image, 0.25 - image, mixed - image[None]
    along = [np.einsum("nhwc,hwc->n", change, way) / np.sum(way**2) for way in (flipped, covered)]
    exact = [
        np.abs(change - a[:, None, None, None] * w[None]).max(axis=(1, 2, 3)) < 1e-4
        for a, w in zip(along, (flipped, covered), strict=True)
    ]
    assert (exact[0] ^ exact[1]).mean() > 0.99, "but where next to nothing is mixed in"
    assert stats.binomtest(int(exact[0].sum()), 500).pvalue > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFilter(size=2), "odd size"),
        (lambda: RandomFilter(sigma=-1.0), "sigma"),
        (lambda: SmoothColour(cut=0), "cut"),
        (lambda: SmoothColour(temperature=-0.1), "temperature"),
        (lambda: SmoothColour(bandwidth=0), "bandwidth"),
        (lambda: Diffeomorphism(least=1), "least"),
        (lambda: Diffeomorphism(greatest=2), "greatest"),
        (lambda: Prime(primitives=()), "primitives"),
        (lambda: Prime(width=0), "width"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
