"""Lp sampling, norms and projections, against scipy and closed forms."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

from robust_jax.mathematics.generalised_normal import generalised_normal
from robust_jax.mathematics.norms import norm_lp, project_lp, sample_l0, sample_lp

FINITE = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 200.0, 1000.0)
NORMS = (*FINITE, math.inf)
SHAPE = (32, 32, 3)
SIZE = 3072


def exact_norm(x, p):
    """In float64, scaled by the largest entry."""
    x = np.abs(np.asarray(x, np.float64)).ravel()
    largest = x.max()
    if math.isinf(p) or largest == 0:
        return largest
    return largest * np.sum((x / largest) ** p) ** (1 / p)


def visible_eps(p):
    """A radius at which entries are about 0.1, far from the ends of float32."""
    return 0.1 if math.isinf(p) else 0.1 * SIZE ** (1 / p)


def sample(p, *, num, shape=SHAPE, surface=False, eps=1.0, seed=0):
    keys = jax.random.split(jax.random.key(seed), num)
    return _sample(keys, jnp.float32(eps), p, shape, surface)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _sample(keys, eps, p, shape, surface):
    return jax.vmap(lambda key: sample_lp(key, shape, p, eps, surface=surface))(keys)


@pytest.mark.parametrize(("p", "traced"), [(p, False) for p in FINITE] + [(p, True) for p in (0.1, 2.0, 200.0)])
def test_generalised_normal_follows_its_law(p, traced):
    def draw(key, p):
        return generalised_normal(key, (100_000,), p)

    key = jax.random.key(3)
    x = jax.jit(draw)(key, p) if traced else jax.jit(lambda key: draw(key, p))(key)
    x = np.asarray(x, np.float64)
    assert (x != 0).all()
    median = median_modulus(p)
    # P(|X| <= t) = P(1/p, t^p); where t^p underflows, the first term of the series, t / Γ(1 + 1/p).
    t = np.abs(x) * median
    small = p * np.log(t) < -34
    cdf = np.where(small, t / math.gamma(1 + 1 / p), special.gammainc(1 / p, np.where(small, 0.0, t) ** p))
    assert stats.kstest(cdf, "uniform").pvalue > 1e-3
    assert abs(np.mean(x > 0) - 0.5) < 0.01
    # Magnitude and sign are independent.
    assert stats.ks_2samp(cdf[x > 0], cdf[x < 0]).pvalue > 1e-3


def median_modulus(p):
    """By bisection on the distribution function, in the logarithm of t."""

    def excess(log_t):
        if p * log_t < -34:
            return math.exp(log_t) / math.gamma(1 + 1 / p) - 0.5
        return special.gammainc(1 / p, math.exp(min(p * log_t, 20.0))) - 0.5

    return math.exp(optimize.brentq(excess, -5.0, 40.0, xtol=1e-12))


@pytest.mark.parametrize("p", [0.5, 2.0])
def test_generalised_normal_follows_its_tails(p):
    x = np.abs(np.asarray(generalised_normal(jax.random.key(5), (2_000_000,), p), np.float64)) * median_modulus(p)
    for tail in (1e-3, 1e-4, 1e-5):
        upper = special.gammainccinv(1 / p, tail) ** (1 / p)
        lower = special.gammaincinv(1 / p, tail) ** (1 / p)
        for count in (np.sum(x > upper), np.sum(x < lower)):
            expected = tail * x.size
            assert abs(count - expected) < 5 * math.sqrt(expected), (p, tail, count, expected)


@pytest.mark.parametrize("p", NORMS)
def test_surface_has_its_radius(p):
    eps = visible_eps(p)
    for x in np.asarray(sample(p, num=3, surface=True, eps=eps)):
        np.testing.assert_allclose(exact_norm(x, p), eps, rtol=1e-4)
        assert (x != 0).all()


@pytest.mark.parametrize(
    ("p", "shape"),
    [(p, (3,)) for p in NORMS] + [(p, shape) for p in (0.5, 2.0, math.inf) for shape in ((), (1,), (4, 2))],
)
def test_radii_in_the_ball(p, shape):
    d = math.prod(shape)
    x = np.asarray(sample(p, num=4000, shape=shape, eps=0.7, seed=1), np.float64)
    radii = np.array([exact_norm(row, p) for row in x]) / 0.7
    assert radii.max() <= 1 + 1e-5
    assert stats.kstest(radii**d, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("p", [0.5, 2.0, math.inf])
def test_ball_is_uniform(p):
    """Two-sample tests of three statistics against rejection from the square."""
    x = np.asarray(sample(p, num=20_000, shape=(2,), eps=1.0, seed=2), np.float64)
    square = np.random.default_rng(0).uniform(-1, 1, (40_000, 2))
    reference = square[[exact_norm(row, p) <= 1 for row in square]]
    for statistic in (lambda v: v[:, 0], lambda v: np.abs(v).sum(1), lambda v: np.abs(v[:, 0] * v[:, 1])):
        assert stats.ks_2samp(statistic(x), statistic(reference)).pvalue > 1e-3


@pytest.mark.parametrize("p", [1.0, 200.0])
def test_rms_of_an_image(p):
    x = np.asarray(sample(p, num=32, eps=1.0), np.float64)
    # E X² = Γ(3/p) / Γ(1/p), and ‖X‖_p^p concentrates at d/p; the radius of the ball at 1.
    rms = math.sqrt(math.gamma(3 / p) / math.gamma(1 / p)) * (p / SIZE) ** (1 / p)
    np.testing.assert_allclose(np.sqrt(np.mean(x**2)), rms, rtol=0.01)


def test_surface_of_the_cube_is_its_corners():
    x = np.asarray(sample(math.inf, num=4, surface=True, eps=0.25))
    assert set(np.unique(x)) == {-0.25, 0.25}
    assert abs(np.mean(x > 0) - 0.5) < 0.02


@pytest.mark.parametrize("p", [0.3, 77.0])
def test_traced_norm_agrees_with_static(p):
    eps = visible_eps(p)
    static = sample(p, num=4, eps=eps)
    keys = jax.random.split(jax.random.key(0), 4)
    traced = jax.jit(jax.vmap(lambda key, p, eps: sample_lp(key, SHAPE, p, eps), (0, None, None)))(keys, p, eps)
    np.testing.assert_allclose(traced, static, rtol=2e-2, atol=1e-4 * float(jnp.max(jnp.abs(static))))
    one = sample_lp(keys[2], SHAPE, p, eps)
    np.testing.assert_allclose(one, static[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("eps", [0.0, 0.005, 0.12, 0.5, 1.0])
def test_l0_count_is_exact(eps):
    keys = jax.random.split(jax.random.key(0), 16)
    draw = jax.jit(jax.vmap(lambda key, eps: sample_l0(key, SHAPE, eps), (0, None)))
    mask, values = draw(keys, eps)
    assert (np.sum(mask, axis=(1, 2, 3)) == round(eps * SIZE)).all()
    assert values.min() >= 0
    assert values.max() <= 1
    alone, _ = sample_l0(keys[3], SHAPE, eps)
    np.testing.assert_array_equal(alone, mask[3])


def test_l0_sets_are_equally_likely():
    keys = jax.random.split(jax.random.key(1), 6000)
    masks = np.asarray(jax.vmap(lambda key: sample_l0(key, (5,), 0.4)[0])(keys))
    codes, counts = np.unique(masks @ (1 << np.arange(5)), return_counts=True)
    assert len(codes) == math.comb(5, 2)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_l0_values():
    key = jax.random.key(0)
    mask, values = sample_l0(key, SHAPE, 0.5, values="extremes")
    assert set(np.unique(values)) == {0.0, 1.0}
    mask, values = sample_l0(key, SHAPE, 0.5)
    assert stats.kstest(np.asarray(values)[np.asarray(mask)], "uniform").pvalue > 1e-3
    mask, _ = sample_l0(key, SHAPE, 0.1, per_pixel=True)
    per_pixel = np.asarray(mask).sum(-1)
    assert set(np.unique(per_pixel)) == {0, 3}
    assert np.sum(per_pixel == 3) == round(0.1 * 1024)


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0, 2.0, 3.0, 200.0, math.inf])
@pytest.mark.parametrize("scale", [1e-30, 1e28])
def test_norm_of_wide_range(p, scale):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32) * np.float32(scale)
    expected = exact_norm(x, p)
    np.testing.assert_allclose(norm_lp(jnp.asarray(x), p), expected, rtol=2e-4 if p < 1 else 1e-5)
    np.testing.assert_allclose(jax.jit(lambda x: norm_lp(x, p))(x), expected, rtol=2e-4 if p < 1 else 1e-5)


def test_norm_counts_nonzeros():
    x = jnp.array([0.0, 1.0, -3.0, 0.0])
    assert norm_lp(x, 0) == 2
    assert norm_lp(jnp.zeros(3), 2) == 0


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 50.0, math.inf])
def test_norm_gradient(p):
    x = jnp.array([0.3, -0.2, 0.0, 1.1])
    gradient = jax.grad(lambda x: norm_lp(x, p))(x)
    assert np.isfinite(gradient).all()
    assert np.isfinite(jax.grad(lambda x: norm_lp(x, p))(jnp.zeros(4))).all()
    # Norms are homogeneous: Euler's identity.
    np.testing.assert_allclose(jnp.sum(gradient * x), norm_lp(x, p), rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2, math.inf])
@pytest.mark.parametrize("eps", [0.0, 0.5, 100.0])
def test_projection_is_the_nearest_point(p, eps):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)), jnp.float32)
    y = project_lp(x, p, eps)
    assert exact_norm(y, p) <= eps * (1 + 1e-5) + 1e-6
    # Variational inequality: <x − y, z − y> <= 0 for every z in the ball.
    for z in np.asarray(sample(float(p), num=200, shape=(3, 4), surface=True, eps=eps)):
        assert float(jnp.sum((x - y) * (z - y))) <= 1e-4
    np.testing.assert_allclose(jax.jit(lambda x, eps: project_lp(x, p, eps))(x, eps), y, atol=1e-6)
    batch = jax.vmap(lambda x: project_lp(x, p, eps))(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(batch[0], y, atol=1e-6)
    np.testing.assert_allclose(project_lp(y, p, eps), y, atol=1e-5)


def test_errors_name_the_argument():
    key = jax.random.key(0)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="p"):
            sample_lp(key, (3,), bad, 1.0)
    with pytest.raises(ValueError, match=r"eps.*-1"):
        sample_lp(key, (3,), 2.0, -1.0)
    with pytest.raises(ValueError, match=r"eps.*1\.5"):
        sample_l0(key, (3,), 1.5)
    with pytest.raises(ValueError, match=r"values 'unifrom'.*uniform"):
        sample_l0(key, (3,), 0.5, values="unifrom")
    with pytest.raises(ValueError, match="p=3"):
        project_lp(jnp.ones(3), 3, 1.0)
    with pytest.raises(ValueError, match="p=-1"):
        norm_lp(jnp.ones(3), -1)


def test_projection_onto_sparse_vectors():
    """The nearest vector of few nonzeros keeps the largest; found here by trying every set."""
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3)), jnp.float32)
    y = np.asarray(project_lp(x, 0, 3))
    assert np.count_nonzero(y) == 3
    sets = [list(chosen) for chosen in itertools.combinations(range(6), 3)]
    losses = [sum(float(v) ** 2 for i, v in enumerate(np.ravel(x)) if i not in chosen) for chosen in sets]
    np.testing.assert_allclose(np.sum((np.asarray(x) - y) ** 2), min(losses), rtol=1e-5)
    assert np.count_nonzero(project_lp(jnp.ones((4, 4)), 0, 4)) == 4
