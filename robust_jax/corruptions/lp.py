"""Random Lp-norm corruptions (Siedel, Shao, Vock & Morozov, arXiv 2305.05400) and Gaussian noise.

The radii of the paper are in :mod:`robust_jax.mathematics.lp_tables`. Like the paper's code, noise is not rounded to 8
bits, so that changes below 1/255 count. Unlike it, every image has noise of its own.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice, check_fraction, check_non_negative
from robust_jax.core.random_words import random_normal
from robust_jax.mathematics.lp_noise import add_lp_noise
from robust_jax.types import Image, PRNGKey

Severity = float | Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class RandomLp:
    """Noise drawn uniformly from the Lp ball of radius ``severity * eps``, then clipped to [0, 1].

    Raises:
        ValueError: if p or eps is negative, or eps above 1 for p = 0, where it is a fraction of the sub-pixels.
    """

    p: float = 2.0
    """Order of the norm: 0 for impulse noise, a positive number, or inf."""
    eps: float = 1.0
    """Radius at severity 1; for p = 0 the fraction of sub-pixels replaced."""
    surface: bool = False
    """Draw on the sphere instead of in the ball."""
    values: str = "uniform"
    """For p = 0, new values: uniform, or extremes (0 or 1)."""
    per_pixel: bool = False
    """For p = 0, replace whole pixels."""

    def __post_init__(self):
        check_non_negative("p", self.p)
        check_non_negative("eps", self.eps)
        check_choice("values", self.values, ("uniform", "extremes"))
        if self.p == 0:
            check_fraction("eps", self.eps)

    def __call__(self, key: PRNGKey, image: Image, severity: Severity = 1.0) -> Image:
        return add_lp_noise(
            key,
            image,
            p=self.p,
            eps=self.eps * severity,
            surface=self.surface,
            values=self.values,
            per_pixel=self.per_pixel,
        )


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Independent normal noise of standard deviation ``severity * sigma`` on every sub-pixel, clipped to [0, 1]."""

    sigma: float = 0.1
    """Standard deviation at severity 1, in units of the image's range."""

    def __post_init__(self):
        check_non_negative("sigma", self.sigma)

    def __call__(self, key: PRNGKey, image: Image, severity: Severity = 1.0) -> Image:
        return jnp.clip(image + self.sigma * severity * random_normal(key, image.shape), 0, 1)
