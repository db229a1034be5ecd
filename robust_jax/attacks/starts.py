"""Starting points of gradient attacks."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.attacks.threats import Threat
from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.random_words import random_normal
from robust_jax.types import Images, PRNGKeys


@dataclasses.dataclass(frozen=True)
class Gaussian:
    r"""Start at :math:`x + \sigma z` with :math:`z \sim N(0, I)`.

    The start is neither clipped to [0, 1] nor projected, as in the published code; the first step projects it. Attacks
    that may return their start, those with ``keep="best"``, project it first.

    Raises:
        ValueError: if sigma is not positive.

    References:
        Zhang et al., "Theoretically principled trade-off between robustness and accuracy" (arXiv 1901.08573).
    """

    sigma: float = 0.001
    """Standard deviation of the noise, in [0, 1] units of the image."""

    def __post_init__(self):
        check_positive("sigma", self.sigma)


Start = Literal["uniform", "zero"] | Gaussian
"""Uniform in the threat, the image itself, or the image with Gaussian noise."""


def check_start(start: Start) -> None:
    """Raises ``ValueError`` unless ``start`` is "uniform", "zero" or a :class:`Gaussian`."""
    if not isinstance(start, Gaussian):
        check_choice("start", start, ("uniform", "zero"))


def start_perturbations(
    keys: PRNGKeys, start: Start, threat: Threat, images: Images, eps: Float[Array, "b"], *, feasible: bool
) -> Images:
    """The perturbations that an attack starts from.

    Args:
        keys: one for each example.
        start: the kind of start.
        threat: set of perturbations.
        images: in [0, 1].
        eps: radii.
        feasible: whether Gaussian noise is projected on the threat.
    """
    if start == "zero":
        return jnp.zeros_like(images)
    if start == "uniform":
        return jax.vmap(threat.random)(keys, images, eps)
    noise = start.sigma * jax.vmap(lambda key, image: random_normal(key, image.shape))(keys, images)
    noise = noise.astype(images.dtype)
    return jax.vmap(threat.project)(noise, images, eps) if feasible else noise
