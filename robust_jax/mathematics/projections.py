r"""Euclidean projections on the intersection of a ball and the box [0, 1], exact where ball-then-box is not.

Both clip a shrunk vector, :math:`\mathrm{sign}(\delta)\, m` with :math:`0 \le m_i \le r_i`, where r is the room that
the box leaves on the side of each entry. How much to shrink is the root of a monotone function, found by bisection,
which needs no sorting, and then, the clipped entries being known, in closed form.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Radius = float | Float[Array, ""]
# Brackets the root to a 2^-24 th of the interval, the precision of float32.
BISECTIONS = 24


def project_l2_box(delta: Float[Array, "*shape"], image: Float[Array, "*shape"], eps: Radius) -> Float[Array, "*shape"]:
    r"""The nearest d to ``delta`` with :math:`\lVert d \rVert_2 \le \epsilon` and image + d in [0, 1].

    .. math:: m_i = \min(s |\delta_i|, r_i), \quad s \in [0, 1] \text{ the largest with } \lVert m \rVert_2 \le \epsilon

    Args:
        delta: a vector of any shape.
        image: in [0, 1], of the same shape.
        eps: radius, at least 0; may be traced.
    """
    modulus, room = _modulus_and_room(delta, image)

    def norm(s: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.sqrt(jnp.sum(jnp.minimum(s * modulus, room) ** 2))

    low = _bisect(lambda s: norm(s) <= eps, jnp.zeros(()), jnp.ones(()))
    bound = low * modulus >= room
    left = eps**2 - jnp.sum(jnp.where(bound, room, 0) ** 2)
    free = jnp.sum(jnp.where(bound, 0, modulus) ** 2)
    exact = jnp.sqrt(jnp.maximum(left, 0) / jnp.where(free > 0, free, 1))
    s = jnp.where(norm(jnp.ones(())) <= eps, 1, jnp.where(free > 0, jnp.clip(exact, low, 1), low))
    return _shrunk(delta, jnp.minimum(s * modulus, room), eps, lambda m: jnp.sqrt(jnp.sum(m**2)))


def project_l1_box(delta: Float[Array, "*shape"], image: Float[Array, "*shape"], eps: Radius) -> Float[Array, "*shape"]:
    r"""The nearest d to ``delta`` with :math:`\lVert d \rVert_1 \le \epsilon` and image + d in [0, 1].

    .. math:: m_i = \min(\max(|\delta_i| - \lambda, 0), r_i), \quad
        \lambda \ge 0 \text{ the least with } \lVert m \rVert_1 \le \epsilon

    Args:
        delta: a vector of any shape.
        image: in [0, 1], of the same shape.
        eps: radius, at least 0; may be traced.

    References:
        Croce & Hein, "Mind the box" (arXiv 2103.01208), proposition 2.1, where the breakpoints are sorted.
    """
    modulus, room = _modulus_and_room(delta, image)

    def magnitudes(shift: Float[Array, ""]) -> Float[Array, "*shape"]:
        return jnp.clip(modulus - shift, 0, room)

    largest = jnp.max(modulus)
    # In terms of what is left of the largest entry, the norm increases.
    kept = _bisect(lambda kept: jnp.sum(magnitudes(largest - kept)) <= eps, jnp.zeros(()), largest)
    m = magnitudes(largest - kept)
    free = (m > 0) & (m < room)
    left = eps - jnp.sum(jnp.where(free, 0, m))
    exact = (jnp.sum(jnp.where(free, modulus, 0)) - left) / jnp.maximum(jnp.sum(free), 1)
    shift = jnp.where(jnp.any(free), jnp.clip(exact, 0, largest - kept), largest - kept)
    shift = jnp.where(jnp.sum(magnitudes(jnp.zeros(()))) <= eps, 0, shift)
    return _shrunk(delta, magnitudes(shift), eps, jnp.sum)


def _modulus_and_room(delta: Array, image: Array) -> tuple[Array, Array]:
    return jnp.abs(delta), jnp.maximum(jnp.where(delta >= 0, 1 - image, image), 0)


def _bisect(holds, low: Float[Array, ""], high: Float[Array, ""]) -> Float[Array, ""]:
    """The end of the interval's part, at its lower end, on which a condition holds."""

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        return jax.lax.cond(holds(middle), lambda: (middle, high), lambda: (low, middle))

    return jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))[0]


def _shrunk(delta: Array, m: Array, eps: Radius, norm) -> Array:
    """With the signs of delta, and what rounding has added to the norm taken off again."""
    size = norm(m)
    return jnp.sign(delta) * m * jnp.minimum(1, eps / jnp.where(size > 0, size, 1))
