"""The operations that augmentation policies choose from, by number and with a value that may be traced.

Which one is applied differs between images, so :func:`operate` takes a number, and the operations have few forms: all
geometric ones are one warp by one matrix. Under ``jax.vmap`` every form is computed and one is kept.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.core.checks import check_choice
from robust_jax.core.loops import one_by_one
from robust_jax.images import enhance, geometry
from robust_jax.images.packed import MAX_CHANNELS, warp_levels
from robust_jax.images.quantise import quantise
from robust_jax.types import Image

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
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
    branches = (
        partial(_move, order=INTERPOLATIONS.index(interpolation), fill=fill),
        *(lambda number, value, image, function=function: function(image, value) for function in TONAL.values()),
        *(lambda number, value, image, function=function: function(image) for function in WITHOUT_VALUE.values()),
    )

    def apply(number: Int[Array, ""], value: Float[Array, ""], image: Image) -> Image:
        return jax.lax.switch(jnp.maximum(number - len(GEOMETRIC) + 1, 0), branches, number, value, image)

    return one_by_one(apply)(jnp.asarray(number), jnp.asarray(value, image.dtype), image)


def _move(number: Int[Array, ""], value: Float[Array, ""], image: Image, *, order: int, fill: float) -> Image:
    height, width, _ = image.shape
    corner = (-0.5, -0.5)
    matrices = (
        geometry.linear((1, value), (0, 1), centre=corner),
        geometry.linear((1, 0), (value, 1), centre=corner),
        geometry.translation(-value * width, 0),
        geometry.translation(0, -value * height),
        geometry.rotation(-value, centre=geometry.image_centre(image.shape)),
    )
    return _warp(jnp.stack(matrices)[number], image, order, fill)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _warp(matrix: geometry.Matrix, image: Image, order: int, fill: float) -> Image:
    if image.shape[-1] > MAX_CHANNELS:
        return _warp_smoothly(matrix, image, order=order, fill=fill)
    # Pillow's interpolation cuts off.
    return quantise(warp_levels(image, matrix, order=order, cval=fill), "trunc_u8")


def _warp_smoothly(matrix: geometry.Matrix, image: Image, *, order: int, fill: float) -> Image:
    """The same, more slowly and with a gradient."""
    return quantise(geometry.warp(image, matrix, order=order, mode=geometry.OUTLINE, cval=fill), "trunc_u8")


def _warp_pullback(order: int, fill: float, saved: tuple[geometry.Matrix, Image], cotangent: Image):
    return jax.vjp(partial(_warp_smoothly, order=order, fill=fill), *saved)[1](cotangent)


_warp.defvjp(lambda matrix, image, order, fill: (_warp(matrix, image, order, fill), (matrix, image)), _warp_pullback)
