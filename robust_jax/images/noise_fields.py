"""Random planes: the fractal clouds of the diamond-square algorithm, and fields of a given spectrum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_normal, random_uniform
from robust_jax.types import PRNGKey

Scalar = float | Float[Array, ""]
Plane = Float[Array, "h w"]


def plasma(key: PRNGKey, size: int, decay: Scalar) -> Float[Array, "size size"]:
    r"""Plasma, a fractal height map that wraps around: the diamond-square algorithm, scaled to range from 0 to 1.

    The map starts as a single 0. Each level doubles its side: a new point is the mean of its four nearest known
    neighbours, first the centres of squares, then those of edges, plus

    .. math:: d_l \sim U(-w_l^2, w_l^2), \quad w_l = 100\, \mathrm{decay}^{-l}.

    Args:
        key: random key.
        size: side of the map, a power of two.
        decay: what the amplitude's square root falls by at each level, at least 1: the larger, the smoother. Traced.

    Raises:
        ValueError: if ``size`` is not a power of two.

    References:
        Fournier, Fussell & Carpenter, "Computer rendering of stochastic models" (1982); the law, with the amplitude
        squared, is that of the code of ImageNet-C (arXiv 1903.12261).
    """
    if size < 1 or size & (size - 1):
        raise ValueError(f"Expected size to be a power of two, got size={size!r}.")
    displacement = 2 * random_uniform(key, (size * size,)) - 1
    height = jnp.zeros((1, 1))
    # Only the ratios of amplitudes matter, as the range is scaled in the end.
    amplitude = jnp.ones(())
    while height.shape[0] < size:
        side = height.shape[0]
        new = displacement[side * side : 4 * side * side].reshape(3, side, side) * amplitude
        height = _refine(height, new)
        amplitude = amplitude / decay**2
    return normalise(height)


def normalise(plane: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Shifts and scales a plane to range from 0 to 1; a constant plane becomes 0."""
    low, high = jnp.min(plane), jnp.max(plane)
    return (plane - low) / jnp.where(high > low, high - low, 1)


def _refine(height: Float[Array, "n n"], displacement: Float[Array, "3 n n"]) -> Float[Array, "2*n 2*n"]:
    """One level: square centres, then the middles of horizontal and of vertical edges, interleaved with the corners."""
    right, below = jnp.roll(height, -1, 1), jnp.roll(height, -1, 0)
    centre = (height + right + below + jnp.roll(right, -1, 0)) / 4 + displacement[0]
    horizontal = (height + right + centre + jnp.roll(centre, 1, 0)) / 4 + displacement[1]
    vertical = (height + below + centre + jnp.roll(centre, 1, 1)) / 4 + displacement[2]
    side = 2 * height.shape[0]
    even = jnp.stack([height, horizontal], -1)
    odd = jnp.stack([vertical, centre], -1)
    return jnp.stack([even, odd], 1).reshape(side, side)


def one_over_f(key: PRNGKey, shape: tuple[int, int], alpha: Scalar) -> Plane:
    r"""A Gaussian field whose power falls as :math:`1/f^\alpha`, of mean 0 and standard deviation 1; it wraps around.

    Args:
        key: random key.
        shape: height and width.
        alpha: 0 white, 1 pink, 2 brown, as natural images; negative: blue. Traced.
    """
    frequency = _frequency(shape)
    # The inner where keeps the power of 0 finite: a constant has no place in the field.
    safe = jnp.asarray(np.where(frequency > 0, frequency, 1))
    return _gaussian_field(key, shape, jnp.where(jnp.asarray(frequency) > 0, safe ** (-alpha / 2), 0))


def blue(key: PRNGKey, shape: tuple[int, int], *, mirrored: bool = False) -> Plane:
    """Blue noise, of standard deviation 1: its amplitude grows with the frequency, so it has no large structures.

    Args:
        key: random key.
        shape: height and width.
        mirrored: not a Gaussian field but the sum of waves described in :func:`mirrored_waves`.
    """
    if mirrored:
        return mirrored_waves(key, shape, _centred_radius(shape))
    return _gaussian_field(key, shape, jnp.asarray(_frequency(shape)))


def brown(key: PRNGKey, shape: tuple[int, int], *, mirrored: bool = False) -> Plane:
    r"""Brown noise, of standard deviation 1: amplitudes :math:`1 / (f^2 + 1)`, f in waves along the shorter side.

    Frequency 0 included: the mean, too, is random, and the deviation does not count it.

    Args:
        key: random key.
        shape: height and width.
        mirrored: not a Gaussian field but the sum of waves described in :func:`mirrored_waves`.
    """
    if mirrored:
        return mirrored_waves(key, shape, 1 / (_centred_radius(shape) ** 2 + 1))
    return _gaussian_field(key, shape, jnp.asarray(1 / (_frequency(shape) ** 2 + 1)))


def mirrored_waves(key: PRNGKey, shape: tuple[int, int], amplitude: Float[np.ndarray, "h w"]) -> Plane:
    r"""The real part of waves of given amplitudes and uniform phases :math:`\phi`, divided by its deviation.

    With the zero frequency in the middle of the spectrum, the phase of row i and column j is that of row h − 1 − i and
    column w − 1 − j: a point off the opposite frequency, and of the same sign. So the field is not quite stationary:
    near the corner pixel its variance is double. C-bar's blue and brown noise are such fields.
    """
    height, width = shape
    phase = 2 * np.pi * random_uniform(key, (height, (width + 1) // 2))
    left = jnp.stack([jnp.cos(phase), jnp.sin(phase)])
    if width % 2:
        # The middle column is its own mirror image.
        middle = left[:, : height // 2, -1:]
        centre = jnp.asarray([1.0, 0.0], left.dtype).reshape(2, 1, 1)[:, : height % 2]
        middle = jnp.concatenate([middle, jnp.broadcast_to(centre, (2, height % 2, 1)), middle[:, ::-1]], 1)
        left = left[..., :-1]
        waves = jnp.concatenate([left, middle, left[:, ::-1, ::-1]], 2)
    else:
        waves = jnp.concatenate([left, left[:, ::-1, ::-1]], 2)
    spectrum = waves * jnp.asarray(amplitude, jnp.float32)[None]
    spectrum = jnp.roll(spectrum, (height // 2, width // 2), (1, 2))
    opposite = jnp.roll(spectrum[:, ::-1, ::-1], (1, 1), (1, 2))
    # The real part of a transform is the transform of the Hermitian part, of which half is enough.
    half = slice(0, width // 2 + 1)
    real, imaginary = spectrum[0] + opposite[0], spectrum[1] - opposite[1]
    field = jnp.fft.irfft2(jax.lax.complex(real[:, half], imaginary[:, half]), s=shape)
    return field / jnp.std(field)


def _gaussian_field(key: PRNGKey, shape: tuple[int, int], amplitude: Float[Array, "h w//2+1"]) -> Plane:
    """White noise filtered to the amplitudes, scaled to standard deviation 1."""
    spectrum = jnp.fft.rfft2(random_normal(key, shape)) * amplitude
    field = jnp.fft.irfft2(spectrum, s=shape)
    return field / jnp.std(field)


def _frequency(shape: tuple[int, int]) -> Float[np.ndarray, "h w//2+1"]:
    """Radial frequencies of a half spectrum, in waves along the shorter side."""
    height, width = shape
    rows, columns = np.fft.fftfreq(height), np.fft.rfftfreq(width)
    return (np.hypot(rows[:, None], columns) * min(shape)).astype(np.float32)


def _centred_radius(shape: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """Radial frequencies of a whole spectrum counted from h/2 and w/2, half a step off 0 where these are odd."""
    rows, columns = (np.arange(size) / size - 0.5 for size in shape)
    return np.hypot(rows[:, None], columns) * min(shape)
