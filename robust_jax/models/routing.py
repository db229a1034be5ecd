"""Batch normalisation with statistics apart for images that are pure noise (DAR-BN)."""

from __future__ import annotations

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def routed_batch_norm(noise: Bool[Array, "b"] | None) -> contextlib.AbstractContextManager:
    """Inside it, batch norms of any network in training mode treat the marked examples by themselves.

    The others are normalised by their own statistics, which alone enter the running ones. Marked examples are
    normalised by theirs, then scaled and shifted as the others are, by which scale and shift do not learn. Without
    marks nothing changes; networks without batch norm do not notice.

    Args:
        noise: the marks; None marks none.

    References:
        Zada, Benou & Irani (arXiv 2112.08810), section 4 and appendix E.
    """
    if noise is None:
        return contextlib.nullcontext()

    def route(call, args, kwargs, context):
        module = context.module
        if not isinstance(module, nn.BatchNorm) or context.method_name != "__call__" or module.use_running_average:
            return call(*args, **kwargs)
        x = args[0]
        marked = noise.reshape(-1, *(1,) * (x.ndim - 1))
        natural = call(*args, **kwargs, mask=~marked)
        return jnp.where(marked, _normalised(module, x, marked).astype(natural.dtype), natural)

    return nn.intercept_methods(route)


def _normalised(module: nn.BatchNorm, x: Float[Array, "b ..."], marked: Bool[Array, "b ..."]) -> Array:
    """By the statistics of what is marked, in float32."""
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    share = jnp.broadcast_to(marked, x.shape)
    count = jnp.maximum(jnp.sum(share, axis=axes, keepdims=True), 1)
    mean = jnp.sum(jnp.where(share, x, 0), axis=axes, keepdims=True) / count
    variance = jnp.sum(jnp.where(share, (x - mean) ** 2, 0), axis=axes, keepdims=True) / count
    params = jax.lax.stop_gradient(module.variables.get("params", {}))
    shape = (1,) * (x.ndim - 1) + (-1,)
    normal = (x - mean) / jnp.sqrt(variance + module.epsilon)
    if "scale" in params:
        normal = normal * params["scale"].reshape(shape)
    return normal + params["bias"].reshape(shape) if "bias" in params else normal
