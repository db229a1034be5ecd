"""Mixup and CutMix: what becomes of images and labels, and the laws of their shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from tables import long_unless

from robust_jax import data, models, train
from robust_jax.augmentations import CutMix, Mixup
from robust_jax.objectives import smooth_labels
from robust_jax.types import Batch

NUM = 64
SHAPE = (8, 6, 2)

MIXERS = [Mixup(), Mixup(alpha=0.3, per_example=True), CutMix(), CutMix(probability=0.5, per_example=True)]
every_mixer = pytest.mark.parametrize("mixer", MIXERS, ids=str)


def batch(num=NUM, first_id=7):
    """Images that are constant and labels that tell which it is, so that shares can be read off."""
    index = jnp.arange(num)
    images = jnp.broadcast_to((index / num)[:, None, None, None], (num, *SHAPE))
    return Batch(images, jax.nn.one_hot(index, num), jnp.ones(num, bool), first_id + index)


@every_mixer
def test_labels_tell_what_images_hold(mixer):
    """The mean of a constant image is that of its label's mixture."""
    mixed = jax.jit(mixer)(jax.random.key(0), batch())
    np.testing.assert_allclose(np.sum(mixed.label, axis=1), 1, atol=1e-6)
    expected = np.sum(np.asarray(mixed.label) * np.arange(NUM)[None] / NUM, axis=1)
    np.testing.assert_allclose(np.mean(mixed.image, axis=(1, 2, 3)), expected, atol=1e-5)
    assert mixed.image.shape == (NUM, *SHAPE)
    assert mixed.image.dtype == jnp.float32
    assert (np.count_nonzero(mixed.label, axis=1) <= 2).all()
    assert mixed.mask.all()
    again, other = (mixer(jax.random.key(seed), batch()) for seed in (0, 1))
    np.testing.assert_allclose(again.image, mixed.image, atol=1e-6)
    assert not np.allclose(other.image, mixed.image, atol=1e-3)


@every_mixer
def test_padding_is_not_mixed_in(mixer):
    given = batch()._replace(mask=jnp.arange(NUM) < 40)
    mixed = mixer(jax.random.key(0), given)
    partners = np.asarray(mixed.label) > 0
    assert not partners[np.asarray(mixed.mask)][:, 40:].any()
    assert 0 < mixed.mask.sum() < 40


def kept(mixer, num):
    """λ of the first example, of as many calls."""
    run = jax.jit(jax.vmap(lambda key: mixer(key, batch(8)).label))
    labels = np.asarray(run(jax.random.split(jax.random.key(2), num)))
    own = np.diagonal(labels, axis1=1, axis2=2)
    # Where an example is its own partner its share cannot be read off.
    alone = np.isclose(own, 1)
    return own, alone


@pytest.mark.parametrize("alpha", long_unless([0.4], [1.0, 0.4]))
def test_mixup_shares(alpha):
    own, alone = kept(Mixup(alpha=alpha), 1500)
    first = [row[~skip][0] for row, skip in zip(own, alone, strict=True) if not skip.all()]
    assert stats.kstest(first, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    for row, skip in zip(own, alone, strict=True):
        assert np.ptp(row[~skip]) < 1e-5 if not skip.all() else True, "one share of the batch"
    own, alone = kept(Mixup(alpha=alpha, per_example=True), 300)
    assert stats.kstest(own[~alone], stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert np.ptp(own[0][~alone[0]]) > 1e-2


def test_cut_mix_covers_a_rectangle_of_the_partner():
    """Sides are ⌊√(1 − λ) · side⌋ but at the border."""
    mixed = CutMix(per_example=True)(jax.random.key(3), batch())
    images, labels = np.asarray(mixed.image)[..., 0], np.asarray(mixed.label)
    sizes = set()
    for i in range(NUM):
        changed = ~np.isclose(images[i], i / NUM)
        if not changed.any():
            continue
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert changed.sum() == len(rows) * len(columns)
        assert len(np.unique(images[i][changed])) == 1
        np.testing.assert_allclose(labels[i, i], 1 - changed.mean(), atol=1e-6)
        sizes.add((len(rows), len(columns)))
    assert len(sizes) > 10


def test_cut_mix_happens_with_its_probability():
    own, _ = kept(CutMix(probability=0.3, alpha=100.0), 1000)
    # With λ near a half a mixture always shows, but where the example is its own partner: one in eight.
    assert stats.binomtest(int((own < 0.999)[:, 0].sum()), 1000, 0.3 * 7 / 8).pvalue > 1e-3


@every_mixer
def test_integers_are_refused_with_what_to_do(mixer):
    with pytest.raises(ValueError, match=r"class probabilities.*smooth_labels"):
        mixer(jax.random.key(0), batch()._replace(label=jnp.arange(NUM)))
    labels = smooth_labels(jnp.arange(NUM), NUM)
    mixer(jax.random.key(0), batch()._replace(label=labels))


@pytest.mark.long
def test_training_converts_labels():
    experiment = train.Experiment(
        data=data.Digits(), model=models.ResNet(stage_sizes=(1,), width=4), mixers=(Mixup(), CutMix()), epochs=1,
        batch_size=240,
    )  # fmt: skip
    assert train.fit(experiment).step == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixup(alpha=0.0), "alpha"),
        (lambda: CutMix(alpha=-1.0), "alpha"),
        (lambda: CutMix(probability=1.5), "probability"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
