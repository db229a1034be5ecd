"""What policies draw, and what they do with it, step for step."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from robust_jax import augmentations
from robust_jax.augmentations import aug_mix, chains, operate, operation_number, policies
from robust_jax.augmentations.auto_augment_tables import POLICIES

BLANK = jnp.zeros((12, 2, 1))
IMAGE = jnp.round(255 * jax.random.uniform(jax.random.key(3), (12, 12, 3))) / 255


@pytest.fixture
def draw(monkeypatch):
    """Draws from an augmentation; gives names and values of the operations it asks for, of one image after another."""

    def write_down(policy, numbers, values, image):
        lines = jnp.stack([numbers + 1.0, values], axis=1)[::-1, :, None]
        return jnp.concatenate([lines, image[len(lines) :]])

    monkeypatch.setattr(policies, "_apply", write_down)

    def run(augmentation, num, seed=0):
        # As high and wide as the policies' tables need to know, and otherwise empty.
        pages = jax.jit(jax.vmap(augmentation, (0, None)))(jax.random.split(jax.random.key(seed), num), BLANK)
        lines = np.asarray(pages)[..., 0].reshape(-1, 2)
        return [(augmentations.OPERATIONS[int(line[0]) - 1], float(line[1])) for line in lines if line[0] > 0]

    return run


def assert_alike(counts, num_choices):
    assert len(counts) == num_choices
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_rand_augment_draws_alike_at_its_magnitude(draw):
    drawn = draw(augmentations.RandAugment(num_operations=3, magnitude=15), 700)
    assert len(drawn) == 2100
    assert_alike(collections.Counter(name for name, _ in drawn), 14)
    values = {name: {round(v, 5) for n, v in drawn if n == name} for name, _ in drawn}
    assert values["rotate"] == {-15.0, 15.0}
    assert values["shear_x"] == {-0.15, 0.15}
    assert values["translate_y"] == {round(s * 2 / 12, 5) for s in (-1, 1)}, "12 · 150/331 · 15/30 = 2.7 pixels"
    assert values["brightness"] == {0.55, 1.45}
    assert values["posterise"] == {6.0}
    assert values["solarise"] == {0.5}


def test_trivial_augment_draws_every_magnitude(draw):
    drawn = draw(augmentations.TrivialAugment(), 3000)
    assert len(drawn) == 3000
    assert_alike(collections.Counter(name for name, _ in drawn), 14)
    turns = np.abs([value for name, value in drawn if name == "rotate"])
    assert stats.chisquare(np.bincount(np.round(turns / 4.5).astype(int), minlength=31)).pvalue > 1e-3
    assert {value for name, value in drawn if name == "posterise"} == set(range(2, 9))


@pytest.mark.parametrize("policy", POLICIES)
def test_auto_augment_draws_pairs_with_their_chances(draw, policy):
    num = 4000
    drawn = draw(augmentations.AutoAugment(policy), num)
    counts = collections.Counter(name for name, _ in drawn)
    expected = collections.Counter()
    for pair in POLICIES[policy]:
        for name, chance, _ in pair:
            expected[name] += chance * num / len(POLICIES[policy])
    assert set(counts) - {"identity"} == {name for name, number in expected.items() if number > 0}
    for name, number in expected.items():
        assert abs(counts[name] - number) < 5 * np.sqrt(number) + 1e-9, name


@pytest.mark.parametrize("policy", POLICIES)
def test_tables_have_their_shape(policy):
    assert len(POLICIES[policy]) == 25
    for pair in POLICIES[policy]:
        for name, chance, magnitude in pair:
            assert operation_number(name) >= 0
            assert 0 <= chance <= 1
            assert magnitude in range(10)


def test_aug_mix_draws_its_magnitudes(monkeypatch):
    monkeypatch.setattr(aug_mix, "mix_chains", lambda key, image, draw, apply, **kwargs: draw(key))
    mixture = augmentations.AugMix(severity=10.0, operations=aug_mix.ALL)
    numbers, values = jax.vmap(mixture, (0, None))(jax.random.split(jax.random.key(0), 2000), BLANK)
    drawn = [(augmentations.OPERATIONS[number], value) for number, value in zip(numbers, values.tolist(), strict=True)]
    assert_alike(collections.Counter(name for name, _ in drawn), 13)
    of = lambda wanted: np.array([value for name, value in drawn if name == wanted])  # noqa: E731
    assert set(of("posterise")) == {1.0, 2.0, 3.0, 4.0}
    np.testing.assert_allclose(of("rotate") % 1, 0)
    assert stats.kstest(np.abs(of("shear_x")), stats.uniform(0.003, 0.297).cdf).pvalue > 1e-3
    assert stats.kstest(of("sharpness"), stats.uniform(0.118, 1.782).cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.round(255 * of("solarise")), 255 * of("solarise"), atol=1e-3)
    assert {round(12 * abs(value)) for value in of("translate_y")} == {0, 1, 2, 3}


def mix(apply, num=2000, image=None, **fields):
    """Mixtures of chains of one operation, of a blank image where there is no other."""
    image = jnp.zeros((2, 2, 1)) if image is None else image
    run = lambda key: chains.mix_chains(key, image, lambda key: jax.random.uniform(key), apply, **fields)  # noqa: E731
    return np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(1), num)))[:, 0, 0, 0]


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_shares_of_chains(alpha):
    """Chains that end at 1 mix to m, as their weights sum to one; m is uniform where α is 1."""
    shares = mix(lambda drawn, image: 0 * image + 1, alpha=alpha)
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.long
def test_weights_of_chains():
    """Of two chains that each end at a number drawn from U(0, 1), what is mixed varies as w² + (1 − w)²."""
    ones = mix(lambda drawn, image: 0 * image + 1)
    for width, expected in ((1, 1 / 12), (2, 2 / 3 / 12), (3, 3 * 1 / 6 / 12)):
        mixed = mix(lambda drawn, image: 0 * image + drawn, width=width, depth=1)
        np.testing.assert_allclose(np.mean(mixed / ones), 0.5, atol=0.03)
        np.testing.assert_allclose(np.var(mixed / ones), expected, rtol=0.15)


def test_depths_of_chains():
    count = lambda drawn, image: image + 1  # noqa: E731
    once = mix(count, width=1, depth=1)
    depths = np.round(mix(count, width=1) / once, 3)
    assert stats.chisquare(list(collections.Counter(depths).values())).pvalue > 1e-3
    assert set(depths) == {1, 2, 3}
    np.testing.assert_allclose(mix(count, width=3, depth=5) / mix(count, width=3, depth=1), 5, rtol=1e-5)


@pytest.mark.long
def test_rand_augment_is_its_operations():
    """With one operation and its key's draws repeated here."""
    augmentation = augmentations.RandAugment(num_operations=1, magnitude=30)
    results = np.asarray(jax.vmap(augmentation, (0, None))(jax.random.split(jax.random.key(5), 64), IMAGE))
    possible = [operate(operation_number(name), value, IMAGE) for name, value in (
        ("rotate", 30.0), ("rotate", -30.0), ("shear_x", 0.3), ("shear_x", -0.3), ("shear_y", 0.3), ("shear_y", -0.3),
        ("translate_x", 5 / 12), ("translate_x", -5 / 12), ("translate_y", 5 / 12), ("translate_y", -5 / 12),
        *((name, factor) for name in policies.FACTORS for factor in (0.1, 1.9)), ("posterise", 4.0), ("solarise", 0.0),
        ("auto_contrast", 0.0), ("equalise", 0.0), ("identity", 0.0),
    )]  # fmt: skip
    nearest = np.abs(results[:, None] - np.stack(possible)[None]).max(axis=(2, 3, 4)).min(axis=1)
    np.testing.assert_allclose(nearest, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augmentations.RandAugment(magnitude=31), "magnitude"),
        (lambda: augmentations.RandAugment(num_operations=0), "num_operations"),
        (lambda: augmentations.RandAugment(interpolation="bicubic"), "interpolation"),
        (lambda: augmentations.AutoAugment("cifar"), "Did you mean 'cifar10'"),
        (lambda: augmentations.AugMix(severity=11.0), "severity"),
        (lambda: augmentations.AugMix(width=0), "width"),
        (lambda: augmentations.AugMix(depth=0), "depth"),
        (lambda: augmentations.AugMix(alpha=0.0), "alpha"),
        (lambda: augmentations.AugMix(operations=("posterize",)), "Did you mean 'posterise'"),
        (lambda: augmentations.AugMix(operations=()), "at least one"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
