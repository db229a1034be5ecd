"""Sequences of movement: translate, rotate, tilt, scale, shear (arXiv 1903.12261, section 3 and appendix).

The original turns, scales and shears about (w / 2, h / 2), which is half a pixel to the right of and below the centre,
with an early torchvision on Pillow; what comes in from outside the image is black.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.corruptions.imagenet_p.base import PerturbationSequence
from robust_jax.images import geometry
from robust_jax.images.resample import sample_grid
from robust_jax.types import Image, PRNGKey

# Shift of the first frame; the frames go on to the right by one pixel each.
FIRST_SHIFT = {"imagenet224": -20, "cifar32": -7, "tiny64": -15}
# Frame 15 of 31 is the one that is not turned.
MIDDLE = 15
TILT_STEP = {"imagenet224": 1, "cifar32": 0.75, "tiny64": 1}
# Factor of the first frame, and its growth.
SCALES = {"imagenet224": (0.4, 0.025), "cifar32": (0.7, 0.02), "tiny64": (0.4, 0.025)}


@dataclasses.dataclass(frozen=True)
class _Movement(PerturbationSequence):
    variable: ClassVar[str] = "motion"
    whole: ClassVar[bool] = True

    def prepare(self, key: PRNGKey, image: Image) -> Image:
        del key
        return image

    def centre(self, shape: Sequence[int]) -> tuple[float, float]:
        """(x, y) of what stays; the original's is not the centre."""
        return geometry.image_centre(shape) if self.clean else (shape[1] / 2, shape[0] / 2)

    def warp(self, image: Image, matrix: geometry.Matrix, mode: str = geometry.OUTLINE) -> Image:
        """The image warped, then cropped."""
        top, left = self.offset(image.shape)
        matrix = geometry.compose(matrix, geometry.translation(-left, -top))
        return geometry.warp(image, matrix, shape=self.shown_shape(image.shape), mode=mode)


@dataclasses.dataclass(frozen=True)
class TranslateSequence(_Movement):
    """Moved to the right by one pixel a frame.

    ImageNet 41 frames from −20 to 20; CIFAR 16 from −7 to 8; Tiny ImageNet 31 from −15 to 15. With the preset scaled
    shifts are scaled, and between pixels bilinear. ``clean`` differs by the truncation to eight bits alone.
    """

    lengths: ClassVar[Mapping[str, int]] = {"imagenet224": 41, "cifar32": 16, "tiny64": 31}

    def picture(self, state: Image, frame: Int[Array, ""]) -> Image:
        shift = (self.table(FIRST_SHIFT, state.shape) + frame) * self.scale(state.shape)
        rows, columns = shown_positions(self, state.shape)
        return _sample_outline(state, rows, columns - shift)


@dataclasses.dataclass(frozen=True)
class RotateSequence(_Movement):
    """Turned clockwise by 1° a frame, from −15° to 15°, bilinear.

    About a point half a pixel off the centre (``clean``: the centre).
    """

    def picture(self, state: Image, frame: Int[Array, ""]) -> Image:
        return self.warp(state, geometry.rotation(frame - MIDDLE, centre=self.centre(state.shape)))


@dataclasses.dataclass(frozen=True)
class TiltSequence(_Movement):
    """Turned in space about both axes at once, by 1° a frame from −15° to 15° (CIFAR 0.75°), seen in perspective.

    The focal length is the image's diagonal. In the original the image does not lie on the axes it is turned about,
    but one pixel behind them, so that no frame is quite the image: it is shrunk by f / (f + 1), 2 % on CIFAR; and it
    turns about a point half a pixel off the centre (``clean``: neither). OpenCV before version 5 reads at multiples of
    1/32 pixel (here it does not).
    """

    variable: ClassVar[str] = "optics"
    rounding: ClassVar[str] = "round_u8"

    def picture(self, state: Image, frame: Int[Array, ""]) -> Image:
        angle = self.table(TILT_STEP, state.shape) * (frame - MIDDLE)
        tilt = geometry.tilting(
            angle,
            angle,
            centre=self.centre(state.shape),
            focal=math.hypot(*state.shape[:2]),
            offset=0.0 if self.clean else 1.0,
        )
        return self.warp(state, tilt, mode="constant")


@dataclasses.dataclass(frozen=True)
class ScaleSequence(_Movement):
    """Enlarged by a little more with every frame, from 0.4 to 1.15 (CIFAR 0.7 to 1.3), bilinear.

    About a point half a pixel off the centre (``clean``: the centre).
    """

    variable: ClassVar[str] = "optics"

    def picture(self, state: Image, frame: Int[Array, ""]) -> Image:
        first, step = self.table(SCALES, state.shape)
        return _sample_outline(state, *zoom_positions(self, state.shape, first + step * frame))


@dataclasses.dataclass(frozen=True)
class ShearSequence(_Movement):
    """Sheared by 1° a frame, from −15° to 15°, bilinear; for validation.

    The original also shrinks the height by the angle's cosine, and shears about a point half a pixel off the centre
    (``clean``: neither).
    """

    variable: ClassVar[str] = "optics"

    def picture(self, state: Image, frame: Int[Array, ""]) -> Image:
        angle = jnp.deg2rad((frame - MIDDLE).astype(jnp.float32))
        height = 1.0 if self.clean else 1 / jnp.cos(angle)
        return self.warp(state, geometry.linear((1, jnp.tan(angle)), (0, height), centre=self.centre(state.shape)))


def shown_positions(
    sequence: PerturbationSequence, shape: Sequence[int]
) -> tuple[Float[Array, "h"], Float[Array, "w"]]:
    """Rows and columns of the image that its frames show."""
    (top, left), (height, width) = sequence.offset(shape), sequence.shown_shape(shape)
    return jnp.arange(top, top + height, dtype=jnp.float32), jnp.arange(left, left + width, dtype=jnp.float32)


def zoom_positions(
    sequence: PerturbationSequence, shape: Sequence[int], factor: Float[Array, ""]
) -> tuple[Float[Array, "h"], Float[Array, "w"]]:
    """Rows and columns where frames read when the image is enlarged."""
    middle_row, middle_column = ((side - 1) / 2 if sequence.clean else side / 2 for side in shape[:2])
    rows, columns = shown_positions(sequence, shape)
    return (rows - middle_row) / factor + middle_row, (columns - middle_column) / factor + middle_column


def _sample_outline(image: Image, rows: Float[Array, "h"], columns: Float[Array, "w"]) -> Image:
    tall = geometry.inside_outline(rows, image.shape[0])[:, None, None]
    wide = geometry.inside_outline(columns, image.shape[1])[None, :, None]
    return jnp.where(tall & wide, sample_grid(image, rows, columns), 0)
