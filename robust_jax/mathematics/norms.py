r"""Lp geometry: sampling of balls and spheres, norms, projections. 0 < p ≤ ∞, and p = 0 as a count.

A *vector* is an array of any shape; all its axes together are its d dimensions. For many vectors, ``jax.vmap``.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from robust_jax.core.checks import check_choice, check_fraction, check_non_negative, check_positive
from robust_jax.core.random_words import random_uniform, random_words
from robust_jax.mathematics.generalised_normal import Words, from_words, generalised_normal, host_table
from robust_jax.types import PRNGKey

Scalar = float | Float[Array, ""]


def sample_lp(
    key: PRNGKey,
    shape: tuple[int, ...],
    p: Scalar,
    eps: Scalar,
    *,
    surface: bool = False,
) -> Float[Array, "*shape"]:
    r"""A vector drawn uniformly from the Lp ball of radius eps.

    .. math:: \delta = \epsilon\, r\, \frac{x}{\lVert x \rVert_p}, \quad
        x_i \sim \exp(-|x_i|^p) \text{ independent}, \quad r = u^{1/d}, \; u \sim U(0, 1).

    For p = ∞ its entries are independent, uniform in [-eps, eps]. The norm is taken relative to the largest entry, so
    nothing under- or overflows for p from 0.1 to 1000. Entries are about :math:`\epsilon\, d^{-1/p}`; those below
    1e-38, as many are at p = 0.1 with d = 3072 and eps = 1, are subnormal, which arithmetic in XLA takes for zero.

    Args:
        key: random key.
        shape: of the vector; d is its size.
        p: order of the norm, a positive number or infinity; or a traced scalar in [0.05, 2000].
        eps: radius, at least 0; may be traced.
        surface: draw from the sphere's cone measure, r = 1; for p = ∞ every entry is then ±eps.

    Raises:
        ValueError: if p or eps is a number outside its range.

    References:
        Siedel, Shao, Vock & Morozov, "Investigating the Corruption Robustness of Image Classifiers with Random Lp-norm
        Corruptions" (arXiv 2305.05400), section 3; Barthe et al., "A probabilistic approach to the geometry of the
        lp-ball" (2005). Unlike the former's code, p = ∞ with ``surface`` does give ±eps.
    """
    _check_number(check_positive, "p", p)
    _check_number(check_non_negative, "eps", eps)
    if not isinstance(p, Tracer) and math.isinf(p):
        return eps * _sample_cube(key, shape, surface=surface)
    x_key, radius_key = jax.random.split(key)
    x = generalised_normal(x_key, shape, p)
    relative, log_norm = _relative(x, p)
    # exp is at most 1 and, for the smallest p, below 1e-32, so eps goes in first.
    scale = eps * jnp.exp(_log_radius(radius_key, x.size, surface) - log_norm)
    return _multiply_gradually(relative, scale) if _may_underflow(p) else relative * scale


def lp_from_words(
    words: Words, radius_key: PRNGKey, norms: tuple[float, ...], index: Int[Array, ""], eps: Scalar
) -> Float[Array, "*shape"]:
    """As :func:`sample_lp` in the ball of ``norms[index]``, from 32 random bits an entry; the index is traced.

    All norms, ∞ too, share one path, so under ``jax.vmap`` each vector has its own norm and radius at no extra cost.
    """
    tables = jnp.asarray(np.stack([host_table(float(p)) for p in norms]))
    p = jnp.asarray(norms, jnp.float32)[index]
    finite = jnp.isfinite(p)
    x = from_words(words, tables[index])
    relative, log_norm = _relative(x, jnp.where(finite, p, 1.0))
    scale = eps * jnp.exp(_log_radius(radius_key, x.size, False) - log_norm)
    return jnp.where(finite, relative * scale, x * eps)


def sample_l0(
    key: PRNGKey,
    shape: tuple[int, ...],
    eps: Scalar,
    *,
    values: str = "uniform",
    per_pixel: bool = False,
) -> tuple[Bool[Array, "*shape"], Float[Array, "*shape"]]:
    """Which entries to replace, and with what: exactly ``round(eps * d)`` distinct ones, every set equally likely.

    Args:
        key: random key.
        shape: of the vector.
        eps: fraction in [0, 1] of the d entries that is replaced; may be traced.
        values: ``"uniform"`` on [0, 1], or ``"extremes"``, 0 or 1 with equal chance.
        per_pixel: replace pixels, all channels (the last axis) of each together; d then counts pixels.

    Returns:
        The mask and the new values; apply as ``jnp.where(mask, values, image)``.

    Raises:
        ValueError: if eps is a number outside [0, 1], or ``values`` is unknown.

    References:
        arXiv 2305.05400, section 3, "impulse" noise. Its code draws positions with replacement, so that fewer entries
        change than it says; here they are distinct.
    """
    _check_number(check_fraction, "eps", eps)
    check_choice("values", values, ("uniform", "extremes"))
    if not per_pixel:
        mask, new = l0_from_words(random_words(key, shape), eps)
    else:
        mask_key, value_key = jax.random.split(key)
        mask, _ = l0_from_words(random_words(mask_key, (*shape[:-1], 1)), eps)
        mask, new = jnp.broadcast_to(mask, shape), random_uniform(value_key, shape)
    return mask, new if values == "uniform" else jnp.round(new)


def l0_from_words(words: Words, eps: Scalar) -> tuple[Bool[Array, "*shape"], Float[Array, "*shape"]]:
    """As :func:`sample_l0` with uniform values, from 32 random bits an entry.

    The entries replaced are those with the smallest words. Their threshold, the least word *not* among them, is found
    bit by bit, by counting, which is much faster than sorting and takes a traced number. Given the threshold, the
    words below it are independent and uniform below it, so their ratios to it serve as the new values.
    """
    flat = words.reshape(-1)
    count = jnp.round(eps * flat.size).astype(jnp.int32)

    def refine(i: Int[Array, ""], threshold: Array) -> Array:
        candidate = threshold | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        # The largest threshold with at most `count` words below it.
        return jnp.where(jnp.sum(flat < candidate) <= count, candidate, threshold)

    threshold = jax.lax.fori_loop(0, 32, refine, jnp.uint32(0))
    below = flat < threshold
    # Words equal to the threshold, should there be more than one, are taken in order.
    tied = flat == threshold
    mask = below | (tied & (jnp.cumsum(tied) - 1 < count - jnp.sum(below)))
    values = flat.astype(jnp.float32) / jnp.maximum(threshold, 1).astype(jnp.float32)
    return mask.reshape(words.shape), jnp.minimum(values, 1).reshape(words.shape)


def norm_lp(x: Float[Array, "*shape"], p: float) -> Float[Array, ""]:
    r""":math:`\lVert x \rVert_p = (\sum_i |x_i|^p)^{1/p}` over all axes; for p = 0 the number of non-zero entries.

    Computed relative to the largest entry, so that powers neither under- nor overflow.

    Raises:
        ValueError: if p is negative.
    """
    check_non_negative("p", p)
    modulus = jnp.abs(x)
    if p == 0:
        return jnp.sum(modulus > 0).astype(x.dtype)
    largest = jnp.max(modulus)
    if p == jnp.inf:
        return largest
    relative = modulus / jnp.where(largest > 0, largest, 1)
    # The inner where keeps the gradient of 0^p finite.
    powers = jnp.where(relative > 0, jnp.where(relative > 0, relative, 1) ** p, 0)
    total = jnp.sum(powers)
    return jnp.where(largest > 0, largest * jnp.where(largest > 0, total, 1) ** (1 / p), 0)


def project_lp(x: Float[Array, "*shape"], p: float, eps: Scalar) -> Float[Array, "*shape"]:
    """The nearest point, in the Euclidean sense, of the Lp ball of radius eps around 0, for p in {0, 1, 2, ∞}.

    For p = 0, ``eps`` is a number of entries: the ``round(eps)`` largest are kept. For p = 1 the soft threshold of
    Duchi et al. (2008), figure 1, is found by sorting.

    Raises:
        ValueError: if p is another number, or eps is negative.
    """
    _check_number(check_non_negative, "eps", eps)
    if p == jnp.inf:
        return jnp.clip(x, -eps, eps)
    if p == 2:
        norm = norm_lp(x, 2)
        return x * jnp.minimum(1, eps / jnp.where(norm > 0, norm, 1))
    flat = jnp.abs(x).reshape(-1)
    if p == 0:
        order = jnp.argsort(-flat, stable=True)
        rank = jnp.zeros(flat.size, jnp.int32).at[order].set(jnp.arange(flat.size))
        return jnp.where((rank < jnp.round(eps)).reshape(x.shape), x, 0)
    if p == 1:
        descending = jnp.sort(flat, descending=True)
        excess = (jnp.cumsum(descending) - eps) / jnp.arange(1, flat.size + 1)
        last = jnp.sum(descending > excess) - 1
        threshold = jnp.maximum(excess[jnp.maximum(last, 0)], 0)
        return jnp.sign(x) * jnp.maximum(jnp.abs(x) - threshold, 0)
    raise ValueError(f"Expected p in (0, 1, 2, inf), got p={p!r}.")


def _relative(x: Array, p: Scalar) -> tuple[Array, Array]:
    """``x / max|x|`` and the log of its Lp norm, which is at least 0."""
    relative = x / jnp.max(jnp.abs(x))
    modulus = jnp.abs(relative)
    # A small whole power is a product or two; any other is an exponential and a logarithm.
    whole = not isinstance(p, jax.Array) and p in (1, 2, 5, 10)
    powers = modulus ** int(p) if whole else jnp.exp(p * jnp.log(modulus))
    return relative, jnp.log(jnp.sum(powers)) / p


def _log_radius(key: PRNGKey, size: int, surface: bool) -> Float[Array, ""]:
    """Log of U^(1/d), or of 1."""
    return jnp.zeros(()) if surface else jnp.log(jax.random.uniform(key, minval=1e-37)) / size


def _sample_cube(key: PRNGKey, shape: tuple[int, ...], *, surface: bool) -> Array:
    if surface:
        return jnp.where(random_words(key, shape) & 1, 1.0, -1.0)
    return 2.0 * random_uniform(key, shape) - 1.0


def _check_number(check, name: str, value: Scalar) -> None:
    if not isinstance(value, Tracer):
        check(name, float(value))


def _may_underflow(p: Scalar) -> bool:
    return not isinstance(p, Tracer) and bool(p < 0.2)


def _multiply_gradually(x: Float[Array, "*shape"], scale: Float[Array, ""]) -> Float[Array, "*shape"]:
    """``x * scale`` with gradual underflow, where XLA flushes subnormal results to zero."""
    product = x * scale
    # In units of the least subnormal number, 2^-149, which are also its bits.
    units = jnp.round(jnp.abs(x) * (scale * 2.0**75) * 2.0**74)
    bits = jnp.minimum(units, 2.0**23).astype(jnp.uint32) | (jnp.signbit(x).astype(jnp.uint32) << 31)
    return jnp.where(units < 2.0**23, jax.lax.bitcast_convert_type(bits, jnp.float32), product)
