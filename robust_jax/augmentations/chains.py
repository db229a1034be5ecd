"""Mixtures of an image with short random chains of operations, as in AugMix and its successors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from robust_jax.core.checks import check_positive
from robust_jax.core.loops import one_by_one
from robust_jax.types import Image, PRNGKey

LONGEST = 3
"""Operations of a chain whose depth is drawn."""


def mix_chains(
    key: PRNGKey,
    image: Image,
    draw: Callable[[PRNGKey], PyTree],
    apply: Callable[[PyTree, Image], Image],
    *,
    width: int = 3,
    depth: int | None = None,
    alpha: float = 1.0,
) -> Image:
    r"""The image mixed with a mixture of chains of random operations.

    .. math::
        \tilde{x} = (1 - m)\, x + m \sum_{i=1}^{k} w_i\, \mathrm{chain}_i(x), \quad
        w \sim \mathrm{Dirichlet}(\alpha, \ldots, \alpha), \; m \sim \mathrm{Beta}(\alpha, \alpha)

    Args:
        key: of all draws.
        image: x.
        draw: ``draw(key)`` draws an operation: arrays, a few numbers.
        apply: ``apply(drawn, image)`` carries it out.
        width: k, how many chains.
        depth: operations of a chain; by default 1, 2 or 3, drawn for each.
        alpha: α.

    References:
        Hendrycks, Mu, Cubuk, Zoph, Gilmer & Lakshminarayanan (arXiv 1912.02781), algorithm 1.
    """
    weights_key, mix_key, depth_key, draw_key = jax.random.split(key, 4)
    weights = jax.random.dirichlet(weights_key, jnp.full(width, alpha))
    mix = jax.random.beta(mix_key, alpha, alpha)
    longest = LONGEST if depth is None else depth
    depths = jax.random.randint(depth_key, (width,), 1, LONGEST + 1) if depth is None else jnp.full(width, depth)
    used = jnp.arange(longest)[None] < depths[:, None]
    drawn = jax.vmap(jax.vmap(draw))(jax.random.split(draw_key, used.shape))
    # Only from here on an image at a time: small draws are cheaper together.
    return one_by_one(partial(_mix_drawn, apply))(weights, mix, used.astype(jnp.int32), drawn, image)


def _mix_drawn(
    apply: Callable[[PyTree, Image], Image],
    weights: Float[Array, "k"],
    mix: Float[Array, ""],
    used: Bool[Array, "k n"],
    drawn: PyTree,
    image: Image,
) -> Image:
    # Loops, so that the operations are compiled once.
    def step(image: Image, one: tuple[Array, PyTree]) -> tuple[Image, None]:
        used, drawn = one
        return jax.lax.cond(used > 0, apply, lambda drawn, image: image, drawn, image), None

    def add_chain(mixed: Image, chain: tuple[Array, Array, PyTree]) -> tuple[Image, None]:
        weight, used, drawn = chain
        return mixed + weight * jax.lax.scan(step, image, (used, drawn))[0], None

    mixed, _ = jax.lax.scan(add_chain, jnp.zeros_like(image), (weights, used, drawn))
    return (1 - mix) * image + mix * mixed


def check_chains(width: int, depth: int | None, alpha: float) -> None:
    """Raises ``ValueError`` unless all are positive."""
    check_positive("width", width)
    check_positive("alpha", alpha)
    if depth is not None:
        check_positive("depth", depth)
