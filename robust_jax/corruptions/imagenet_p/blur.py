"""Sequences of blur: of motion whose direction turns, of zoom, and of a lens (arXiv 1903.12261, section 3)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.corruptions.imagenet_c.blur import sum_of_copies
from robust_jax.corruptions.imagenet_p.base import PerturbationSequence
from robust_jax.corruptions.imagenet_p.geometry import zoom_positions
from robust_jax.images.filters import gaussian_blur
from robust_jax.images.quantise import quantise
from robust_jax.images.resample import sample_grid
from robust_jax.types import Image, PRNGKey

# Radius, standard deviation, degrees between frames.
MOTION = {"imagenet224": (10, 3, 4), "cifar32": (6, 1.8, 9), "tiny64": (14 * 64 / 224, 3 * 64 / 224, 5)}
ZOOM_STEP = 0.004
# Standard deviation of the first frame, its growth, and where the kernel ends.
GAUSSIAN = {"imagenet224": (0.25, 0.035, 6), "cifar32": (0.3, 0.015, 7), "tiny64": (0.35, 0.014, 7)}


@dataclasses.dataclass(frozen=True)
class MotionBlurSequence(PerturbationSequence):
    """A half Gaussian along a line that turns by a few degrees a frame and ends pointing to the right.

    31 frames of 4° from −120°; CIFAR 21 of 9° from −180°; Tiny ImageNet 31 of 5° from −150°. All frames are blurred.
    The blur is that of :class:`~robust_jax.corruptions.MotionBlur`, on one side only, so that the picture also moves
    (``clean``: centred).

    Tiny ImageNet's images are blurred before they are reduced, from sizes that differ; here radius and standard
    deviation are those of images of 224 pixels reduced to 64.
    """

    variable: ClassVar[str] = "motion"
    rounding: ClassVar[str] = "round_u8"
    lengths: ClassVar[Mapping[str, int]] = {"imagenet224": 31, "cifar32": 21, "tiny64": 31}

    def prepare(self, key: PRNGKey, image: Image) -> Image:
        del key
        return image

    def picture(self, state: Image, frame: Int[Array, ""]) -> Image:
        radius, sigma, step = self.table(MOTION, state.shape)
        scale, length = self.scale(state.shape), self.num_frames(state.shape)
        angles = (np.arange(length) - (length - 1)) * float(step)
        return turning_blur(state, frame, angles, radius * scale, sigma * scale, centred=self.clean)


@dataclasses.dataclass(frozen=True)
class ZoomBlurSequence(PerturbationSequence):
    """The image, then its mean with zooms of it by 1.004, 1.008, … up to 1 + 0.004 times the frame.

    Zooms are bilinear, about a point half a pixel to the right of and below the centre, and truncated to eight bits
    before they are averaged (``clean``: about the centre, and not truncated).
    """

    variable: ClassVar[str] = "motion"
    whole: ClassVar[bool] = True

    def prepare(self, key: PRNGKey, image: Image) -> tuple[Image, Image]:
        del key
        (top, left), (height, width) = self.offset(image.shape), self.shown_shape(image.shape)
        return image, image[top : top + height, left : left + width]

    def advance(self, state: tuple[Image, Image], frame: Int[Array, ""]) -> tuple[Image, Image]:
        image, total = state
        rows, columns = zoom_positions(self, image.shape, 1 + ZOOM_STEP * frame)
        zoomed = sample_grid(image, rows, columns)
        return image, total + (zoomed if self.clean else quantise(zoomed, "trunc_u8"))

    def picture(self, state: tuple[Image, Image], frame: Int[Array, ""]) -> Image:
        return state[1] / (frame + 1)


@dataclasses.dataclass(frozen=True)
class GaussianBlurSequence(PerturbationSequence):
    """A Gaussian that widens a little with every frame, from 0.25 to 1.3 pixels; for validation.

    CIFAR from 0.3 to 0.75, Tiny ImageNet from 0.35 to 0.77. The first frame is blurred, too. ``clean`` differs by the
    truncation to eight bits alone.
    """

    variable: ClassVar[str] = "optics"

    def prepare(self, key: PRNGKey, image: Image) -> Image:
        del key
        return image

    def picture(self, state: Image, frame: Int[Array, ""]) -> Image:
        first, step, truncate = self.table(GAUSSIAN, state.shape)
        scale = self.scale(state.shape)
        most = (first + step * (self.num_frames(state.shape) - 1)) * scale
        sigma: Float[Array, ""] = (first + step * frame) * scale
        return gaussian_blur(state, sigma, radius=math.floor(truncate * most + 0.5), truncate=truncate)


def turning_blur(
    image: Float[Array, "h w c"],
    frame: Int[Array, ""],
    angles: Float[np.ndarray, "frames"],
    radius: float,
    sigma: float,
    *,
    centred: bool,
) -> Float[Array, "h w c"]:
    """:func:`~robust_jax.corruptions.imagenet_c.blur.motion_blur` at the angle of a frame.

    At many of the published angles copies fall on the middle between two pixels. So that they go where they do in the
    original, where they go is worked out beforehand in double precision, by ImageMagick's steps.
    """
    taps = 2 * math.ceil(radius) + 1
    i = np.arange(taps)
    weights = np.exp(-0.5 * (i / sigma) ** 2)
    weights /= weights.sum()
    position = i - weights @ i if centred else i.astype(float)
    across, along = (taps * part(np.deg2rad(angles))[:, None] for part in (np.sin, np.cos))
    length = np.hypot(across, along)
    shifts = np.stack([np.ceil(position * part / length - 0.5) for part in (across, along)], axis=-1).astype(np.int32)
    rows, columns = jnp.moveaxis(jnp.asarray(shifts)[frame], -1, 0)
    return sum_of_copies(image, weights.astype(np.float32), rows, columns)
