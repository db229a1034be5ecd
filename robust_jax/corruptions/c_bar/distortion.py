"""Warps: light through rippled water, pinched and twirled cells, ripples."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_uniform
from robust_jax.corruptions.base import BenchmarkCorruption, constants, resolve_preset
from robust_jax.images.borders import pad
from robust_jax.images.filters import gaussian_blur
from robust_jax.images.resample import map_coordinates, sample_grid
from robust_jax.images.size import image_size
from robust_jax.types import Image, PRNGKey

Scalar = Float[Array, ""]

# Ratio of the refractive indices.
_REFRACTION = 4.0
# Cosine of a normal's angle from which on light is not bent.
_STRAIGHT = 1 - 1e-3


@dataclasses.dataclass(frozen=True)
class CausticRefraction(BenchmarkCorruption):
    r"""The image through a water surface whose height is the :func:`caustics` of sunlit water, and lit by its slope.

    With slopes :math:`g_r, g_c` the differences of a pixel's two neighbours, and θ the angle of the normal to the
    vertical, a pixel reads the image at

    .. math:: \tfrac{s l}{20} \cos\theta \, (g_r, g_c) \Big(\sqrt{1 - \tfrac{\sin^2\theta}{16}} - \tfrac{\cos\theta}{4}\Big)

    from itself, bilinear, and adds :math:`\tfrac{l}{5} (g_r - g_c)`; s is the shorter side, l 2.35, 3.2, 4.9, 6.6,
    9.15.

    Source: ``caustic_refraction`` of ImageNet-C-bar (Mintun, Kirillov & Xie, arXiv 2102.11273). Its quirks: water ends
    at the image, so that borders are steep, and beyond the image is black; where cos θ ≥ 0.999 light is not bent at
    all, so that there are seams; truncation to eight bits. ``clean`` repeats the borders of both, bends light
    everywhere, and does not truncate.
    """  # noqa: E501

    variable: ClassVar[str] = "optics"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        time, size = random_uniform(key, (2,))
        side = min(image.shape[:2])
        surface = caustics(image_size(image), 0.5 + 1.5 * time, (0.75 + 0.5 * size) * side)
        surface = gaussian_blur(surface[..., None], 1.0, mode="reflect")[..., 0]
        level = constants((2.35, 3.2, 4.9, 6.6, 9.15), severity)
        return refract(image, surface, 0.05 * level * side, 0.2 * level, seams=not self.clean)


@dataclasses.dataclass(frozen=True)
class PinchAndTwirl(BenchmarkCorruption):
    r"""Pinches and twirls the disks inscribed in square cells, each at random to the left or to the right.

    At distance d (in radii) from the centre of a disk a pixel is read from :math:`\sin(\tfrac{\pi}{2} d)^{-a}` times
    as far, turned by :math:`\pm \tfrac{\pi l}{20} (1 - d)^2`; a = 0.04 l + 0.1. l is 5.5, 6, 6.5, 8.5, 10. The shorter
    side holds 3 cells; with the constants of ImageNet, 5.

    Source: ``pinch_and_twirl`` of CIFAR-10-C-bar (arXiv 2102.11273). Its quirks: centres lie half a pixel off, to the
    lower right; cells have whole sides, so that a margin is left at the right and below; truncation to eight bits.
    ``clean`` centres disks and spreads them over the image, and does not truncate.
    """

    variable: ClassVar[str] = "optics"
    min_size: ClassVar[int] = 10

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        cells = 5 if resolve_preset(self.preset, image.shape) in ("imagenet224", "scaled") else 3
        side = min(image.shape[:2]) / cells if self.clean else float(min(image.shape[:2]) // cells)
        level = constants((5.5, 6, 6.5, 8.5, 10), severity)
        grid = tuple(int(size / side + 1e-6) for size in image.shape[:2])
        signs = jnp.where(random_uniform(key, grid) < 0.5, 1.0, -1.0)
        centre = (side - 1) / 2 if self.clean else side / 2
        rows, columns = twirls(
            image_size(image), side, centre, jnp.pi / 20 * level, 0.04 * level + 0.1, signs
        )  # fmt: skip
        return map_coordinates(image, rows, columns, mode="nearest" if self.clean else "constant")


@dataclasses.dataclass(frozen=True)
class Ripple(BenchmarkCorruption):
    r"""Shifts rows and columns by sines of themselves: pixel p is read at :math:`p + A \sin(2 \pi p / \lambda + \phi)`.

    On each axis λ is 0.1 to 0.3 times the shorter side s and the phase uniform; A is 0.0025 l s with l of 5.5, 6, 6.5,
    7.5, 8. Bilinear.

    Source: ``ripple`` of CIFAR-10-C-bar (arXiv 2102.11273). Its quirks: black beyond the image; truncation to eight
    bits. ``clean`` repeats the border, and does not truncate.
    """

    variable: ClassVar[str] = "optics"

    def damage(self, key: PRNGKey, image: Image, severity: Scalar) -> Image:
        side = min(image.shape[:2])
        wavelength, phase = random_uniform(key, (2, 2))
        amplitude = 0.0025 * side * constants((5.5, 6, 6.5, 7.5, 8), severity)
        wavelength = (0.1 + 0.2 * wavelength) * side
        wave = lambda axis: ripple(image.shape[axis], amplitude, wavelength[axis], 2 * jnp.pi * phase[axis])  # noqa: E731
        rows, columns = wave(0), wave(1)
        if self.clean:
            return sample_grid(image, rows, columns)
        # A frame of one black pixel stands for all that lies beyond.
        return sample_grid(pad(image, 1, 1, "constant"), rows + 1, columns + 1)


def ripple(size: int, amplitude: Scalar, wavelength: Scalar, phase: Scalar) -> Float[Array, "size"]:
    """Where each row, or column, is read from, see :class:`Ripple`."""
    position = jnp.arange(size, dtype=jnp.float32)
    return position + amplitude * jnp.sin(2 * jnp.pi * position / wavelength + phase)


def caustics(shape: tuple[int, int], time: Scalar, size: Scalar) -> Float[Array, "h w"]:
    """Light on the ground of shallow water, in [0, 1]; it repeats every ``size`` pixels.

    Source: Hoskins, "Tileable water caustic" (2014), five waves.
    """
    turn = lambda n: (lambda u: (u - jnp.floor(u)) * (2 * jnp.pi) - 250)(jnp.arange(n) / size)  # noqa: E731
    row, column = jnp.broadcast_to(turn(shape[0])[:, None], shape), jnp.broadcast_to(turn(shape[1])[None], shape)

    # A loop, for unrolled XLA would work out every wave again in each that follows.
    def wave(state: tuple, number: Array) -> tuple[tuple, None]:
        i, j, light = state
        t = time * (1 - 3.5 / number)
        i, j = row + jnp.cos(t - i) + jnp.sin(t + j), column + jnp.sin(t - j) + jnp.cos(t + i)
        # 1 / hypot(row / sin, column / cos), without dividing by sines that are 0.
        sine, cosine = jnp.sin(i + t), jnp.cos(j + t)
        across = (row * cosine) ** 2 + (column * sine) ** 2
        return (i, j, light + 200 * jnp.abs(sine * cosine) * jax.lax.rsqrt(jnp.maximum(across, 1e-12))), None

    (_, _, light), _ = jax.lax.scan(wave, (row, column, jnp.ones(shape)), jnp.arange(1.0, 6.0))
    return jnp.clip(jnp.abs(1.17 - (light / 5) ** 1.4) ** 8, 0, 1)


def refract(image: Image, surface: Float[Array, "h w"], lens: Scalar, lighting: Scalar, *, seams: bool) -> Image:
    """The image through a surface, see :class:`CausticRefraction`; ``seams``: with its quirks, but for eight bits."""
    padded = pad(surface, 1, 1, "constant" if seams else "nearest")
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    cosine = jax.lax.rsqrt(1 + down**2 + across**2)
    bend = lens * cosine * (jnp.sqrt(1 - (1 - cosine**2) / _REFRACTION**2) - cosine / _REFRACTION)
    if seams:
        bend = jnp.where(cosine >= _STRAIGHT, 0, bend)
    rows = jnp.arange(image.shape[0])[:, None] + bend * down
    columns = jnp.arange(image.shape[1])[None] + bend * across
    read = map_coordinates(image, rows, columns, mode="constant" if seams else "nearest")
    return read + (lighting * (down - across))[..., None]


def twirls(
    shape: tuple[int, int], side: float, centre: float, angle: Scalar, amount: Scalar, signs: Float[Array, "m n"]
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Where each pixel is read from, see :class:`PinchAndTwirl`: rows and columns.

    Args:
        shape: height and width.
        side: of a cell.
        centre: of the first cell's disk, on both axes.
        angle: by which the centre turns.
        amount: of pinch.
        signs: of the angle, in each cell.
    """
    grid = signs.shape
    position = [np.arange(size, dtype=np.float32) for size in shape]
    cell = [np.minimum(((p + 0.5) // side).astype(int), n - 1) for p, n in zip(position, grid, strict=True)]
    down, across = (p - (c * side + centre) for p, c in zip(position, cell, strict=True))
    down, across = np.broadcast_arrays(down[:, None], across[None])
    distance = np.hypot(down, across) / (side / 2)
    moves = (distance <= 1) & (distance > 1e-4)
    distance = np.where(moves, distance, 1).astype(np.float32)
    stretch = jnp.asarray(np.sin(np.pi / 2 * distance)) ** -amount
    turn = angle * jnp.asarray((1 - distance) ** 2)
    along, aside = stretch * jnp.cos(turn), stretch * jnp.sin(turn)
    sign = jnp.take(jnp.take(signs, cell[0], axis=0), cell[1], axis=1)
    rows, columns = along * down - sign * aside * across, sign * aside * down + along * across
    moves = jnp.asarray(moves)
    rows = jnp.where(moves, rows - down, 0) + jnp.asarray(position[0])[:, None]
    columns = jnp.where(moves, columns - across, 0) + jnp.asarray(position[1])[None]
    return rows, columns
