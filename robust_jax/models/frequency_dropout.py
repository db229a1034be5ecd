"""Frequency dropout: feature maps through random filters in training."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice, check_fraction
from robust_jax.models.layers import Dtype, Maps
from robust_jax.types import Images, Output, PRNGKey

KINDS = ("gaussian", "laplacian", "gabor")


class FrequencyDropout(nn.Module):
    r"""Each channel, by chance, through a random filter: what it knew by some frequencies it must tell by others.

    Filters are drawn for every step and channel, and shared by the batch: Gaussians, Laplacians of Gaussians, or Gabor
    filters with a random direction, each with a standard deviation from U(0.5, 2) pixels (and a wave of 2 to 5), scaled
    so that the moduli of their weights sum to one. Kept deterministic, and the identity, outside training.

    Raises:
        ValueError: if the rate is outside [0, 1], the size not odd, or a kind unknown (the nearest is named).

    References:
        Islam & Glocker, "Frequency Dropout: Feature-Level Regularization via Randomized Filtering" (2022). The ranges
        are ours.
    """

    rate: float = 0.4
    """Share of channels that are filtered."""
    size: int = 5
    """Of the kernels, in pixels."""
    kinds: tuple[str, ...] = KINDS
    """What is drawn from."""

    def __post_init__(self):
        check_fraction("rate", self.rate)
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"Expected an odd size >= 1, got size={self.size!r}.")
        for kind in self.kinds:
            check_choice("kind", kind, KINDS)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Maps, *, train: bool = False) -> Maps:
        return self.filter_maps(self.make_rng("dropout"), x) if train and self.rate > 0 else x

    def filter_maps(self, key: PRNGKey, x: Maps) -> Maps:
        """Feature maps under filters of one key; zeros lie beyond the border."""
        kernels = self.kernels(key, x.shape[-1])[:, :, None].astype(x.dtype)
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernels, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=x.shape[-1]
        )

    def kernels(self, key: PRNGKey, channels: int) -> Float[Array, "size size channels"]:
        """A filter of each channel, or the identity."""
        chance_key, kind_key, key = jax.random.split(key, 3)
        drawn = jnp.stack([_KERNELS[kind](key, self.size, channels) for kind in self.kinds])
        drawn = drawn / jnp.sum(jnp.abs(drawn), axis=(1, 2), keepdims=True)
        kind = jax.random.randint(kind_key, (1, 1, 1, channels), 0, len(self.kinds))
        chosen = jnp.take_along_axis(drawn, kind, axis=0)[0]
        identity = np.zeros((self.size, self.size, 1), np.float32)
        identity[self.size // 2, self.size // 2] = 1
        return jnp.where(jax.random.bernoulli(chance_key, self.rate, (1, 1, channels)), chosen, identity)


class FrequencyDropped(nn.Module):
    """A network with frequency dropout after each of its spatial convolutions.

    The variables are those of the network alone, so that its published weights load.

    Raises:
        ValueError: as :class:`FrequencyDropout`; when run in training without a key.
    """

    network: Any
    """The network, a Linen module."""
    dropout: FrequencyDropout = FrequencyDropout()
    """What happens to feature maps."""
    dtype: Dtype | None = None
    """Type of the network's computation; None leaves it as it is."""

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        network = self.network if self.dtype is None else self.network.clone(dtype=self.dtype, parent=self, name=None)
        nn.share_scope(self, network)
        if not train:
            return network(images, train=False)

        def drop(call, args, kwargs, context):
            maps = call(*args, **kwargs)
            module = context.module
            spatial = isinstance(module, nn.Conv) and context.method_name == "__call__" and max(module.kernel_size) > 1
            return self.dropout.filter_maps(module.make_rng("dropout"), maps) if spatial else maps

        with nn.intercept_methods(drop):
            return network(images, train=True)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    k = np.arange(size, dtype=np.float32) - size // 2
    return k[:, None, None], k[None, :, None]


def _sigma(key: PRNGKey, channels: int) -> Float[Array, "1 1 channels"]:
    return jax.random.uniform(key, (1, 1, channels), minval=0.5, maxval=2.0)


def _gaussian(key: PRNGKey, size: int, channels: int) -> Float[Array, "size size channels"]:
    y, x = _grid(size)
    return jnp.exp(-(x**2 + y**2) / (2 * _sigma(key, channels) ** 2))


def _laplacian(key: PRNGKey, size: int, channels: int) -> Float[Array, "size size channels"]:
    """Of a Gaussian, turned over: positive in the middle."""
    y, x = _grid(size)
    share = (x**2 + y**2) / (2 * _sigma(key, channels) ** 2)
    return (1 - share) * jnp.exp(-share)


def _gabor(key: PRNGKey, size: int, channels: int) -> Float[Array, "size size channels"]:
    """A wave along one direction under a Gaussian."""
    sigma_key, angle_key, wave_key = jax.random.split(key, 3)
    y, x = _grid(size)
    angle = jax.random.uniform(angle_key, (1, 1, channels), maxval=jnp.pi)
    length = jax.random.uniform(wave_key, (1, 1, channels), minval=2.0, maxval=5.0)
    along = jnp.cos(angle) * x + jnp.sin(angle) * y
    return jnp.exp(-(x**2 + y**2) / (2 * _sigma(sigma_key, channels) ** 2)) * jnp.cos(2 * jnp.pi * along / length)


_KERNELS = {"gaussian": _gaussian, "laplacian": _laplacian, "gabor": _gabor}
