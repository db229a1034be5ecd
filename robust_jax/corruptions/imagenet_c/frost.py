"""Frost (arXiv 1903.12261, section 3 and appendix B), of procedural crystals or of photographs."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image as Picture

from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.images.noise_fields import plasma
from robust_jax.images.size import image_size
from robust_jax.types import Image, PRNGKey

# Shares of the image and of the frost.
FROST = {
    "imagenet224": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "cifar32": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "tiny64": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
}
# What the photographs' sides are multiplied by.
REDUCTION = {"imagenet224": (1.0,), "cifar32": (0.2,), "tiny64": (0.3,)}
SUFFIXES = (".png", ".jpg", ".jpeg")
# Of the six photographs the original draws one of the first five.
NUM_DRAWN = 5
# Of the tones of the published photographs: darkest and lightest mean of red, green and blue.
DARK, LIGHT = (0.30, 0.50, 0.56), (0.80, 0.81, 0.84)


@dataclasses.dataclass(frozen=True)
class Frost(BenchmarkCorruption):
    """A share of the image plus a share of a picture of frost, cropped at random.

    Without ``textures`` crystals are drawn, see :func:`crystals`: leaves of needles over a cloud, of the tones and
    about the contrast of the published photographs. That is a deviation from the original, which needs its
    photographs; with a folder of them results are the original's. It draws from the first five files of its six, of
    which two are the same (``clean``: from all).
    """

    textures: str | None = None
    """Folder of photographs of frost (png or jpg), taken in the order of their names; by default, crystals."""

    variable: ClassVar[str] = "weather"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        share, frost_share = constants(self.table(FROST, image), severity)
        (reduction,) = self.table(REDUCTION, image)
        reduction *= self.scale(image)
        if self.textures is None:
            frost = crystals(key, image_size(image), reduction)
        else:
            frost = self._photograph(key, image_size(image), reduction)
        if image.shape[-1] == 1:
            frost = jnp.mean(frost, axis=-1, keepdims=True)
        return share * image + frost_share * frost

    def _photograph(self, key: PRNGKey, shape: tuple[int, int], reduction: float) -> Float[Array, "h w 3"]:
        photographs = load_photographs(self.textures, reduction)
        photographs = photographs if self.clean else photographs[:NUM_DRAWN]
        for photograph in photographs:
            if any(side <= needed for side, needed in zip(photograph.shape, shape, strict=False)):
                size, least = ("x".join(map(str, sides)) for sides in (photograph.shape[:2], shape))
                raise ValueError(f"Expected photographs larger than {least} in {self.textures}, got {size}.")
        return random_crop(key, photographs, shape)


def random_crop(
    key: PRNGKey, photographs: tuple[UInt8[np.ndarray, "H W 3"], ...], shape: tuple[int, int]
) -> Float[Array, "h w 3"]:
    """A crop at random of one of several photographs of differing sizes, each equally likely."""
    heights, widths, _ = np.array([photograph.shape for photograph in photographs]).T
    starts = np.cumsum([0, *(heights * widths)[:-1]])
    pixels = jnp.asarray(np.concatenate([photograph.reshape(-1, 3) for photograph in photographs]))
    which_key, top_key, left_key = jax.random.split(key, 3)
    which = jax.random.randint(which_key, (), 0, len(photographs))
    start, height, width = (jnp.asarray(values, jnp.int32)[which] for values in (starts, heights, widths))
    top = jax.random.randint(top_key, (), 0, height - shape[0])
    left = jax.random.randint(left_key, (), 0, width - shape[1])
    rows: Int[Array, "h 1"] = top + jnp.arange(shape[0])[:, None]
    columns: Int[Array, "1 w"] = left + jnp.arange(shape[1])[None]
    crop = pixels.at[start + rows * width + columns].get(mode="promise_in_bounds")
    return crop.astype(jnp.float32) / 255


@functools.lru_cache(maxsize=8)
def load_photographs(folder: str, reduction: float) -> tuple[UInt8[np.ndarray, "H W 3"], ...]:
    """All photographs of a folder in the order of their names, resized bilinearly without antialiasing, as OpenCV does.

    Raises:
        FileNotFoundError: if there is no such folder or there are none in it.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"No folder of frost photographs: textures={folder!r}.")
    files = sorted(file for file in Path(folder).iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise FileNotFoundError(f"No photographs ({', '.join(SUFFIXES)}) in textures={folder!r}.")
    return tuple(_load(file, reduction) for file in files)


def _load(file: Path, reduction: float) -> np.ndarray:
    with Picture.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    if reduction == 1:
        return pixels
    for axis in (0, 1):
        old = pixels.shape[axis]
        new = round(old * reduction)
        position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.minimum(position.astype(int), old - 2)
        weight = np.expand_dims(position - low, (1, 2) if axis == 0 else (0, 2))
        pixels = np.take(pixels, low, axis) * (1 - weight) + np.take(pixels, low + 1, axis) * weight
    return np.round(pixels).astype(np.uint8)


def crystals(key: PRNGKey, shape: tuple[int, int], zoom: float) -> Float[Array, "h w 3"]:
    """Frost on a window: leaves with a spine and slanting needles, grown from random points until they meet.

    Every pixel belongs to the leaf it is nearest to, in a distance that is longer along the leaf. Tone and contrast
    are drawn anew for every picture.

    Args:
        key: a key.
        shape: height and width.
        zoom: 1 for crystals as in photographs of some 500 pixels; lengths are multiplied by it.
    """
    height, width = shape
    place_key, shape_key, tone_key, cloud_key = jax.random.split(key, 4)
    spacing = 34 * zoom
    number = math.ceil((height + spacing) * (width + spacing) / spacing**2)
    row, column = jax.random.uniform(place_key, (2, number))
    place = (row * (height + spacing) - spacing / 2, column * (width + spacing) - spacing / 2)
    angle, phase, length, light = jax.random.uniform(shape_key, (4, number))
    leaves = (*place, jnp.cos(2 * jnp.pi * angle), jnp.sin(2 * jnp.pi * angle), 1.5 + 3 * length)
    rows = jnp.arange(height, dtype=jnp.float32)[:, None]
    columns = jnp.arange(width, dtype=jnp.float32)[None]

    def nearer(best, leaf):
        index, (row, column, cos, sin, stretch) = leaf
        down, right = rows - row, columns - column
        along, across = down * sin + right * cos, right * sin - down * cos
        distance = (along / stretch) ** 2 + (across * 1.5) ** 2
        closer = distance < best[0]
        leaf = (distance, along, across, index)
        return tuple(jnp.where(closer, new, old) for new, old in zip(leaf, best, strict=True)), None

    start = (jnp.full(shape, jnp.inf), jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(shape, jnp.int32))
    best, _ = jax.lax.scan(nearer, start, (jnp.arange(number), leaves), unroll=8)
    distance, along, across, index = best
    across = jnp.abs(across)
    needles = jnp.sin((along + 1.3 * across) * (2.2 / zoom) + 2 * jnp.pi * phase[index])
    spine = jnp.exp(-across / (1.2 * zoom))
    fade = jnp.exp(-distance / (0.9 * spacing) ** 2)
    tone, contrast, hue = jax.random.uniform(tone_key, (3,))
    size = 2 ** math.ceil(math.log2(max(shape)))
    cloud = plasma(cloud_key, size, 1.6)[:height, :width] - 0.5
    relief = (0.05 + 0.1 * contrast) * (0.9 * needles * fade + 1.2 * spine + 0.9 * (light[index] - 0.5)) + 0.35 * cloud
    tones = jnp.array(DARK) * (1 - tone) + jnp.array(LIGHT) * tone
    tones = jnp.mean(tones) + (0.4 + 0.6 * hue) * (tones - jnp.mean(tones))
    return jnp.clip(tones[None, None] + relief[..., None], 0, 1)
