"""Random Lp-norm corruptions: the paper's tables, and that each noise has the norm and radius it says."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import long_unless

from robust_jax.corruptions import Gaussian, RandomLp
from robust_jax.mathematics import lp_tables
from robust_jax.mathematics.lp_noise import add_lp_noise, add_lp_noise_choice

SHAPE = (32, 32, 3)
NORMS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 200.0, math.inf)


@pytest.mark.parametrize("table", ["cifar", "tiny_imagenet"])
def test_tables(table):
    cases = lp_tables.evaluation_cases(table)
    assert len(set(cases)) == 90
    assert {p for p, _ in cases} == set(NORMS)
    for p in NORMS:
        radii = [case.eps for case in cases if case.p == p]
        assert len(radii) == 10
        assert radii == sorted(radii)
    invisible = lp_tables.imperceptible_cases(table)
    assert len(set(invisible)) == 6
    assert {p for p, _ in invisible} == {0.5, 1.0, 2.0, 10.0, 50.0, math.inf}
    for name, count in (("c1", 90), ("c2", 31), ("c3", 45)):
        training = lp_tables.training_cases(name, table)
        assert len(set(training)) == count
        assert set(training) - {lp_tables.IDENTITY} <= set(cases)


def test_figures_of_the_paper():
    cifar, tiny = lp_tables.evaluation_cases("cifar"), lp_tables.evaluation_cases("tiny_imagenet")
    for case in ((0.5, 400e3), (1, 12.5), (2, 5.0), (5, 0.6), (10, 0.3), (50, 0.18), (200, 0.15), (0, 0.12)):
        assert case in cifar
    for case in ((0.5, 12000e3), (1, 1500), (2, 20), (5, 1.5), (10, 0.7), (50, 0.35), (200, 0.3), (0, 0.3)):
        assert case in tiny
    assert (math.inf, 0.01) in lp_tables.imperceptible_cases("cifar")
    assert (0.5, 700e3) in lp_tables.imperceptible_cases("tiny_imagenet")


@pytest.mark.parametrize("p", long_unless([2.0], NORMS))
def test_scaled_radii_change_every_sub_pixel_as_much(p):
    """Mean magnitude at 8×8×1 with the scaled radius, against that at 32×32×3."""
    eps = next(case.eps for case in reversed(lp_tables.evaluation_cases("cifar")) if case.p == p)
    small = next(case.eps for case in reversed(lp_tables.evaluation_cases("cifar", (8, 8, 1))) if case.p == p)

    def change(shape, eps, num):
        keys = jax.random.split(jax.random.key(0), num)
        run = jax.vmap(lambda key: add_lp_noise(key, jnp.full(shape, 0.5), p=p, eps=eps) - 0.5)
        return float(jnp.mean(jnp.abs(run(keys))))

    # Of 64 entries the fraction 0.12 is 8, one part in twenty off.
    np.testing.assert_allclose(change((8, 8, 1), small, 300), change(SHAPE, eps, 8), rtol=0.1)


@pytest.mark.parametrize("index", range(len(NORMS)))
def test_one_program_serves_every_norm(index):
    """The program with a traced norm draws noise of the same radius as that of the norm alone."""
    p = NORMS[index]
    eps = next(case.eps for case in lp_tables.evaluation_cases("cifar") if case.p == p)
    keys = jax.random.split(jax.random.key(0), 8)
    image = jnp.full(SHAPE, 0.5)
    noise = np.asarray(serve(keys, image, jnp.int32(index), jnp.float32(eps)) - 0.5, np.float64).reshape(8, -1)
    own = np.asarray(jax.vmap(lambda key: RandomLp(p=p, eps=eps)(key, image))(keys) - 0.5, np.float64).reshape(8, -1)
    for x in (noise, own):
        if p == 0:
            assert ((x != 0).sum(1) == round(eps * 3072)).all()
        else:
            largest = np.abs(x).max(1)
            norm = largest * (1 if math.isinf(p) else ((np.abs(x) / largest[:, None]) ** p).sum(1) ** (1 / p))
            # Rounding of 0.5 + δ to float32 adds up where p is small.
            assert ((norm > 0.99 * eps) & (norm < 1.002 * eps)).all()
    assert serve._cache_size() <= 1


@jax.jit
def serve(keys, image, index, eps):
    return jax.vmap(lambda key: add_lp_noise_choice(key, image, NORMS, index, eps))(keys)


def test_severity_scales_the_radius():
    image = jnp.full(SHAPE, 0.5)
    key = jax.random.key(0)
    once = RandomLp(p=2.0, eps=0.5)(key, image) - 0.5
    twice = RandomLp(p=2.0, eps=0.5)(key, image, jnp.float32(2.0)) - 0.5
    np.testing.assert_allclose(twice, 2 * once, atol=1e-6)
    replaced = RandomLp(p=0.0, eps=0.02)(key, image, 3.0)
    assert int(jnp.sum(replaced != 0.5)) == round(0.06 * 3072)


def test_pixelwise_extremes():
    image = jnp.full(SHAPE, 0.5)
    y = np.asarray(RandomLp(p=0.0, eps=0.1, values="extremes", per_pixel=True)(jax.random.key(0), image))
    changed = (y != 0.5).sum(-1)
    assert set(np.unique(changed)) == {0, 3}
    assert (changed == 3).sum() == round(0.1 * 1024)
    assert set(np.unique(y)) == {0.0, 0.5, 1.0}


def test_gaussian():
    y = Gaussian(sigma=0.05)(jax.random.key(0), jnp.full((64, 64, 3), 0.5), 2.0)
    np.testing.assert_allclose(np.std(y), 0.1, rtol=0.03)


def test_errors_name_the_argument():
    for make, message in (
        (lambda: RandomLp(p=-1.0), "p=-1"),
        (lambda: RandomLp(eps=-1.0), "eps=-1"),
        (lambda: RandomLp(p=0.0, eps=1.5), r"eps=1\.5"),
        (lambda: RandomLp(values="uniforn"), "uniform"),
        (lambda: Gaussian(sigma=-1.0), "sigma"),
        (lambda: lp_tables.evaluation_cases("imagenet"), "'imagenet'"),
        (lambda: lp_tables.training_cases("c5", "cifar"), "'c5'"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
