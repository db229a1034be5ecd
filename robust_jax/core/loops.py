"""Loops inside compiled programs. This file owns the choice between unrolling and looping."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


def scan_steps(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], carry: PyTree, items: tuple[PyTree, ...]
) -> tuple[PyTree, PyTree]:
    """Runs ``carry, out = body(carry, item)`` over a tuple of items and stacks the outs, as ``jax.lax.scan`` does.

    On a CPU the steps are unrolled, because gradients of convolutions inside XLA's loops run several times slower
    there; on an accelerator they are one loop, which compiles once.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.scan(body, carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *items))
    outs = []
    for item in items:
        carry, out = body(carry, item)
        outs.append(out)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)
