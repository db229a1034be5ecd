"""Batch normalisation with separate statistics for images of pure noise (DAR-BN)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from robust_jax.types import Interceptor, LayerCall


def routed_batch_norm(noise: Bool[Array, "b"]) -> Interceptor:
    """Normalise the marked examples by their own statistics in every batch norm that trains.

    The other examples are normalised by theirs, which alone enter the running averages. Marked examples are then
    scaled and shifted like the others, without a gradient to scale and shift. Networks without batch norm are not
    affected.

    Args:
        noise: True on the examples with separate statistics.

    References:
        Zada, Benou & Irani (arXiv 2112.08810), section 4 and appendix E.
    """

    def route(layer: LayerCall, *args: Array, **kwargs) -> Array:
        if layer.kind != "BatchNorm" or layer.settings["use_running_average"]:
            return layer.call(*args, **kwargs)
        x = args[0]
        marked = noise.reshape(-1, *(1,) * (x.ndim - 1))
        natural = layer.call(*args, **kwargs, mask=~marked)
        return jnp.where(marked, _normalised(layer, x, marked).astype(natural.dtype), natural)

    return route


def _normalised(layer: LayerCall, x: Float[Array, "b ..."], marked: Bool[Array, "b ..."]) -> Array:
    """Normalise by the statistics of the marked examples, in float32."""
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    weights = jnp.broadcast_to(marked, x.shape)
    count = jnp.maximum(jnp.sum(weights, axis=axes, keepdims=True), 1)
    mean = jnp.sum(jnp.where(weights, x, 0), axis=axes, keepdims=True) / count
    variance = jnp.sum(jnp.where(weights, (x - mean) ** 2, 0), axis=axes, keepdims=True) / count
    params = jax.lax.stop_gradient(layer.variables.get("params", {}))
    shape = (1,) * (x.ndim - 1) + (-1,)
    normal = (x - mean) / jnp.sqrt(variance + layer.settings["epsilon"])
    if "scale" in params:
        normal = normal * params["scale"].reshape(shape)
    return normal + params["bias"].reshape(shape) if "bias" in params else normal
