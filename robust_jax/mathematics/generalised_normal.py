r"""Draws from the generalised normal law, density :math:`\propto \exp(-|x|^p)`, by a tabulated quantile.

The modulus is :math:`G^{1/p}` with :math:`G \sim \Gamma(1/p, 1)`. A gamma sampler by rejection is slow on every
backend and, for large p, :math:`G` underflows: at p = 200 two thirds of float32 draws would be zero. So the quantile
of the *modulus* is tabulated in float64 on the host, and a draw is 32 random bits, one look-up and one interpolation.
The first and the last of the table's cells are tabulated again, as finely, so that the law is followed down to tail
probabilities of about 1e-6; within a cell it is linear.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, UInt
from scipy import special

from robust_jax.core.checks import check_positive
from robust_jax.core.random_words import random_words
from robust_jax.types import PRNGKey

CELL_BITS = 10
NUM_CELLS = 1 << CELL_BITS
MODULUS_BITS = 31
TAIL = 2.0**-32

P_MIN, P_MAX, P_KNOTS = 0.05, 2000.0, 192

Table = Float[Array, "3*1024 2"]
"""Start and rise of the modulus over each cell: the whole range, then its first cell, then its last."""


Words = UInt[Array, "*shape"]
"""32 random bits an entry."""


def generalised_normal(key: PRNGKey, shape: tuple[int, ...], p: float | Float[Array, ""]) -> Float[Array, "*shape"]:
    r"""Independent draws with density :math:`\propto \exp(-|x|^p)`, in units of the median modulus.

    At p = ∞ the law is uniform on [-1, 1], and so are the draws.

    Args:
        key: random key.
        shape: of the result.
        p: exponent, in (0, ∞]. A number is followed exactly; a traced value by interpolation between tables, for p
            in [0.05, 2000].

    Raises:
        ValueError: if p is a number and not positive.
    """
    return from_words(random_words(key, shape), modulus_table(p))


def from_words(words: Words, table: Table) -> Float[Array, "*shape"]:
    """As :func:`generalised_normal`, from 32 random bits an entry and the table of p."""
    sign = jnp.where(words & 1, 1.0, -1.0)
    return sign * _look_up(table, words >> 1)


def modulus_table(p: float | Float[Array, ""]) -> Table:
    """The table :func:`generalised_normal` reads, for a number or a traced scalar p."""
    if not isinstance(p, Tracer):
        return jnp.asarray(host_table(float(p)))
    knots, tables = _all_tables()
    position = (jnp.log(p) - knots[0]) / (knots[1] - knots[0])
    cell = jnp.clip(position.astype(jnp.int32), 0, P_KNOTS - 2)
    weight = jnp.clip(position - cell, 0, 1)
    tables = jnp.asarray(tables)
    return (1 - weight) * tables[cell] + weight * tables[cell + 1]


@functools.lru_cache(maxsize=64)
def host_table(p: float) -> np.ndarray:
    """The table of one exponent, as ``float32[3 * 1024, 2]`` on the host.

    Raises:
        ValueError: if p is not positive.
    """
    check_positive("p", p)
    knots = np.arange(NUM_CELLS + 1) / NUM_CELLS
    lower, upper = knots / NUM_CELLS, (1 - knots) / NUM_CELLS
    if np.isinf(p):
        sections = [knots, lower, 1 - upper]
    else:
        median = log_modulus_quantile(np.array([0.5]), np.array([0.5]), p)
        sections = [
            np.exp(log_modulus_quantile(np.maximum(cdf, TAIL), np.maximum(survival, TAIL), p) - median)
            for cdf, survival in ((knots, 1 - knots), (lower, 1 - lower), (1 - upper, upper))
        ]
        sections[0][0] = sections[1][0] = 0.0
    starts = np.concatenate([section[:-1] for section in sections])
    rises = np.concatenate([np.diff(section) for section in sections])
    return np.stack([starts, rises], axis=1).astype(np.float32)


def log_modulus_quantile(cdf: np.ndarray, survival: np.ndarray, p: float) -> np.ndarray:
    r"""Log of the modulus whose distribution function is ``cdf``; in float64, on the host.

    ``survival`` is one minus ``cdf``, given apart so that the upper tail keeps its precision. Where :math:`G` is too
    small for the inverse incomplete gamma function, its series
    :math:`P(a, G) = G^a / \Gamma(1 + a)\,(1 + O(G))` is inverted instead.
    """
    a = 1 / p
    gamma = np.where(cdf < 0.5, special.gammaincinv(a, cdf), special.gammainccinv(a, survival))
    series = np.log(cdf) + special.gammaln(1 + a)
    small = gamma < 1e-14
    return np.where(small, series, a * np.log(np.where(small, 1.0, gamma)))


@functools.lru_cache(maxsize=1)
def _all_tables() -> tuple[np.ndarray, np.ndarray]:
    """Log exponents, equally spaced, and the table of each."""
    knots = np.linspace(np.log(P_MIN), np.log(P_MAX), P_KNOTS)
    return knots, np.stack([host_table.__wrapped__(float(np.exp(knot))) for knot in knots])


def _look_up(table: Table, word: Array) -> Array:
    """The modulus at a uniform 31-bit word."""
    rest_bits = MODULUS_BITS - CELL_BITS
    tail_bits = rest_bits - CELL_BITS
    cell = word >> rest_bits
    rest = word & ((1 << rest_bits) - 1)
    first, last = cell == 0, cell == NUM_CELLS - 1
    tail_cell = rest >> tail_bits
    index = jnp.where(first, NUM_CELLS + tail_cell, jnp.where(last, 2 * NUM_CELLS + tail_cell, cell))
    # Half a step keeps the draw off zero, where the law has no mass.
    fraction = (rest.astype(jnp.float32) + 0.5) * 2.0**-rest_bits
    tail_fraction = ((rest & ((1 << tail_bits) - 1)).astype(jnp.float32) + 0.5) * 2.0**-tail_bits
    fraction = jnp.where(first | last, tail_fraction, fraction)
    index = index.astype(jnp.int32)
    # Two gathers of scalars are faster than one of pairs on a CPU.
    start = table[:, 0].at[index].get(mode="promise_in_bounds")
    rise = table[:, 1].at[index].get(mode="promise_in_bounds")
    return start + fraction * rise
