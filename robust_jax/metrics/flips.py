"""Stability of predictions along a sequence of frames (Hendrycks & Dietterich, arXiv 1903.12261, section 4.2).

Per sequence, so that a bootstrap may resample examples. Host statistics, in float64.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from robust_jax.core.checks import nearest

ALEXNET_FLIP_PROBABILITIES = {
    "gaussian_noise": 0.2365,
    "shot_noise": 0.3006,
    "motion_blur": 0.0930,
    "zoom_blur": 0.0594,
    "snow": 0.1193,
    "brightness": 0.0489,
    "translate": 0.1101,
    "rotate": 0.1310,
    "tilt": 0.0705,
    "scale": 0.2353,
}
"""AlexNet's flip probabilities on the ten sequences of ImageNet-P."""

TOP = 5

Values = Float[np.ndarray, "..."]
Probabilities = Float[np.ndarray, "... perturbations"]


def flip_probability(predictions: Int[np.ndarray, "... frames"], *, noise: bool) -> Values:
    r"""How often the predicted class changes along each sequence.

    .. math:: \frac{1}{F - 1} \sum_{j=2}^{F} 1[\hat y_j \ne \hat y_{j-1}], \quad \text{for noise} \quad
        \frac{1}{F - 1} \sum_{j=2}^{F} 1[\hat y_j \ne \hat y_1].

    Args:
        predictions: predicted classes.
        noise: compare with the first frame, not with the one before: frames of noise have no order.

    Raises:
        ValueError: if there are fewer than two frames.
    """
    before, after = _pairs(np.asarray(predictions), -1, noise)
    return (before != after).mean(axis=-1)


def top5_distance(ranking: Int[np.ndarray, "... frames 5"], *, noise: bool) -> Values:
    r"""How much the five likeliest classes change places along each sequence, T5D.

    Between frames, with :math:`\sigma(i)` the later rank of the class whose rank was i,

    .. math:: \sum_{i=1}^5 \sum_{j=\min\{i, \sigma(i)\}+1}^{\max\{i, \sigma(i)\}} 1[1 \le j - 1 \le 5]
        = \sum_{i=1}^5 |i - \min(\sigma(i), 6)|,

    averaged over the pairs that :func:`flip_probability` compares. 0 where all five keep their places, 15 where none
    of them is left.

    Args:
        ranking: the five likeliest classes, the likeliest first.
        noise: compare with the first frame, not with the one before.

    Raises:
        ValueError: if there are fewer than two frames, or not five classes.
    """
    ranking = np.asarray(ranking)
    if ranking.ndim < 2 or ranking.shape[-1] != TOP:
        raise ValueError(f"Expected rankings [..., frames, {TOP}], got shape {ranking.shape}.")
    before, after = _pairs(ranking, -2, noise)
    same = before[..., :, None] == after[..., None, :]
    later = np.where(same.any(axis=-1), same.argmax(axis=-1), TOP)
    return np.abs(np.arange(TOP) - later).sum(axis=-1).mean(axis=-1)


def mean_flip_probability(
    probabilities: Probabilities, names: Sequence[str], over: Collection[str] | None = None
) -> Values:
    """Mean flip probability over some of the perturbations, by default all; unnormalised, as usual on CIFAR-10-P.

    Raises:
        ValueError: if there is another number of columns than of names, or one of ``over`` is not among them.
    """
    return _columns(probabilities, names, names if over is None else over).mean(axis=-1)


def mean_flip_rate(probabilities: Probabilities, names: Sequence[str]) -> Values:
    r"""mFR, the mean over ImageNet-P's ten perturbations of the flip probability over AlexNet's; AlexNet scores 1.

    AlexNet's are those on ImageNet-P; on other data the ratio can be formed but not be compared with published ones.

    Raises as :func:`mean_flip_probability`.
    """
    return mean_rate(probabilities, names, ALEXNET_FLIP_PROBABILITIES)


def mean_rate(values: Probabilities, names: Sequence[str], reference: Mapping[str, float]) -> Values:
    """Mean over the perturbations of a reference model of what was measured over what the reference has.

    With top-5 distances and AlexNet's, it is the paper's mT5D.

    Raises as :func:`mean_flip_probability`, and ``ValueError`` if a value of the reference is not positive.
    """
    if not all(value > 0 for value in reference.values()):
        raise ValueError(f"Expected positive reference values, got {dict(reference)}.")
    return (_columns(values, names, tuple(reference)) / np.array(list(reference.values()))).mean(axis=-1)


def _pairs(frames: np.ndarray, axis: int, noise: bool) -> tuple[np.ndarray, np.ndarray]:
    frames = np.moveaxis(frames, axis, 0)
    if len(frames) < 2:
        raise ValueError(f"Expected at least 2 frames, got {len(frames)}.")
    before = np.broadcast_to(frames[:1], frames[1:].shape) if noise else frames[:-1]
    return np.moveaxis(before, 0, axis), np.moveaxis(frames[1:], 0, axis)


def _columns(values: Probabilities, names: Sequence[str], over: Collection[str]) -> Probabilities:
    values, names = np.asarray(values, np.float64), list(names)
    if values.ndim < 1 or values.shape[-1] != len(names):
        raise ValueError(f"Expected values [..., {len(names)} perturbations], got shape {values.shape}.")
    for name in over:
        if name not in names:
            raise ValueError(f"No values under {name!r}.{nearest(name, names)}")
    return values[..., [names.index(name) for name in over]]
