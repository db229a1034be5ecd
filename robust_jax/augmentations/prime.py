"""PRIME: primitives of maximum entropy, for the frequencies of an image, its colours and its geometry."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.augmentations.chains import check_chains, mix_chains
from robust_jax.augmentations.maps import Geometric, Photometric
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.random_words import random_normal
from robust_jax.images.filters import filter2d
from robust_jax.images.resample import map_coordinates
from robust_jax.types import Augmentation, Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class RandomFilter(Photometric):
    r"""A random filter, the same for all channels; black lies beyond the image.

    .. math:: x * (\delta + \sigma W), \quad W_{ij} \sim \mathcal{N}(0, 1), \; \sigma \sim U(0, \sigma_{\max})

    The published code has δ one pixel off the centre, which moves the image; here it is in the centre.

    Raises:
        ValueError: if the size is not odd and positive, or ``sigma`` negative.

    References:
        Modas, Rade, Ortiz-Jiménez, Moosavi-Dezfooli & Frossard (arXiv 2112.13547), section 3.1.
    """

    size: int = 3
    """Of the kernel, in pixels."""
    sigma: float = 4.0
    """The most that σ may be."""

    def __post_init__(self):
        if not (self.size > 0 and self.size % 2 == 1):
            raise ValueError(f"Expected an odd size > 0, got size={self.size!r}.")
        check_non_negative("sigma", self.sigma)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        return jnp.clip(filter2d(image, self.kernel(key), mode="constant"), 0, 1)

    def kernel(self, key: PRNGKey) -> Float[Array, "size size"]:
        """A kernel δ + σ W."""
        sigma_key, weight_key = jax.random.split(key)
        sigma = self.sigma * jax.random.uniform(sigma_key)
        centre = np.zeros((self.size, self.size), np.float32)
        centre[self.size // 2, self.size // 2] = 1
        return sigma * random_normal(weight_key, centre.shape) + centre


@dataclasses.dataclass(frozen=True)
class SmoothColour(Photometric):
    r"""A random smooth map of each channel's values.

    .. math:: x + \sqrt{T} \sum_k c_k \sin(\pi k x), \quad c_k \sim \mathcal{N}(0, 1), \; T \sim U(0, T_{\max})

    over k from 1 to K, with K uniform up to ``cut``; where a bandwidth b is given, over at most b numbers k up to K,
    the first of them uniform.

    Raises:
        ValueError: if a number is out of range.

    References:
        Modas et al. (arXiv 2112.13547), section 3.1: 100 and 0.01 for CIFAR; 500, 0.05 and a bandwidth of 20 for
        ImageNet. Drawn for each image by itself, not once a batch as in the published code.
    """

    cut: int = 100
    """The most that K may be."""
    temperature: float = 0.01
    """T_max."""
    bandwidth: int | None = None
    """b; None takes all frequencies up to K."""

    def __post_init__(self):
        check_positive("cut", self.cut)
        check_non_negative("temperature", self.temperature)
        if self.bandwidth is not None:
            check_positive("bandwidth", self.bandwidth)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        coefficients, first = self.coefficients(key, image.shape[-1])
        return jnp.clip(image + sine_series(image, coefficients, first), 0, 1)

    def coefficients(self, key: PRNGKey, num_channels: int) -> tuple[Float[Array, "c n"], Int[Array, ""]]:
        """√T c_k of each channel, from the first k on, and that first k."""
        cut_key, first_key, temperature_key, key = jax.random.split(key, 4)
        cut = jax.random.randint(cut_key, (), 1, self.cut + 1)
        first, num = jnp.int32(1), self.cut
        if self.bandwidth is not None:
            first, num = jax.random.randint(first_key, (), 1, cut + 1), min(self.bandwidth, self.cut)
        temperature = self.temperature * jax.random.uniform(temperature_key)
        used = (first + jnp.arange(num) <= cut)[None]
        return jnp.sqrt(temperature) * used * random_normal(key, (num_channels, num)), first


def sine_series(
    image: Float[Array, "h w c"], coefficients: Float[Array, "c n"], first: Int[Array, ""] | int = 1
) -> Float[Array, "h w c"]:
    r""":math:`\sum_{j=0}^{n-1} a_j \sin(\pi (k + j) x)` of each channel, with k ``first``.

    As the imaginary part of :math:`z^k \sum_j a_j z^j`, :math:`z = e^{i \pi x}`, by Horner's rule: two sines and two
    cosines in place of n. The recurrence of Clenshaw has half the products, but loses digits near 0 and 1.
    """
    # Channels outside: then a coefficient is one number in the loops over pixels.
    angle = jnp.pi * jnp.moveaxis(image, -1, 0).reshape(image.shape[-1], -1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def step(total: tuple[Array, Array], coefficient: Float[Array, "c"]) -> tuple[tuple[Array, Array], None]:
        real, imaginary = total
        return (coefficient[:, None] + cos * real - sin * imaginary, sin * real + cos * imaginary), None

    zeros = jnp.zeros_like(angle)
    (real, imaginary), _ = jax.lax.scan(step, (zeros, zeros), coefficients.T, reverse=True, unroll=10)
    series = real * jnp.sin(first * angle) + imaginary * jnp.cos(first * angle)
    return jnp.moveaxis(series.reshape(image.shape[-1], *image.shape[:2]), 0, -1)


@dataclasses.dataclass(frozen=True)
class Diffeomorphism(Geometric):
    r"""A random smooth deformation, bilinear; the border is extended.

    Either displacement is a field of the maximum entropy at its energy, in shares of the side:

    .. math:: \sqrt{T} \sum_{i^2 + j^2 < (K + 1/2)^2} \frac{c_{ij}}{\sqrt{i^2 + j^2}} \sin(\pi i u) \sin(\pi j v),
        \quad c_{ij} \sim \mathcal{N}(0, 1)

    K is drawn from ``least`` up to a number that is itself uniform up to ``greatest``, and T between
    :math:`1 / (\pi n^2 \log K)`, half a pixel in the middle of the image, and :math:`4 / (\pi^3 K^2 \log K)`, from
    where the image would fold (or the former, if more): both by an arcsine law, a Beta(1/2, 1/2).

    Drawn for each image by itself, not once a batch as in the published code, and for images that are not square with
    their greater side as n.

    Raises:
        ValueError: if not 2 ≤ least < greatest.

    References:
        Petrini, Favero, Geiger & Wyart (arXiv 2105.02468), appendix C; Modas et al. (arXiv 2112.13547), section 3.1: up
        to 100 for CIFAR, 500 for ImageNet.
    """

    least: int = 2
    """K at least."""
    greatest: int = 100
    """K at most."""

    def __post_init__(self):
        if not 2 <= self.least < self.greatest:
            raise ValueError(f"Expected 2 <= least < greatest, got least={self.least!r}, greatest={self.greatest!r}.")

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "2 h w"]:
        """Draw the displacement, in pixels down and to the right."""
        return self.displacement(key, shape)

    def warp(self, drawn: Float[Array, "2 h w"], image: Image, *, order: int = 1, beyond: float = 0.0) -> Image:
        """Apply it."""
        del beyond  # The border is extended.
        height, width, _ = image.shape
        down, across = drawn
        rows = jnp.clip(jnp.arange(height, dtype=jnp.float32)[:, None] - down, 0, height - 1)
        columns = jnp.clip(jnp.arange(width, dtype=jnp.float32)[None] - across, 0, width - 1)
        return map_coordinates(image, rows, columns, order=order, mode="nearest")

    def displacement(self, key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "2 h w"]:
        """By how many pixels each point of an image of ``shape`` moves, down and to the right."""
        strength_key, key = jax.random.split(key)
        cut, temperature = self.strength(strength_key, max(shape[:2]))
        scale = max(shape[:2]) * jnp.sqrt(temperature)
        return scale * smooth_fields(key, cut, shape, num=2, greatest=self.greatest)

    def strength(self, key: PRNGKey, side: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """K and T, of an image with a side of n pixels."""
        most_key, cut_key, temperature_key = jax.random.split(key, 3)
        most = jax.random.randint(most_key, (), self.least + 1, self.greatest + 1)
        cut = jnp.floor(self.least + _arcsine(cut_key) * (most + 1 - self.least))
        # A millionth more, as published.
        log = jnp.log(cut + 1e-6)
        low = 1 / (jnp.pi * side**2 * log)
        high = jnp.maximum(low, 4 / (jnp.pi**3 * cut**2 * log))
        return cut, low + _arcsine(temperature_key) * (high - low)


def smooth_fields(
    key: PRNGKey, cut: Float[Array, ""], shape: tuple[int, ...], *, num: int, greatest: int
) -> Float[Array, "num h w"]:
    """Random fields of sines up to a frequency, see :class:`Diffeomorphism`, that are 0 along the border.

    On n pixels the sines of k and of 2 (n − 1) − k half waves are the same but for the sign, so of all frequencies only
    n − 2 differ. Those alone are drawn, with the variance of what falls together: the law is the same.

    Args:
        key: of the draws.
        cut: K, may be traced.
        shape: (h, w, ...) of the fields.
        num: how many, independent of each other.
        greatest: what K is at most.
    """
    height, width, *_ = shape
    i, j = np.arange(1, greatest + 1)[:, None], np.arange(1, greatest + 1)[None]
    energy = jnp.where(i**2 + j**2 < (cut + 0.5) ** 2, 1 / (i**2 + j**2), 0)
    variance = _fold(_fold(energy, height).T, width).T
    noise = random_normal(key, (num, *variance.shape)) * jnp.sqrt(variance)[None]
    rows, columns = _sines(height, variance.shape[0]), _sines(width, variance.shape[1])
    return jnp.einsum("yi,nij,xj->nyx", rows, noise, columns, precision=jax.lax.Precision.HIGHEST)


def _fold(energy: Float[Array, "m n"], size: int) -> Float[Array, "k n"]:
    """Sums what the frequencies 1, 2, …, m hold that look alike on ``size`` pixels."""
    if len(energy) < size - 1:
        return energy
    period = max(2 * (size - 1), 1)
    padded = jnp.pad(energy, ((1, -(len(energy) + 1) % period), (0, 0)))
    sums = padded.reshape(len(padded) // period, period, energy.shape[1]).sum(axis=0)
    return sums[1 : size - 1] + sums[: size - 1 : -1]


def _sines(size: int, num: int) -> Float[np.ndarray, "size num"]:
    position = np.arange(size) / max(size - 1, 1)
    return np.sin(math.pi * position[:, None] * np.arange(1, num + 1)[None]).astype(np.float32)


def _arcsine(key: PRNGKey) -> Float[Array, ""]:
    """A number from Beta(1/2, 1/2)."""
    return jnp.sin(jnp.pi / 2 * jax.random.uniform(key)) ** 2


@dataclasses.dataclass(frozen=True)
class Prime:
    """The image mixed with chains of random primitives, as :class:`AugMix` mixes its operations.

    Raises:
        ValueError: if a number is not positive or there are no primitives.

    References:
        Modas, Rade, Ortiz-Jiménez, Moosavi-Dezfooli & Frossard (arXiv 2112.13547), algorithm 1.
    """

    primitives: tuple[Augmentation, ...] = (Diffeomorphism(), SmoothColour(), RandomFilter())
    """What is drawn from, each alike; those for CIFAR."""
    width: int = 3
    """How many chains."""
    depth: int | None = None
    """Primitives of a chain; by default 1, 2 or 3, drawn for each."""
    alpha: float = 1.0
    """Of the Dirichlet and Beta distributions."""

    def __post_init__(self):
        check_chains(self.width, self.depth, self.alpha)
        if not self.primitives:
            raise ValueError("Expected at least one of primitives, got none.")

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        def draw(key: PRNGKey) -> tuple[Int[Array, ""], PRNGKey]:
            choice_key, key = jax.random.split(key)
            return jax.random.randint(choice_key, (), 0, len(self.primitives)), key

        def apply(drawn: tuple[Int[Array, ""], PRNGKey], image: Image) -> Image:
            number, key = drawn
            return jax.lax.switch(number, self.primitives, key, image)

        return mix_chains(key, image, draw, apply, width=self.width, depth=self.depth, alpha=self.alpha)


IMAGENET = Prime(
    primitives=(
        Diffeomorphism(greatest=500),
        SmoothColour(cut=500, temperature=0.05, bandwidth=20),
        RandomFilter(),
    )
)
"""With the published numbers for ImageNet."""
