r"""Shortest ways from a point in the box [0, 1] to a hyperplane, within the box.

Of :math:`\min \lVert d \rVert_p` with :math:`w \cdot (x + d) = b` and :math:`x + d` in the box. Where the box does not
reach the hyperplane, d goes as far towards it as the box allows.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.types import Image

NEWTON_STEPS = 50


def to_hyperplane(point: Image, w: Image, value: Float[Array, ""], order: float) -> Image:
    r"""The step d of least p-norm with :math:`w \cdot d = -\text{value}`, in the box.

    For p = ∞ and 2, :math:`|d_i| = \min(\lambda\, v_i, r_i)` with :math:`v_i` = 1 or :math:`|w_i|` and r the room that
    the box leaves; λ is the root of a concave, increasing, piecewise linear function, which Newton's method reaches
    from below in finitely many steps. For p = 1 entries are filled up in order of :math:`|w_i|`.

    Args:
        point: where to start, in the box.
        w: the normal of the hyperplane.
        value: :math:`w \cdot \text{point} - b`.
        order: p, of 1, 2 and infinity.

    References:
        Croce & Hein, FAB (arXiv 1907.02044), section 2.2 and appendix, where breakpoints are sorted.
    """
    modulus = jnp.abs(w)
    sign = -jnp.sign(w) * jnp.where(value >= 0, 1, -1)
    room = jnp.where(sign > 0, 1 - point, jnp.where(sign < 0, point, 0))
    needed = jnp.abs(value)
    length = _fill(modulus, room, needed) if order == 1 else _newton(modulus, room, needed, order)
    return sign * jnp.where(jnp.sum(modulus * room) <= needed, room, length)


def _newton(modulus: Image, room: Image, needed: Float[Array, ""], order: float) -> Image:
    rate = jnp.ones_like(modulus) if math.isinf(order) else modulus

    def improve(state):
        step, scale, _ = state
        bound = scale * rate >= room
        slope = jnp.sum(jnp.where(bound, 0, modulus * rate))
        rest = needed - jnp.sum(jnp.where(bound, modulus * room, 0))
        better = jnp.maximum(rest / jnp.where(slope > 0, slope, jnp.inf), scale)
        return step + 1, better, better > scale

    def goes_on(state):
        step, _, improved = state
        return improved & (step < NEWTON_STEPS)

    scale = jax.lax.while_loop(goes_on, improve, (0, jnp.zeros(()), jnp.bool_(True)))[1]
    return jnp.minimum(scale * rate, room)


def _fill(modulus: Image, room: Image, needed: Float[Array, ""]) -> Image:
    flat, space = modulus.reshape(-1), room.reshape(-1)
    order = jnp.argsort(-flat)
    gain = (flat * space)[order]
    before = jnp.cumsum(gain) - gain
    share = jnp.clip((needed - before) / jnp.where(gain > 0, gain, 1), 0, 1)
    return jnp.zeros_like(flat).at[order].set(share * space[order]).reshape(modulus.shape)
