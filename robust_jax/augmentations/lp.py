"""Training with random Lp-norm noise (arXiv 2305.05400) and with Gaussian noise."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from robust_jax.augmentations.maps import Photometric
from robust_jax.core.checks import check_fraction, check_non_negative
from robust_jax.core.random_words import random_normal
from robust_jax.mathematics.lp_noise import add_lp_noise_choice
from robust_jax.mathematics.lp_tables import Case, training_cases
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class RandomLp(Photometric):
    """Noise from the ball of a norm and radius drawn for each image from a list.

    The original implementation draws one noise tensor for eight images; here every image has its own.

    Raises:
        ValueError: if the set or table is unknown, the list empty, a norm or radius negative, or an L0 fraction
            above 1.
    """

    cases: str | tuple[tuple[float, float], ...] = "c2"
    """A training set of the paper, c1, c2, c3 or one norm as l0, scaled to the image's size; or pairs (p, eps)."""
    table: str = "cifar"
    """Whose radii the sets use: cifar or tiny_imagenet."""

    def __post_init__(self):
        for p, eps in self._cases(None):
            check_non_negative("p", p)
            check_non_negative("eps", eps)
            if p == 0:
                check_fraction("eps", eps)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        cases = self._cases(image.shape)
        norms = tuple(dict.fromkeys(case.p for case in cases))
        case_key, key = jax.random.split(key)
        case = jax.random.randint(case_key, (), 0, len(cases))
        index = jnp.asarray([norms.index(c.p) for c in cases], jnp.int32)[case]
        eps = jnp.asarray([c.eps for c in cases], jnp.float32)[case]
        return add_lp_noise_choice(key, image, norms, index, eps)

    def _cases(self, shape: tuple[int, ...] | None) -> tuple[Case, ...]:
        if isinstance(self.cases, str):
            return training_cases(self.cases, self.table, shape)
        if not self.cases:
            raise ValueError("Expected at least one of cases, got none.")
        return tuple(Case(float(p), float(eps)) for p, eps in self.cases)


@dataclasses.dataclass(frozen=True)
class Gaussian(Photometric):
    """Normal noise of a standard deviation drawn for each image from U(0, sigma), or of sigma; clipped to [0, 1]."""

    sigma: float = 0.1
    """Largest standard deviation, in units of the image's range."""
    fixed: bool = False
    """Always use sigma itself."""

    def __post_init__(self):
        check_non_negative("sigma", self.sigma)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        sigma_key, key = jax.random.split(key)
        sigma = self.sigma if self.fixed else self.sigma * jax.random.uniform(sigma_key)
        return jnp.clip(image + sigma * random_normal(key, image.shape), 0, 1)
