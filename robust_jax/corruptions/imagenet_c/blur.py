"""Blurs of optics and motion: defocus, Gaussian, zoom and motion (arXiv 1903.12261, section 3 and appendix B)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.corruptions.base import BenchmarkCorruption, constants, counts
from robust_jax.images.borders import pad
from robust_jax.images.filters import disk_kernel, filter2d, gaussian_blur
from robust_jax.images.resample import sample_grid
from robust_jax.types import Image, PRNGKey

# Radius of the disk, standard deviation of the blur of its edge.
DEFOCUS = {
    "imagenet224": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "cifar32": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "tiny64": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
}
GAUSSIAN_SIGMA = {
    "imagenet224": (1, 2, 3, 4, 6),
    "cifar32": (0.4, 0.6, 0.7, 0.8, 1),
    "tiny64": (0.5, 0.75, 1, 1.25, 1.5),
}
# Radius and standard deviation.
MOTION = {
    "imagenet224": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "cifar32": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "tiny64": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
}
# End and step of the zooms that are averaged.
SMALL_ZOOM = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
ZOOM = {
    "imagenet224": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    "cifar32": SMALL_ZOOM,
    "tiny64": SMALL_ZOOM,
}


@dataclasses.dataclass(frozen=True)
class DefocusBlur(BenchmarkCorruption):
    """Correlation with a disk whose edge is softened, borders mirrored: a lens out of focus.

    As in the original the edge's blur is a kernel of 3 × 3, and of 5 × 5 for disks of a radius above 8, and the largest
    disks brighten the image a little, see :func:`defocus_kernel` (``clean``: they do not).
    """

    variable: ClassVar[str] = "optics"
    by_image: ClassVar[bool] = True

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        del key
        table = np.array(self.table(DEFOCUS, image), np.float64)
        table[:, 0] *= self.scale(image)
        radius, alias_sigma = constants(table, severity)
        kernel = defocus_kernel(radius, alias_sigma, max_radius=table[:, 0].max(), clean=self.clean)
        return filter2d(image, kernel, mode="mirror")


@dataclasses.dataclass(frozen=True)
class GaussianBlur(BenchmarkCorruption):
    """Convolution with a Gaussian, cut at four standard deviations, borders repeated."""

    variable: ClassVar[str] = "optics"
    by_image: ClassVar[bool] = True

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        del key
        table = np.multiply(self.table(GAUSSIAN_SIGMA, image), self.scale(image))
        return gaussian_blur(image, constants(table, severity), radius=math.ceil(4 * max(table)))


@dataclasses.dataclass(frozen=True)
class MotionBlur(BenchmarkCorruption):
    """A half Gaussian along a line at an angle from U(−45°, 45°), borders repeated.

    The original calls ImageMagick, whose steps this follows: 2 r + 1 weights from 0 outwards on one side only, so that
    the picture also moves, at whole pixels (``clean``: between pixels, and centred).
    """

    variable: ClassVar[str] = "motion"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        table = np.multiply(self.table(MOTION, image), self.scale(image))
        angle = jax.random.uniform(key, minval=-45.0, maxval=45.0)
        taps = 2 * math.ceil(table[:, 0].max()) + 1
        used = 2 * counts(np.ceil(table[:, 0]), severity) + 1
        return motion_blur(image, angle, constants(table[:, 1], severity), used, max_taps=taps, centred=self.clean)


@dataclasses.dataclass(frozen=True)
class ZoomBlur(BenchmarkCorruption):
    """The mean of the image and of bilinear zooms of it from 1 up: moving towards the scene.

    The original's zooms are of the top left square of side ``ceil(h / zoom)``, which for images that are not square is
    neither centred nor of their shape; here height and width are each cropped about the middle. Crops are of whole
    pixels, so that zooms are off centre by up to half of one (``clean``: exact).
    """

    variable: ClassVar[str] = "motion"
    by_image: ClassVar[bool] = True

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        del key
        rows, columns, weights = zoom_tables(self.table(ZOOM, image), image.shape, exact=self.clean)
        rows, columns = constants(rows, severity), constants(columns, severity)
        weights = constants(weights, severity)
        total = image * weights[0]
        for i in range(len(rows)):
            total = total + weights[i + 1] * sample_grid(image, rows[i], columns[i])
        return total


def defocus_kernel(
    radius: Float[Array, ""], alias_sigma: Float[Array, ""], *, max_radius: float, clean: bool = False
) -> Float[Array, "size size"]:
    """The softened disk, of as many pixels as one of ``max_radius`` needs.

    The original softens on a grid that ends where the disk does, at 8 pixels and for larger ones at the radius, and
    mirrors what would fall beyond: at radii of 8 and 10 the weights sum to 1.002 and 1.011. ``clean`` has room for it.
    """
    reach = math.ceil(max_radius)
    if clean or reach < 8:
        return disk_kernel(radius, alias_sigma, size=2 * reach + (5 if clean else 3), alias_radius=2 if clean else 1)
    small = disk_kernel(radius, alias_sigma, size=17, alias_radius=1)
    if reach == 8:
        return small
    large = disk_kernel(radius, alias_sigma, size=2 * reach + 1, alias_radius=2)
    return jnp.where(radius > 8, large, jnp.pad(small, reach - 8))


def motion_blur(
    image: Float[Array, "h w c"],
    angle: Float[Array, ""],
    sigma: Float[Array, ""],
    taps: Float[Array, ""],
    *,
    max_taps: int,
    centred: bool = False,
) -> Float[Array, "h w c"]:
    r"""The sum of shifted copies with weights :math:`\propto e^{-i^2 / 2 \sigma^2}`, i from 0 to ``taps - 1``.

    Copy i is read ``i`` pixels away at ``angle`` degrees, clockwise from the right, at the nearest pixel.

    Args:
        image: the image.
        angle: in degrees.
        sigma: in pixels.
        taps: how many copies, traced.
        max_taps: the most that ``taps`` can be.
        centred: spread the copies evenly to both sides.
    """
    i = jnp.arange(max_taps, dtype=jnp.float32)
    weights = jnp.where(i < taps, jnp.exp(-0.5 * (i / sigma) ** 2), 0)
    weights = weights / jnp.sum(weights)
    position = i - jnp.sum(weights * i) if centred else i
    theta = jnp.deg2rad(angle)
    rows = jnp.ceil(position * jnp.sin(theta) - 0.5).astype(jnp.int32)
    columns = jnp.ceil(position * jnp.cos(theta) - 0.5).astype(jnp.int32)
    return sum_of_copies(image, weights, rows, columns)


def sum_of_copies(
    image: Float[Array, "h w c"],
    weights: Float[Array | np.ndarray, "n"],
    rows: Int[Array, "n"],
    columns: Int[Array, "n"],
) -> Float[Array, "h w c"]:
    """Weighted copies of the image, copy i read ``rows[i]`` down and ``columns[i]`` to the right, borders repeated.

    They are read less than ``n`` pixels away.
    """
    reach = len(weights) - 1
    padded = pad(image, reach, reach, "nearest")
    total = jnp.zeros_like(image)
    for tap, weight in enumerate(weights):
        copy = jax.lax.dynamic_slice(padded, (rows[tap] + reach, columns[tap] + reach, 0), image.shape)
        total = total + weight * copy
    return total


def zoom_tables(
    spans: Sequence[Sequence[float]], shape: tuple[int, ...], *, exact: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the rows and columns of each zoom read, ``[5, zooms, h]`` and ``[5, zooms, w]``, and weights.

    Weights ``[5, 1 + zooms]`` are those of the image and of each zoom. Severities of fewer zooms repeat their last
    with no weight.
    """
    zooms = [np.arange(1, end, step) for end, step in spans]
    most = max(len(factors) for factors in zooms)
    weights = np.stack([(np.arange(most + 1) <= len(factors)) / (len(factors) + 1) for factors in zooms])
    padded = np.stack([np.pad(factors, (0, most - len(factors)), mode="edge") for factors in zooms])
    rows, columns = (
        np.stack([[zoom_positions(side, factor, exact=exact) for factor in factors] for factors in padded])
        for side in shape[:2]
    )
    return rows, columns, weights


def zoom_positions(size: int, factor: float, *, exact: bool) -> Float[np.ndarray, "size"]:
    """Where each pixel of an axis reads when its middle is cropped, enlarged by scipy's zoom, and cropped again.

    ``exact``: when it is enlarged about its middle, without crops of whole pixels.
    """
    if exact:
        middle = (size - 1) / 2
        return middle + (np.arange(size) - middle) / factor
    crop = math.ceil(size / factor)
    enlarged = round(crop * factor)
    trim = (enlarged - size) // 2
    step = (crop - 1) / max(enlarged - 1, 1)
    return (size - crop) // 2 + (np.arange(size) + trim) * step
