"""Frequency dropout: feature maps through random filters in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice, check_fraction
from robust_jax.models.layers import Dtype, Maps
from robust_jax.types import Images, Output, PRNGKey

WAVE = 3.0
"""Pixels from crest to crest of a Gabor filter."""
LEAST_SUM = 0.1
"""Of a Laplacian's weights, where 1 is the one in the middle. At 3×3 none is less; larger ones can sum to 0."""


class Kind(NamedTuple):
    """A family of filters, with the published numbers."""

    share: float
    """Of channels that are filtered."""
    least: float
    """Standard deviation in pixels."""
    greatest: float
    """Standard deviation in pixels."""


KINDS = {"gaussian": Kind(0.6, 0.2, 1.0), "laplacian": Kind(0.5, 0.2, 3.0), "gabor": Kind(0.2, 0.0, 1.0)}


class FrequencyDropout(nn.Module):
    r"""Each channel, by chance, through a random filter: what it knew by some frequencies it must tell by others.

    A layer draws a kind of filter for each step, shared by the batch, and for every channel whether it is filtered and
    a standard deviation σ, uniformly:

    .. math::
        g \propto e^{-r^2 / 2\sigma^2}, \quad l \propto (1 - r^2 / 2\sigma^2)\, e^{-r^2 / 2\sigma^2}, \quad
        b = e^{-x^2 / 2\sigma^2} \cos(2\pi x / 3)

    Gaussians g and Laplacians of Gaussians l sum to one; Gabor filters b are not scaled. The ends of σ are 0.2 and 1
    pixels, 0.2 and 3, and 0 and 1. Outside training it is the identity.

    In the published code the kind is drawn once an epoch for the whole network, and its last filters stay in
    evaluation.

    Raises:
        ValueError: if the rate is outside [0, 1], the size not odd, or a kind unknown (the nearest is named).

    References:
        Islam & Glocker, "Frequency Dropout: Feature-Level Regularization via Randomized Filtering" (arXiv 2209.09844);
        numbers are those of its published code.
    """

    rate: float | None = None
    """Share of channels that are filtered; None is as published, 0.6 by Gaussians, 0.5 by Laplacians, 0.2 by Gabor
    filters."""
    size: int = 3
    """Of the kernels, in pixels."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """What is drawn from."""

    def __post_init__(self):
        if self.rate is not None:
            check_fraction("rate", self.rate)
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"Expected an odd size >= 1, got size={self.size!r}.")
        for kind in self.kinds:
            check_choice("kind", kind, KINDS)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Maps, *, train: bool = False) -> Maps:
        return self.filter_maps(self.make_rng("dropout"), x) if train and self.rate != 0 else x

    def filter_maps(self, key: PRNGKey, x: Maps) -> Maps:
        """Feature maps under filters of one key; zeros lie beyond the border."""
        kernels = self.kernels(key, x.shape[-1])[:, :, None].astype(x.dtype)
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernels, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=x.shape[-1]
        )

    def kernels(self, key: PRNGKey, channels: int) -> Float[Array, "size size channels"]:
        """A filter of each channel, all of one kind, or the identity."""
        kind_key, chance_key, sigma_key = jax.random.split(key, 3)
        kinds = [KINDS[name] for name in self.kinds]
        kind = jax.random.randint(kind_key, (), 0, len(kinds))
        rate = jnp.asarray([kind.share for kind in kinds] if self.rate is None else [self.rate] * len(kinds))[kind]
        uniform = jax.random.uniform(sigma_key, (1, 1, channels))
        drawn = jnp.stack(
            [
                _KERNELS[name](_grid(self.size), jnp.maximum(low + (high - low) * uniform, 1e-3))
                for name, (_, low, high) in zip(self.kinds, kinds, strict=True)
            ]
        )[kind]
        identity = np.zeros((self.size, self.size, 1), np.float32)
        identity[self.size // 2, self.size // 2] = 1
        return jnp.where(jax.random.bernoulli(chance_key, rate, (1, 1, channels)), drawn, identity)


class FrequencyDropped(nn.Module):
    """A network with frequency dropout after each of its spatial convolutions.

    The variables are those of the network alone, so that its published weights load.

    Raises:
        ValueError: as :class:`FrequencyDropout`; when run in training without a key.
    """

    network: nn.Module
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
            called = context.method_name == "__call__"
            spatial = called and isinstance(module, nn.Conv) and np.max(module.kernel_size) > 1
            return self.dropout.filter_maps(module.make_rng("dropout"), maps) if spatial else maps

        with nn.intercept_methods(drop):
            return network(images, train=True)


Grid = tuple[Float[np.ndarray, "size 1 1"], Float[np.ndarray, "1 size 1"]]
"""Rows and columns from the middle."""
Sigma = Float[Array, "1 1 channels"]


def _grid(size: int) -> Grid:
    k = np.arange(size, dtype=np.float32) - size // 2
    return k[:, None, None], k[None, :, None]


def _gaussian(grid: Grid, sigma: Sigma) -> Float[Array, "size size channels"]:
    y, x = grid
    kernel = jnp.exp(-(x**2 + y**2) / (2 * sigma**2))
    return kernel / jnp.sum(kernel, axis=(0, 1), keepdims=True)


def _laplacian(grid: Grid, sigma: Sigma) -> Float[Array, "size size channels"]:
    y, x = grid
    share = jnp.asarray(x**2 + y**2) / (2 * sigma**2)
    kernel = (1 - share) * jnp.exp(-share)
    return kernel / jnp.maximum(jnp.sum(kernel, axis=(0, 1), keepdims=True), LEAST_SUM)


def _gabor(grid: Grid, sigma: Sigma) -> Float[Array, "size size channels"]:
    """A wave across, under a Gaussian that goes on downwards without end."""
    y, x = grid
    return jnp.ones_like(y) * jnp.exp(-(x**2) / (2 * sigma**2)) * jnp.cos(2 * jnp.pi * x / WAVE)


_KERNELS: dict[str, Callable[[Grid, Sigma], Array]] = {"gaussian": _gaussian, "laplacian": _laplacian, "gabor": _gabor}
