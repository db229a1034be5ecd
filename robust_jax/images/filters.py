"""Linear filters with every border mode, and the kernels they are used with."""

from __future__ import annotations

import math
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import fft

from robust_jax.images.borders import pad, source_positions
from robust_jax.images.resample import apply_matrices

# Taps up to which shifted copies are faster than Fourier transforms, on a CPU.
MAX_SHIFTS = 64


def gaussian_kernel(
    sigma: float | Float[Array, ""], *, radius: int, truncate: float | None = None
) -> Float[Array, "2*radius+1"]:
    r"""Weights :math:`\propto e^{-k^2 / 2 \sigma^2}` that sum to 1; with sigma 0 the identity.

    Args:
        sigma: standard deviation in pixels, may be traced.
        radius: the kernel's, in pixels, at least ``truncate * sigma``.
        truncate: weights further than ``floor(truncate * sigma + 1/2)`` are 0, as in scipy and scikit-image.
    """
    k = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    sigma = jnp.asarray(sigma, jnp.float32)
    weights = jnp.exp(-0.5 * (k / jnp.maximum(sigma, 1e-3)) ** 2)
    if truncate is not None:
        weights = jnp.where(jnp.abs(k) <= jnp.floor(truncate * sigma + 0.5), weights, 0)
    return weights / jnp.sum(weights)


def disk_kernel(
    radius: float | Float[Array, ""], alias_sigma: float | Float[Array, ""], *, size: int, alias_radius: int = 1
) -> Float[Array, "size size"]:
    """A disk of constant weights that sum to 1, its edge blurred by a Gaussian of ``alias_sigma``.

    Args:
        radius: of the disk in pixels, may be traced.
        alias_sigma: standard deviation of the blur, may be traced.
        size: of the kernel, odd; the disk and its blur should fit.
        alias_radius: of the blur's kernel.
    """
    k = jnp.arange(size, dtype=jnp.float32) - size // 2
    disk = (k[:, None] ** 2 + k[None] ** 2 <= radius**2).astype(jnp.float32)
    blur = gaussian_kernel(alias_sigma, radius=alias_radius)
    return separable(disk[..., None] / jnp.sum(disk), blur, blur, mode="mirror")[..., 0]


def gaussian_blur(
    image: Float[Array, "h w c"],
    sigma: float | Float[Array, ""],
    *,
    radius: int | None = None,
    truncate: float = 4.0,
    mode: str = "nearest",
) -> Float[Array, "h w c"]:
    """The image under a Gaussian, as ``skimage.filters.gaussian`` and ``scipy.ndimage.gaussian_filter``.

    Args:
        image: the image.
        sigma: standard deviation in pixels; may be traced, then ``radius`` is needed.
        radius: the most that ``truncate * sigma + 1/2`` can be.
        truncate: the kernel ends at so many standard deviations.
        mode: of the border.
    """
    radius = math.floor(truncate * sigma + 0.5) if radius is None else radius
    kernel = gaussian_kernel(sigma, radius=radius, truncate=truncate)
    return separable(image, kernel, kernel, mode=mode)


def separable(
    image: Float[Array, "h w c"],
    row_kernel: Float[Array, "m"],
    column_kernel: Float[Array, "n"],
    *,
    mode: str = "nearest",
) -> Float[Array, "h w c"]:
    """Correlation with ``row_kernel`` down the columns and ``column_kernel`` along the rows, both of odd length.

    Each axis is one product with a banded matrix: faster than XLA's convolutions on a CPU by far, and exact for every
    border.
    """
    rows = filter_matrix(row_kernel, image.shape[0], mode)
    return apply_matrices(image, rows, filter_matrix(column_kernel, image.shape[1], mode))


def filter_matrix(kernel: Float[Array, "m"], size: int, mode: str) -> Float[Array, "size size"]:
    """The matrix that correlates an axis of ``size`` with a kernel of odd length, centred."""
    radius = len(kernel) // 2
    # What each output reads of the axis extended beyond both ends, then the extension folded back.
    offset = np.arange(-radius, size + radius) - np.arange(size)[:, None] + radius
    inside = (offset >= 0) & (offset < len(kernel))
    extended = jnp.where(inside, jnp.asarray(kernel)[np.clip(offset, 0, len(kernel) - 1)], 0)
    source = source_positions(size, radius, radius, mode)
    folding = (source[:, None] == np.arange(size)).astype(np.float32)
    return jnp.matmul(extended, folding, precision=jax.lax.Precision.HIGHEST)


def filter2d(
    image: Float[Array, "h w c"], kernel: Float[Array | np.ndarray, "m n"], *, mode: str = "nearest"
) -> Float[Array, "h w c"]:
    """Correlation with a kernel of odd sides, centred, as ``scipy.ndimage.correlate`` in every channel.

    Small kernels are sums of shifted copies, large ones products of Fourier transforms.
    """
    height, width = kernel.shape
    padded = pad(image, height // 2, width // 2, mode)
    if height * width > MAX_SHIFTS:
        return _correlate_by_fourier(padded, kernel, image.shape)
    padded = jax.lax.optimization_barrier(padded)
    total = jnp.zeros_like(image)
    for i, j in np.ndindex(height, width):
        total = total + kernel[i, j] * padded[i : i + image.shape[0], j : j + image.shape[1]]
    return total


def _correlate_by_fourier(padded: Array, kernel: Array | np.ndarray, shape: tuple[int, ...]) -> Array:
    # The type that scipy declares is wrong.
    size = tuple(cast(int, fft.next_fast_len(side, real=True)) for side in padded.shape[:2])
    planes = jnp.fft.rfft2(jnp.moveaxis(padded, -1, 0), s=size)
    planes = planes * jnp.conj(jnp.fft.rfft2(kernel, s=size))[None]
    planes = jnp.fft.irfft2(planes, s=size)[:, : shape[0], : shape[1]]
    return jnp.moveaxis(planes, 0, -1)
