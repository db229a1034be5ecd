"""The operations that augmentation policies choose from, by number and with a value that may be traced.

Which one is applied differs between images, so :func:`operate` takes a number, and the operations have few forms:
shears and translations move rows along themselves, or columns. Under ``jax.vmap`` on an accelerator every form is
computed and one is kept.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.core.checks import check_choice
from robust_jax.core.loops import one_by_one
from robust_jax.images import enhance, geometry
from robust_jax.images.quantise import quantise
from robust_jax.types import Image

GEOMETRIC = ("shear_x", "translate_x", "shear_y", "translate_y", "rotate")
"""What a value means: the slope of a shear, a share of the side, degrees against the clock as it is seen. Positive
shears and translations move the picture to the left, or up."""
FACTORS = {
    "brightness": enhance.brightness,
    "saturation": enhance.saturation,
    "contrast": enhance.contrast,
    "sharpness": enhance.sharpness,
}
"""A value is how much of the image to keep, see :mod:`robust_jax.images.enhance`."""
TONAL = {**FACTORS, "posterise": enhance.posterise, "solarise": enhance.solarise}
"""With bits that stay, and a threshold in [0, 1]."""
WITHOUT_VALUE = {
    "auto_contrast": enhance.auto_contrast,
    "equalise": enhance.equalise_channels,
    "invert": enhance.invert,
    "identity": lambda image: image,
}
"""These have none."""
OPERATIONS = (*GEOMETRIC, *TONAL, *WITHOUT_VALUE)
INTERPOLATIONS = ("nearest", "bilinear")


def operation_number(name: str) -> int:
    """The number of an operation in :data:`OPERATIONS`.

    Raises:
        ValueError: if there is none of the name; the nearest is named.
    """
    check_choice("operation", name, OPERATIONS)
    return OPERATIONS.index(name)


def operate(
    number: Int[Array, ""] | int,
    value: Float[Array, ""] | float,
    image: Image,
    *,
    interpolation: str = "nearest",
    fill: float = 0.0,
) -> Image:
    """One of the operations, as Pillow does it: the result has 256 levels, and an image of eight bits is read as such.

    Args:
        number: which, in :data:`OPERATIONS`.
        value: its strength, in the operation's own unit, see :data:`GEOMETRIC` and :data:`TONAL`.
        image: in [0, 1].
        interpolation: of the geometric ones, nearest or bilinear.
        fill: what moves in from beyond the image.

    Raises:
        ValueError: if the interpolation is unknown; the nearest is named.
    """
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    settings = {"order": INTERPOLATIONS.index(interpolation), "fill": fill}
    along_x, along_y = (partial(_slide, axis=axis, **settings) for axis in (1, 0))
    branches = (
        *(along_x, along_y, partial(_rotate, **settings)),
        *(lambda number, value, image, function=function: function(image, value) for function in TONAL.values()),
        *(lambda number, value, image, function=function: function(image) for function in WITHOUT_VALUE.values()),
    )

    def apply(number: Int[Array, ""], value: Float[Array, ""], image: Image) -> Image:
        # The first four are two pairs.
        branch = jnp.where(number < 4, number // 2, number - 2)
        return jax.lax.switch(branch, branches, number, value, image)

    return one_by_one(apply)(jnp.asarray(number), jnp.asarray(value, image.dtype), image)


def _slide(
    number: Int[Array, ""], value: Float[Array, ""], image: Image, *, axis: int, order: int, fill: float
) -> Image:
    """A shear or a translation, rows along themselves or columns."""
    lines, size = image.shape[1 - axis], image.shape[axis]
    sheared = number == operation_number("shear_x" if axis == 1 else "shear_y")
    shifts = value * jnp.where(sheared, jnp.arange(lines) + 0.5, size)
    return _cut_off(geometry.slide(image, shifts, axis=axis, order=order, cval=fill))


def _rotate(number: Int[Array, ""], value: Float[Array, ""], image: Image, *, order: int, fill: float) -> Image:
    del number
    matrix = geometry.rotation(-value, centre=geometry.image_centre(image.shape))
    return _cut_off(geometry.warp(image, matrix, order=order, mode=geometry.OUTLINE, cval=fill))


def _cut_off(image: Image) -> Image:
    """To whole levels, as Pillow's interpolation does."""
    return quantise(image, "trunc_u8")
