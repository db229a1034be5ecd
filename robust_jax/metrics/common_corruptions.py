"""Summaries of the errors under common corruptions (Hendrycks & Dietterich, arXiv 1903.12261, section 4.1).

They are functions of an error matrix ``f[..., corruptions, severities]`` in [0, 1] and the names of its corruptions.
Leading axes, such as resamples, are kept. Host statistics, in float64.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float

from robust_jax.core.checks import nearest

ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's errors under the 15 corruptions of ImageNet-C, each the mean over five severities."""

ALEXNET_CLEAN_ERROR = 0.43478
"""AlexNet's error on the clean images: torchvision's weights, which the paper used and rounds to 43.5 %."""

COMMON = tuple(ALEXNET_ERRORS)
"""The 15 corruptions of the benchmark."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Four more, which the paper keeps for validation."""

NOISE = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
"""What is left out of a mean without noise."""

GROUPS = {"noise": COMMON[:3], "blur": COMMON[3:7], "weather": COMMON[7:11], "digital": COMMON[11:]}
"""The paper's groups of the 15."""

Errors = Float[np.ndarray, "... corruptions severities"]
Values = Float[np.ndarray, "..."]


def mean_error(errors: Errors, names: Sequence[str], over: Collection[str] | None = None) -> Values:
    """Mean error over some of the corruptions, by default all, and over their severities; unnormalised.

    Raises:
        ValueError: if the matrix has another number of corruptions than there are names, or one of ``over`` is not
            among them.
    """
    return _rows(errors, names, names if over is None else over).mean(axis=(-1, -2))


def mean_error_15(errors: Errors, names: Sequence[str]) -> Values:
    r"""Mean error :math:`\frac{1}{15} \sum_c \frac{1}{S} \sum_s E_{s,c}` over the benchmark's 15 corruptions.

    On CIFAR-10-C this is what most papers call mCE, without AlexNet. Raises as :func:`mean_error`.
    """
    return mean_error(errors, names, COMMON)


def mean_error_19(errors: Errors, names: Sequence[str]) -> Values:
    """As :func:`mean_error_15`, over all 19: the four extra ones as well. Some papers call this mCE, too."""
    return mean_error(errors, names, COMMON + EXTRA)


def mean_error_15_without_noise(errors: Errors, names: Sequence[str]) -> Values:
    """Mean error over the 12 of the 15 corruptions that are not noise, for models trained with noise."""
    return mean_error(errors, names, [name for name in COMMON if name not in NOISE])


def mean_error_19_without_noise(errors: Errors, names: Sequence[str]) -> Values:
    """Mean error over the 15 of all 19 corruptions that are not noise: mCE_xN of arXiv 2305.05400."""
    return mean_error(errors, names, [name for name in COMMON + EXTRA if name not in NOISE])


def worst_severity_error(errors: Errors, names: Sequence[str], over: Collection[str] | None = None) -> Values:
    """Mean over corruptions of the error at the severity that hurts most, which need not be the fifth."""
    return _rows(errors, names, names if over is None else over).max(axis=-1).mean(axis=-1)


def alexnet_mce(errors: Errors, names: Sequence[str]) -> Values:
    r"""mCE :math:`\frac{1}{15} \sum_c \frac{\sum_s E_{s,c}}{\sum_s E^{AlexNet}_{s,c}}`; AlexNet scores 1.

    Sums over the five severities are divided, as the paper does. RobustBench divides severity by severity and then
    averages, which gives a slightly different number. AlexNet's errors are those at ImageNet-C's five severities; on
    other data or severities the ratio can be formed but not be compared with published ones.

    Raises as :func:`mean_error`.
    """
    return (_rows(errors, names, COMMON).mean(axis=-1) / _alexnet()).mean(axis=-1)


def relative_alexnet_mce(errors: Errors, clean_error: Values, names: Sequence[str]) -> Values:
    r"""Relative mCE: :func:`alexnet_mce` of what corruption adds to the error on clean images.

    .. math:: \frac{1}{15} \sum_c \frac{\sum_s (E_{s,c} - E_{clean})}
        {\sum_s (E^{AlexNet}_{s,c} - E^{AlexNet}_{clean})}

    Raises as :func:`mean_error`.
    """
    added = _rows(errors, names, COMMON).mean(axis=-1) - np.asarray(clean_error, np.float64)[..., None]
    return (added / (_alexnet() - ALEXNET_CLEAN_ERROR)).mean(axis=-1)


def retained_accuracy(
    errors: Errors, clean_error: Values, names: Sequence[str], over: Collection[str] | None = None
) -> Values:
    r"""Share of the accuracy that corruption leaves, :math:`(1 - \bar E) / (1 - E_{clean})`, over some or all of them.

    NaN where nothing was right on clean images.
    """
    clean = 1 - np.asarray(clean_error, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(clean > 0, (1 - mean_error(errors, names, over)) / clean, np.nan)


def _alexnet() -> Float[np.ndarray, "15"]:
    return np.array(list(ALEXNET_ERRORS.values()))


def _rows(errors: Errors, names: Sequence[str], over: Collection[str]) -> Errors:
    errors, names = np.asarray(errors, np.float64), list(names)
    if errors.ndim < 2 or errors.shape[-2] != len(names):
        raise ValueError(f"Expected errors [..., {len(names)} corruptions, severities], got shape {errors.shape}.")
    for name in over:
        if name not in names:
            raise ValueError(f"No errors under {name!r}.{nearest(name, names)}")
    return errors[..., [names.index(name) for name in over], :]
