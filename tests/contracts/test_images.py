"""What every corruption and every augmentation promises. A new one is one line in a list below."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from products import product_precisions
from tables import first_of_its_class, long_unless

from robust_jax import augmentations, config, corruptions
from robust_jax.core.keys import example_keys
from robust_jax.core.mesh import data_mesh, shard_batch

SHAPE = (8, 6, 3)

CORRUPTIONS = [
    corruptions.Gaussian(sigma=0.1),
    corruptions.RandomLp(p=0.0, eps=0.3),
    corruptions.RandomLp(p=0.0, eps=0.3, values="extremes", per_pixel=True),
    corruptions.RandomLp(p=2.0, eps=1.0),
    corruptions.RandomLp(p=math.inf, eps=0.1, surface=True),
    corruptions.Rotation(max_angle=90.0),
    corruptions.Scale(max_factor=4.0, mode="constant"),
    corruptions.Shear(max_angle=60.0),
    corruptions.Translation(max_shift=0.8),
]

AUGMENTATIONS = [
    augmentations.AugMix(),
    augmentations.AutoAugment("imagenet"),
    augmentations.Chain(steps=(augmentations.RandomCrop(padding=2), augmentations.HorizontalFlip())),
    augmentations.ColourJitter(),
    augmentations.Cutout(size=3),
    augmentations.DeepAugment(),
    augmentations.Diffeomorphism(),
    augmentations.Gaussian(sigma=0.1),
    augmentations.GaussianBlur(probability=1.0),
    augmentations.HorizontalFlip(),
    augmentations.Identity(),
    augmentations.OneOf(choices=(augmentations.Identity(), augmentations.Gaussian()), weights=(1.0, 3.0)),
    augmentations.Noise2Net(hidden=3),
    augmentations.PatchGaussian(size=5, random_size=True),
    augmentations.Prime(),
    augmentations.RandAugment(),
    augmentations.RandomCrop(padding=2, mode="edge"),
    augmentations.RandomCrop(padding=2, mode="reflect"),
    augmentations.RandomErasing(probability=1.0),
    augmentations.RandomFilter(),
    augmentations.RandomLp(cases="c1", table="tiny_imagenet"),
    augmentations.RandomLp(cases="c2"),
    augmentations.RandomResizedCrop(),
    augmentations.RotateTranslate(),
    augmentations.RotateTranslate(border="reflect"),
    augmentations.SmoothColour(),
    augmentations.SmoothColour(cut=50, bandwidth=5),
    augmentations.TrivialAugment(),
    augmentations.Yoco(augmentations.HorizontalFlip()),
]

DETERMINISTIC = (augmentations.Identity,)

COMPONENTS = {
    **{f"corruptions.{component}": component for component in CORRUPTIONS},
    **{f"augmentations.{component}": component for component in AUGMENTATIONS},
}
SEVERITY = dict.fromkeys(CORRUPTIONS, (2.5,))

# One transform for each way to draw for an example and to compute one example at a time; the quick ones stand for
# plain draws, draws among transforms and loops over examples.
QUICK_OVER_DEVICES = ("sphere", "choice", "operations")
OVER_DEVICES = [
    pytest.param(transform, severity, id=name, marks=[] if name in QUICK_OVER_DEVICES else [pytest.mark.long])
    for name, transform, severity in (
        ("sphere", corruptions.RandomLp(p=2.0, eps=1.0), (2.5,)),
        ("pixels", corruptions.RandomLp(p=0.0, eps=0.3, per_pixel=True), (2.5,)),
        ("warp", corruptions.Rotation(max_angle=90.0), (2.5,)),
        ("cases", augmentations.RandomLp(cases="c2"), ()),
        ("chain", augmentations.Chain((augmentations.RandomCrop(padding=2), augmentations.HorizontalFlip())), ()),
        ("choice", augmentations.OneOf((augmentations.Identity(), augmentations.Gaussian()), (1.0, 3.0)), ()),
        ("region", augmentations.PatchGaussian(size=5, random_size=True), ()),
        ("crop", augmentations.RandomResizedCrop(), ()),
        ("operations", augmentations.TrivialAugment(), ()),
        ("chains", augmentations.AugMix(), ()),
        ("primitives", augmentations.Prime(), ()),
        ("network", augmentations.Noise2Net(hidden=3), ()),
    )
]

EPS = float(np.finfo(np.float32).eps)
# Two programs of one transform differ in the order of sums and in fused multiply-adds. Pixels in [0, 1] after some ten
# operations differ by as many roundings of EPS / 2; without ``jit`` no two operations round as one, so twice as many.
ROUNDING = 1e-6
EAGER_ROUNDING = 2e-6
# A series Σ_k c_k sin(πkx), k ≤ K, c_k ~ N(0, T), multiplies the roundings of x, of πx, of its sine and of its cosine
# (four of EPS / 2) by the slope Σ_k c_k πk cos(πkx), whose standard deviation is below π √(T Σ k²).
SERIES_SLOPE = {
    transform: math.pi * math.sqrt(transform.temperature * sum(k**2 for k in range(1, transform.cut + 1)))
    for transform in (augmentations.SmoothColour(), augmentations.SmoothColour(cut=50, bandwidth=5))
}


def tolerance(transform, rounding=ROUNDING):
    """How far two programs of a transform may differ on an image in [0, 1]."""
    series = augmentations.SmoothColour() if isinstance(transform, augmentations.Prime) else transform
    return rounding + 4 * EPS / 2 * SERIES_SLOPE.get(series, 0)


# Many operations in one program, or networks; TrivialAugment and Yoco stand for them.
SLOW = (
    augmentations.AugMix,
    augmentations.AutoAugment,
    augmentations.DeepAugment,
    augmentations.Noise2Net,
    augmentations.Prime,
    augmentations.RandAugment,
)
every_transform = pytest.mark.parametrize("transform", first_of_its_class(COMPONENTS, SLOW))


def images(num):
    """Random images with some sub-pixels at the ends of the range, where clipping shows."""
    values = np.random.default_rng(0).uniform(-0.2, 1.2, (num, *SHAPE))
    return jnp.asarray(np.clip(values, 0, 1), jnp.float32)


def keys(ids, seed=0):
    return example_keys(jax.random.key(seed), jnp.asarray(ids))


def test_every_public_component_is_listed():
    for room, components in ((corruptions, CORRUPTIONS), (augmentations, AUGMENTATIONS)):
        listed = {type(component).__name__ for component in components}
        public = {name for name in room.__all__ if isinstance(getattr(room, name), type)}
        # Those of a benchmark have contracts of their own, under their names.
        benchmarks = (*corruptions.COMPONENTS.values(), *corruptions.SEQUENCES.values())
        public -= {cls.__name__ for cls in benchmarks} | {"BenchmarkCorruption", "PerturbationSequence"}
        # Nor are mixers transforms of one image.
        public -= {"CutMix", "Mixup"}
        assert listed >= public, f"add {sorted(public - listed)} to the lists in this file"


@every_transform
def test_products_have_full_precision_on_every_device(transform):
    severity = SEVERITY.get(transform, ())
    run = lambda keys, x: jax.vmap(lambda key, image: transform(key, image, *severity))(keys, x)  # noqa: E731
    assert product_precisions(run, keys([1, 2]), images(2)) <= {"HIGHEST"}


@every_transform
def test_batch(transform):
    """Range, shape and type are kept and gradients finite.

    The result is the same for an image alone, without ``jit`` and in any batch, and a second call does not retrace.
    """
    traces = []

    @jax.jit
    def run(keys, x, *severity):
        traces.append(None)

        def loss(image, key):
            y = transform(key, image, *severity)
            return jnp.sum(y**2), y

        gradients, y = jax.vmap(jax.grad(loss, has_aux=True))(x, keys)
        return y, gradients

    x, ids = images(6), [3, 14, 15, 92, 65, 35]
    severity = tuple(jnp.float32(s) for s in SEVERITY.get(transform, ()))
    y, gradients = run(keys(ids), x, *severity)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert np.isfinite(y).all()
    assert y.min() >= 0
    assert y.max() <= 1
    assert gradients.shape == x.shape
    assert np.isfinite(gradients).all()

    order = np.array([4, 0, 5, 2, 2, 1])
    shuffled, _ = run(keys(np.array(ids)[order]), x[order], *(s * 1.0 for s in severity))
    np.testing.assert_allclose(shuffled, np.asarray(y)[order], atol=tolerance(transform))
    assert len(traces) == 1, "retraced by a second batch"

    eager = transform(keys(ids)[5], x[5], *severity)
    np.testing.assert_allclose(eager, y[5], atol=tolerance(transform, EAGER_ROUNDING))

    if not isinstance(transform, DETERMINISTIC):
        other, _ = run(keys(ids, seed=1), x, *severity)
        assert not np.allclose(other, y, atol=1e-3), "the key has no effect"
        # Two images alike are changed differently.
        twins, _ = run(keys(range(6)), jnp.broadcast_to(x[:1], x.shape), *severity)
        assert not np.allclose(twins, np.broadcast_to(twins[:1], twins.shape), atol=1e-3)


@pytest.mark.parametrize(("transform", "severity"), OVER_DEVICES)
def test_devices_make_no_difference(transform, severity):
    def run(keys, x):
        return jax.vmap(lambda key, image: transform(key, image, *severity))(keys, x)

    num = jax.device_count()
    assert num > 1
    x, k = images(num), keys(range(num))
    one = jax.jit(run)(k, x)
    mesh = data_mesh()
    sharded = jax.jit(run)(*shard_batch((k, x), mesh))
    assert len(sharded.sharding.device_set) == num
    np.testing.assert_allclose(sharded, one, atol=tolerance(transform))


def test_pmap_makes_no_difference():
    """The older way of using many devices, once for the transform that uses the most."""
    transform = augmentations.RandomLp(cases="c2")
    num = jax.device_count()
    x, k = images(num), keys(range(num))
    np.testing.assert_allclose(jax.pmap(transform)(k, x), jax.jit(jax.vmap(transform))(k, x), atol=ROUNDING)


@pytest.mark.parametrize("corruption", long_unless(CORRUPTIONS[:1], CORRUPTIONS), ids=str)
def test_corruption_grows_with_severity(corruption):
    """Severity is traced: one program serves all, 0 leaves the image as it is, more is further away."""
    x = jnp.full((4, *SHAPE), 0.5)
    run = jax.jit(jax.vmap(corruption, (0, 0, None)))
    distances = [float(jnp.mean(jnp.abs(run(keys(range(4)), x, jnp.float32(s)) - x))) for s in (0.0, 0.5, 1.0, 2.0)]
    assert run._cache_size() == 1
    assert distances[0] == 0.0
    assert distances == sorted(distances)
    assert distances[-1] > 1.5 * distances[1] > 0.0
    along_severities = jax.vmap(corruption, (None, None, 0))(jax.random.key(0), x[0], jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(along_severities[1], corruption(jax.random.key(0), x[0], 2.0), atol=EAGER_ROUNDING)


@pytest.mark.parametrize("component", [*CORRUPTIONS, *AUGMENTATIONS], ids=str)
def test_component_is_its_config(component):
    assert config.from_json(config.to_json(component)) == component
    assert hash(component) == hash(config.from_json(config.to_json(component)))
