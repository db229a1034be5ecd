"""Random Lp-norm noise on images: what corruptions test with and augmentations train with."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.core.random_words import random_words
from robust_jax.mathematics.norms import Scalar, l0_from_words, lp_from_words, sample_l0, sample_lp
from robust_jax.types import Image, PRNGKey


def add_lp_noise(
    key: PRNGKey,
    image: Image,
    *,
    p: float,
    eps: Scalar,
    surface: bool = False,
    values: str = "uniform",
    per_pixel: bool = False,
) -> Image:
    r"""An image with random noise from the Lp ball of radius eps, clipped to [0, 1].

    .. math:: \mathrm{clip}(x + \delta, 0, 1), \quad \delta \sim U\{\lVert \delta \rVert_p \le \epsilon\}

    For p = 0, impulse noise: exactly the fraction eps of the sub-pixels is replaced by random values.

    Args:
        key: random key.
        image: in [0, 1].
        p: order of the norm, 0, positive, or infinity.
        eps: radius, or for p = 0 a fraction; may be traced.
        surface: for p > 0, draw on the sphere.
        values: for p = 0, ``"uniform"`` or ``"extremes"``; see :func:`~robust_jax.mathematics.norms.sample_l0`.
        per_pixel: for p = 0, replace all channels of a pixel together.

    Raises:
        ValueError: if p or eps is outside its range.
    """
    if p == 0:
        mask, new = sample_l0(key, image.shape, eps, values=values, per_pixel=per_pixel)
        return jnp.where(mask, new, image)
    return jnp.clip(image + sample_lp(key, image.shape, p, eps, surface=surface), 0, 1)


def add_lp_noise_choice(
    key: PRNGKey, image: Image, norms: Sequence[float], index: Int[Array, ""], eps: Float[Array, ""]
) -> Image:
    """As :func:`add_lp_noise` for the norm ``norms[index]``, where index and eps are traced.

    One program serves every case. Where the index is one for the whole batch only the branch it needs is run; where
    each image has its own, both are, of which there are two: impulse noise, and all the other norms together.
    """
    dense = tuple(p for p in norms if p != 0)
    position = jnp.asarray([dense.index(p) if p != 0 else 0 for p in norms], jnp.int32)[index]

    words_key, radius_key = jax.random.split(key)
    words = random_words(words_key, image.shape)

    def impulse() -> Array:
        mask, new = l0_from_words(words, eps)
        return jnp.where(mask, new, image)

    def ball() -> Array:
        return jnp.clip(image + lp_from_words(words, radius_key, dense, position, eps), 0, 1)

    if 0 not in norms:
        return ball()
    if not dense:
        return impulse()
    return jax.lax.cond(jnp.asarray([p == 0 for p in norms])[index], impulse, ball)
