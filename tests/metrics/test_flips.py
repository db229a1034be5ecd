"""Flips and top-5 distances against the published code and plain loops."""

import numpy as np
import pytest
from scipy.stats import rankdata

from robust_jax.metrics import flips

T, F, K = np.mgrid[:4, :6, :10]
LOGITS = np.sin(1.7 * K + T * 2.1) + 0.8 * np.sin(0.9 * F * (K % 4 + 1) + K * T)
NAMES = tuple(flips.ALEXNET_FLIP_PROBABILITIES)

# Flip probabilities of ResNeXt-101 32x48d, trained on a billion images, as its evaluation on ImageNet-P published them.
RESNEXT = {
    "gaussian_noise": 0.0585, "shot_noise": 0.0699, "motion_blur": 0.0284, "zoom_blur": 0.0232, "snow": 0.0367,
    "brightness": 0.0154, "translate": 0.0242, "rotate": 0.0347, "tilt": 0.0215, "scale": 0.0462,
}  # fmt: skip


def ranking(logits):
    return np.argsort(-logits, axis=-1, kind="stable")[..., :5]


@pytest.mark.parametrize(("noise", "probability", "distance"), [(False, 0.75, 9.15), (True, 0.65, 9.4)])
def test_what_the_published_code_gives(noise, probability, distance):
    per_example = flips.flip_probability(LOGITS.argmax(-1), noise=noise)
    assert per_example.shape == (4,)
    assert per_example.mean() == pytest.approx(probability, abs=1e-12)
    assert flips.top5_distance(ranking(LOGITS), noise=noise).mean() == pytest.approx(distance, abs=1e-12)


@pytest.mark.parametrize("noise", [False, True])
def test_against_the_paper_written_out(noise):
    logits = np.random.default_rng(0).normal(size=(7, 5, 12)).cumsum(axis=1)
    for video, flip, distance in zip(
        logits,
        flips.flip_probability(logits.argmax(-1), noise=noise),
        flips.top5_distance(ranking(logits), noise=noise),
        strict=True,
    ):
        changed, moved = [], []
        for j in range(1, 5):
            before, after = video[0 if noise else j - 1], video[j]
            changed.append(before.argmax() != after.argmax())
            sigma = rankdata(-after, method="ordinal").astype(int)[np.argsort(-before)]
            moved.append(
                sum(
                    1 <= j - 1 <= 5
                    for i in range(1, 6)
                    for j in range(min(i, sigma[i - 1]) + 1, max(i, sigma[i - 1]) + 1)
                )
            )
        assert flip == pytest.approx(np.mean(changed))
        assert distance == pytest.approx(np.mean(moved))


def test_extremes():
    still = np.broadcast_to(np.arange(5), (2, 4, 5))
    assert flips.top5_distance(still, noise=False).tolist() == [0, 0]
    gone = np.arange(20).reshape(4, 5)
    assert flips.top5_distance(gone, noise=True) == 15
    assert flips.flip_probability(np.array([1, 2, 1, 2]), noise=False) == 1
    assert flips.flip_probability(np.array([1, 2, 1, 2]), noise=True) == pytest.approx(2 / 3)


def test_rates():
    table = np.array([[RESNEXT[name] for name in NAMES], list(flips.ALEXNET_FLIP_PROBABILITIES.values())])
    # Published as 27.8 %.
    np.testing.assert_allclose(flips.mean_flip_rate(table, NAMES), [0.278, 1], atol=5e-4)
    order = NAMES[::-1]
    np.testing.assert_allclose(flips.mean_flip_rate(table[:, ::-1], order), flips.mean_flip_rate(table, NAMES))
    np.testing.assert_allclose(flips.mean_flip_probability(table, NAMES), table.mean(axis=1))
    np.testing.assert_allclose(flips.mean_flip_probability(table, NAMES, ("tilt",)), [0.0215, 0.0705])
    assert flips.mean_rate(np.array([2.0, 9.0, 3.0]), ("a", "b", "c"), {"c": 6.0, "a": 1.0}) == pytest.approx(1.25)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        flips.flip_probability(np.zeros((3, 1), int), noise=False)
    with pytest.raises(ValueError, match=r"\[\.\.\., frames, 5\], got shape \(2, 4\)"):
        flips.top5_distance(np.zeros((2, 4), int), noise=False)
    with pytest.raises(ValueError, match=r"No values under 'snow'"):
        flips.mean_flip_rate(np.ones(9), [name for name in NAMES if name != "snow"])
    with pytest.raises(ValueError, match="2 perturbations"):
        flips.mean_flip_probability(np.ones(3), ("a", "b"))
    with pytest.raises(ValueError, match="positive reference"):
        flips.mean_rate(np.ones(1), ("a",), {"a": 0.0})
