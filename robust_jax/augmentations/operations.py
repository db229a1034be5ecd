"""The operations that augmentation policies choose from, by number and with a value that may be traced.

Which one is applied differs between images, so :func:`operate` takes a number, and the operations have few forms. Under
``jax.vmap`` on an accelerator every form is computed and one is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from robust_jax.core.checks import check_choice
from robust_jax.core.loops import one_by_one
from robust_jax.images import geometry, tone
from robust_jax.images.enhance import on_levels
from robust_jax.images.quantise import quantise
from robust_jax.types import Image

GEOMETRIC = ("shear_x", "translate_x", "shear_y", "translate_y", "rotate")
"""What a value means: the slope of a shear, a share of the side, degrees against the clock as it is seen. Positive
shears and translations move the picture to the left, or up."""
FACTORS = {
    "brightness": tone.brightness,
    "saturation": tone.saturation,
    "contrast": tone.contrast,
    "sharpness": tone.sharpness,
}
"""A value is how much of the image to keep, see :mod:`robust_jax.images.tone`."""
TONAL = {**FACTORS, "posterise": tone.posterise, "solarise": tone.solarise}
"""With bits that stay, and a threshold in [0, 1]."""
WITHOUT_VALUE = {
    "auto_contrast": tone.auto_contrast,
    "equalise": tone.equalise,
    "invert": tone.invert,
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
    order = INTERPOLATIONS.index(interpolation)
    others = [
        lambda number, value, image, branch=branch: on_levels(partial(branch, number, value), image)
        for branch in _others()
    ]
    branches = [*(_then(_cut_off, branch) for branch in _geometric(order, fill)), *others]
    apply = partial(_switch, branches)
    return one_by_one(apply)(jnp.asarray(number), jnp.asarray(value, image.dtype), image)


def operate_levels(
    number: Int[Array, ""],
    value: Float[Array, ""],
    levels: UInt8[Array, "h w c"],
    *,
    interpolation: str = "nearest",
    fill: float = 0.0,
) -> UInt8[Array, "h w c"]:
    """As :func:`operate`, from eight bits to eight bits: a quarter of the memory, and no derivative."""
    order = INTERPOLATIONS.index(interpolation)
    if order == 0:
        geometric = _geometric(order, to_levels(jnp.float32(fill)))
    else:
        geometric = [_then(to_levels, _then(_cut_off, _from_levels(branch))) for branch in _geometric(order, fill)]
    return _switch([*geometric, *_others()], number, value, levels)


def move_only(
    number: Int[Array, ""], value: Float[Array, ""], image: Image, *, order: int = 1, fill: float = 0.0
) -> Image:
    """Apply one of the operations if it is geometric, without rounding to levels; others leave the image alone.

    Args:
        number: which, in :data:`OPERATIONS`.
        value: its strength.
        image: an image or a label map, of any range.
        order: 0, the nearest pixel; 1, bilinear.
        fill: value beyond the border.
    """
    branches = [*_geometric(order, fill), lambda number, value, image: image]
    branch = jnp.clip(number - 1, 0, len(branches) - 1)
    return jax.lax.switch(branch, branches, number, value, image)


def to_levels(image: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """Eight bits, from an image in [0, 1]."""
    return (255 * jnp.clip(image, 0, 1) + 0.5).astype(jnp.uint8)


def from_levels(levels: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """The image of eight bits, in [0, 1]."""
    return levels.astype(jnp.float32) * jnp.float32(1 / 255)


Branch = Callable[[Int[Array, ""], Float[Array, ""], Array], Array]
"""Of an operation's number, its value, and an image."""


def _switch(branches: Sequence[Branch], number: Int[Array, ""], value: Float[Array, ""], image: Array) -> Array:
    # The first two are a pair.
    return jax.lax.switch(jnp.maximum(number - 1, 0), branches, number, value, image)


def _then(last: Callable[[Array], Array], branch: Branch) -> Branch:
    return lambda number, value, image: last(branch(number, value, image))


def _from_levels(branch: Branch) -> Branch:
    return lambda number, value, levels: branch(number, value, from_levels(levels))


def _geometric(order: int, fill: float | Array) -> list[Branch]:
    """The shear and the translation along x, those along y, and the rotation; also of eight bits, if of order 0."""
    return [partial(branch, order=order, fill=fill) for branch in (_along_x, _shear_y, _translate_y, _rotate)]


def _others() -> list[Branch]:
    """The others in their order, of grey levels."""
    with_value = [lambda _, value, levels, f=f: f(levels, value) for f in TONAL.values()]
    return with_value + [lambda _, value, levels, f=f: f(levels) for f in WITHOUT_VALUE.values()]


def _along_x(
    number: Int[Array, ""], value: Float[Array, ""], image: Array, *, order: int, fill: float | Array
) -> Array:
    height, width, _ = image.shape
    shifts = value * jnp.where(number == operation_number("shear_x"), jnp.arange(height) + 0.5, width)
    return geometry.slide(image, shifts, axis=1, order=order, cval=fill)


def _shear_y(
    number: Int[Array, ""], value: Float[Array, ""], image: Array, *, order: int, fill: float | Array
) -> Array:
    del number
    return geometry.slide(image, value * (jnp.arange(image.shape[1]) + 0.5), axis=0, order=order, cval=fill)


def _translate_y(
    number: Int[Array, ""], value: Float[Array, ""], image: Array, *, order: int, fill: float | Array
) -> Array:
    del number
    return geometry.move_rows(image, value * image.shape[0], order=order, cval=fill)


def _rotate(number: Int[Array, ""], value: Float[Array, ""], image: Array, *, order: int, fill: float | Array) -> Array:
    del number
    matrix = geometry.rotation(-value, centre=geometry.image_centre(image.shape))
    return geometry.warp(image, matrix, order=order, mode=geometry.OUTLINE, cval=fill)


def _cut_off(image: Image) -> Image:
    """To whole levels, as Pillow's interpolation does."""
    return quantise(image, "trunc_u8")
