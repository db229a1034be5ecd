"""Measures of restored images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def psnr(mean_squared_error: Float[np.ndarray, "..."], *, peak: float = 1.0) -> Float[np.ndarray, "..."]:
    r"""Peak signal-to-noise ratio :math:`10 \log_{10} (peak^2 / \mathrm{MSE})` in dB; infinite where the error is 0.

    Args:
        mean_squared_error: per image, over its pixels and channels. The PSNR of a set is the mean of its images'.
        peak: the largest value of a pixel; 1 for images in [0, 1].
    """
    error = np.asarray(mean_squared_error, np.float64)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / error)
