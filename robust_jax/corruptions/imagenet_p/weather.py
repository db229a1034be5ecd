"""Sequences of weather and light: snow, spatter, brightness (arXiv 1903.12261, section 3 and appendix)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.core.random_words import random_normal
from robust_jax.corruptions.imagenet_c.blur import zoom_positions
from robust_jax.corruptions.imagenet_c.colour import brighten
from robust_jax.corruptions.imagenet_c.spatter import WATER, paint, scaled_table, water_map
from robust_jax.corruptions.imagenet_c.weather import whiten
from robust_jax.corruptions.imagenet_p.base import PerturbationSequence
from robust_jax.corruptions.imagenet_p.blur import turning_blur
from robust_jax.images.filters import gaussian_blur
from robust_jax.images.quantise import quantise
from robust_jax.images.resample import sample_grid
from robust_jax.types import Image, PRNGKey

# Mean and standard deviation of the noise, zoom, radius and standard deviation of the motion blur.
SNOW = {
    "imagenet224": (0.05, 0.3, 3, 14, 4),
    "cifar32": (0.05, 0.3, 2, 10, 2),
    "tiny64": (0.05, 0.28, 2, 10, 2.5),
}
SNOW_THRESHOLD = 0.5
SNOW_SHARE = 0.85
# Degrees of the first frame, and between frames.
SNOW_ANGLE = (-150.0, 4.0)
# Mean, standard deviation, standard deviation of the blur, threshold, strength.
SPATTER = {
    "imagenet224": (0.65, 0.27, 3.7, 0.69, 0.6),
    "cifar32": (0.6, 0.265, 1.75, 0.7, 0.6),
    "tiny64": (0.6, 0.25, 1.75, 0.7, 0.6),
}
# How much of the water goes up by one pixel, stays, goes down by one, by two: in every frame.
FALL = {"imagenet224": (0.05, 0.1, 0.15, 0.7), "cifar32": (0, 0.2, 0.8, 0), "tiny64": (0, 0.2, 0.8, 0)}
BRIGHTNESS_STEP = {"imagenet224": 0.02, "cifar32": 0.015, "tiny64": 0.02}
# The frame of the image's own brightness.
MIDDLE = 15


@dataclasses.dataclass(frozen=True)
class SnowSequence(PerturbationSequence):
    """The same flakes, blurred along a line that turns by 4° a frame, from −150° to −30°.

    All frames are snowed in. The flakes are those of :class:`~robust_jax.corruptions.Snow`: as there they pass through
    eight bits before and after the blur, what is zoomed is a crop of whole pixels, and the blur is on one side
    (``clean``: none of these).
    """

    variable: ClassVar[str] = "weather"
    min_size: ClassVar[int] = 6

    def prepare(self, key: PRNGKey, image: Image) -> tuple[Image, Float[Array, "h w 1"]]:
        mean, deviation, zoom, _, _ = self.table(SNOW, image.shape)
        zoom = max(zoom * self.scale(image.shape), 1)
        noise = mean + deviation * random_normal(key, (*image.shape[:2], 1))
        positions = (zoom_positions(side, zoom, exact=self.clean) for side in image.shape[:2])
        flakes = sample_grid(noise, *(jnp.asarray(at, jnp.float32) for at in positions))
        flakes = jnp.clip(jnp.where(flakes < SNOW_THRESHOLD, 0, flakes), 0, 1)
        return whiten(image, SNOW_SHARE), flakes if self.clean else quantise(flakes, "trunc_u8")

    def picture(self, state: tuple[Image, Float[Array, "h w 1"]], frame: Int[Array, ""]) -> Image:
        whitened, flakes = state
        _, _, _, radius, sigma = self.table(SNOW, whitened.shape)
        scale = self.scale(whitened.shape)
        angles = SNOW_ANGLE[0] + SNOW_ANGLE[1] * np.arange(self.num_frames(whitened.shape))
        layer = turning_blur(flakes, frame, angles, radius * scale, sigma * scale, centred=self.clean)
        layer = layer if self.clean else quantise(layer, "round_u8")
        return whitened + layer + layer[::-1, ::-1]


@dataclasses.dataclass(frozen=True)
class SpatterSequence(PerturbationSequence):
    """Drops of water on the lens that run down and spread, ImageNet's by up to two pixels a frame.

    All frames are spattered. The water is that of :class:`~robust_jax.corruptions.Spatter`, drawn anew of the drops in
    every frame; its quirks are repaired alike under ``clean``. Among them: where all water has run off, the original's
    frame is black, as are 14 % of CIFAR's last ones (``clean``: the image). With the preset scaled drops are scaled as
    there, but run down as many pixels. Part of ImageNet-P's validation set, and of CIFAR-10-P in the place of snow.
    """

    variable: ClassVar[str] = "weather"
    min_size: ClassVar[int] = 2

    def prepare(self, key: PRNGKey, image: Image) -> tuple[Image, Float[Array, "h w"]]:
        row = self.table(SPATTER, image.shape)
        mean, deviation, sigma, threshold, _ = scaled_table((row,) * 5, self.scale(image.shape))[0]
        noise = mean + deviation * random_normal(key, image.shape[:2])
        water = gaussian_blur(noise[..., None], float(sigma))[..., 0]
        return image, jnp.where(water < threshold, 0, water)

    def advance(
        self, state: tuple[Image, Float[Array, "h w"]], frame: Int[Array, ""]
    ) -> tuple[Image, Float[Array, "h w"]]:
        del frame
        image, water = state
        height = len(water)
        padded = jnp.pad(water, ((2, 1), (0, 0)))
        fallen = jnp.zeros_like(water)
        for i, share in enumerate(self.table(FALL, image.shape)):
            if share:
                fallen = fallen + share * padded[3 - i : 3 - i + height]
        return image, fallen

    def picture(self, state: tuple[Image, Float[Array, "h w"]], frame: Int[Array, ""]) -> Image:
        del frame
        image, water = state
        strength = self.table(SPATTER, image.shape)[-1]
        cover = strength * water_map(water, clean=self.clean)[..., None]
        return image + cover * paint(WATER, image.shape[-1])


@dataclasses.dataclass(frozen=True)
class BrightnessSequence(PerturbationSequence):
    """The value of HSV raised by 0.02 a frame, from −0.3 to 0.3 (CIFAR 0.015, from −0.225), cut to [0, 1].

    ``clean`` differs by the truncation to eight bits alone.
    """

    variable: ClassVar[str] = "illumination"

    def prepare(self, key: PRNGKey, image: Image) -> Image:
        del key
        return image

    def picture(self, state: Image, frame: Int[Array, ""]) -> Image:
        return brighten(state, self.table(BRIGHTNESS_STEP, state.shape) * (frame - MIDDLE))
