"""Spatter of water or mud on the lens (arXiv 1903.12261, section 3 and appendix B)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_normal
from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.images.colour import LUMA
from robust_jax.images.distance import distance_transform
from robust_jax.images.edges import canny
from robust_jax.images.filters import filter2d, gaussian_blur
from robust_jax.images.histogram import equalise_levels
from robust_jax.types import Image, PRNGKey

# Mean and standard deviation of the noise, standard deviation of its blur, threshold, then of water (severities 1 to
# 3) its strength and of mud (4 and 5) the blur of its edge.
SPATTER = {
    "imagenet224": (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    ),
    "cifar32": (
        (0.62, 0.1, 0.7, 0.7, 0.5),
        (0.65, 0.1, 0.8, 0.7, 0.5),
        (0.65, 0.3, 1, 0.69, 0.5),
        (0.65, 0.1, 0.7, 0.69, 0.6),
        (0.65, 0.1, 0.5, 0.68, 0.6),
    ),
    "tiny64": (
        (0.62, 0.1, 0.7, 0.7, 0.6),
        (0.65, 0.1, 0.8, 0.7, 0.6),
        (0.65, 0.3, 1, 0.69, 0.6),
        (0.65, 0.1, 0.7, 0.68, 0.6),
        (0.65, 0.1, 0.5, 0.67, 0.6),
    ),
}
WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
# The sum is 1: what is flat stays, slopes that rise to the bottom right are raised.
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
# Further than this from an edge, water looks the same.
_DEPTH = 20
_MUD_OPACITY = 0.8


@dataclasses.dataclass(frozen=True)
class Spatter(BenchmarkCorruption):
    r"""Drops where blurred noise exceeds a threshold: of water, added (severities 1 to 3), or of mud, opaque (4, 5).

    Water is x + s m (175, 238, 238) / 255, pale turquoise, with the map m of :func:`water_map`; mud is
    x (1 − m) + m (63, 42, 20) / 255, with m of :func:`mud_map`. Images of one channel get the luma of either. Constants
    are interpolated within water and within mud. With the preset ``scaled`` the deviations of blurs are scaled, and
    that of the noise so that drops cover as much.

    The original holds the noise as eight bits, so that what exceeds 1 wraps around to 0 (``clean``: it saturates), and
    water that misses the image altogether divides by 0 and leaves it black (``clean``: unharmed). Distances in the
    water are those of a chamfer metric (``clean``: Euclidean).
    """

    variable: ClassVar[str] = "weather"
    min_size: ClassVar[int] = 2

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        table = scaled_table(self.table(SPATTER, image), self.scale(image))
        muddy = jnp.round(severity) >= 4
        severity = jnp.where(muddy, jnp.maximum(severity, 4), jnp.minimum(severity, 3))
        mean, deviation, sigma, threshold, last = constants(table, severity)
        noise = mean + deviation * random_normal(key, image.shape[:2])
        liquid = gaussian_blur(noise[..., None], sigma, radius=_reach(table[:, 2]))[..., 0]
        liquid = jnp.where(liquid < threshold, 0, liquid)
        cover = jax.lax.cond(
            muddy,
            lambda: mud_map(liquid > threshold, last, max_sigma=table[3:, 4].max()),
            lambda: last * water_map(liquid, clean=self.clean),
        )[..., None]
        colour = jnp.where(muddy, *(paint(colour, image.shape[-1]) for colour in (MUD, WATER)))
        return image * (1 - jnp.where(muddy, cover, 0)) + cover * colour


def water_map(liquid: Float[Array, "h w"], *, clean: bool = False) -> Float[Array, "h w"]:
    """Brightness of water in [0, 1]: how much there is times a relief of the distances from the drops' edges.

    Distances to Canny's edges, up to 20 pixels, are smoothed, cut to whole numbers, equalised, lit from one side, and
    smoothed again.

    Args:
        liquid: its amount, nominally in [0, 1].
        clean: see :class:`Spatter`; else without any liquid the map is −1000, which no image outlives.
    """
    levels = jnp.floor(liquid * 255)
    levels = jnp.minimum(levels, 255) if clean else levels % 256
    metric = "euclidean" if clean else "chamfer"
    distance = distance_transform(~canny(levels, 50, 150), limit=_DEPTH, metric=metric)
    ones = np.ones((3, 3), np.float32)
    whole = jnp.floor(_filter(distance, ones) / 9).astype(jnp.int32)
    relief = equalise_levels(whole).astype(jnp.float32)
    relief = jnp.clip(_filter(relief, _RELIEF), 0, 255)
    water = levels * jnp.round(_filter(relief, ones) / 9)
    most = jnp.max(water)
    return jnp.where(most > 0, water / jnp.where(most > 0, most, 1), 0 if clean else -1000)


def mud_map(covered: Float[Array, "h w"], sigma: float | Float[Array, ""], *, max_sigma: float) -> Float[Array, "h w"]:
    """Opacity of mud: where it is, blurred, without what is less than 0.8."""
    soft = gaussian_blur(covered.astype(jnp.float32)[..., None], sigma, radius=_reach(max_sigma))[..., 0]
    return jnp.where(soft < _MUD_OPACITY, 0, soft)


def scaled_table(table: Sequence[Sequence[float]], scale: float) -> Float[np.ndarray, "5 5"]:
    """Constants with all lengths in pixels multiplied by ``scale`` and the blurred noise's deviation kept."""
    scaled = np.array(table, np.float64)
    if scale == 1:
        return scaled
    sigma = scaled[:, 2].copy()
    scaled[:, 2] *= scale
    scaled[3:, 4] *= scale
    scaled[:, 1] *= _deviation_left(sigma) / _deviation_left(scaled[:, 2])
    return scaled


def _deviation_left(sigma: Float[np.ndarray, "5"]) -> Float[np.ndarray, "5"]:
    """Of white noise of deviation 1 after a Gaussian blur in two dimensions."""
    reach = _reach(sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma[:, None]) ** 2)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return (weights**2).sum(axis=1)


def _reach(sigma: float | Float[np.ndarray, "..."]) -> int:
    return math.floor(4 * np.max(sigma) + 0.5)


def _filter(plane: Float[Array, "h w"], kernel: Float[np.ndarray, "3 3"]) -> Float[Array, "h w"]:
    return filter2d(plane[..., None], kernel, mode="mirror")[..., 0]


def paint(colour: tuple[float, float, float], channels: int) -> Float[Array, "1 1 c"]:
    """A colour for images of so many channels: itself, or of one its luma."""
    values = np.array(colour) if channels == 3 else np.dot(colour, LUMA)[None]
    return jnp.asarray(values[None, None], jnp.float32)
