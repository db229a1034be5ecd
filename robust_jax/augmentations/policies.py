"""Policies of random operations with tabulated magnitudes: RandAugment, TrivialAugment and AutoAugment."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.augmentations.auto_augment_tables import POLICIES
from robust_jax.augmentations.maps import Geometric
from robust_jax.augmentations.operations import (
    FACTORS,
    INTERPOLATIONS,
    OPERATIONS,
    from_levels,
    move_only,
    operate,
    operate_levels,
    operation_number,
    to_levels,
)
from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.loops import one_by_one
from robust_jax.images.quantise import quantise
from robust_jax.types import Image, PRNGKey

BINS = 31
"""Magnitudes of RandAugment and TrivialAugment are 0 to 30."""
AUTO_AUGMENT_BINS = 10
"""Those of AutoAugment are 0 to 9."""
SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", *FACTORS)
"""Whose change goes either way, at random."""
RAND_AUGMENT = (*SIGNED, "posterise", "solarise", "auto_contrast", "equalise", "identity")
"""What RandAugment and TrivialAugment choose from."""


class Greatest(NamedTuple):
    """The values of operations at the greatest magnitude."""

    shear: float
    translate: float | int
    """A share of the side; of type int, pixels."""
    rotate: float
    factor: float
    """How far from 1 a factor goes."""
    bits: int


USUAL = Greatest(shear=0.3, translate=150 / 331, rotate=30.0, factor=0.9, bits=4)
"""Of RandAugment and AutoAugment."""
WIDE = Greatest(shear=0.99, translate=32, rotate=135.0, factor=0.99, bits=2)
"""Of TrivialAugment."""


def value_table(greatest: Greatest, bins: int, shape: tuple[int, ...]) -> Float[np.ndarray, "operations bins"]:
    """Values of :data:`OPERATIONS` at every magnitude, without a sign, as torchvision has them.

    Of the factors it is the difference to 1.
    """
    height, width, _ = shape
    magnitude = np.arange(bins) / (bins - 1)
    shift = lambda side: greatest.translate / side if isinstance(greatest.translate, int) else greatest.translate  # noqa: E731
    table = dict.fromkeys(OPERATIONS, 0 * magnitude) | dict.fromkeys(FACTORS, greatest.factor * magnitude)
    table |= {
        "shear_x": greatest.shear * magnitude,
        "shear_y": greatest.shear * magnitude,
        # To whole pixels, towards none.
        "translate_x": np.trunc(shift(width) * width * magnitude) / width,
        "translate_y": np.trunc(shift(height) * height * magnitude) / height,
        "rotate": greatest.rotate * magnitude,
        "posterise": 8 - np.round((8 - greatest.bits) * magnitude),
        "solarise": 1 - magnitude,
    }
    return np.stack([table[name] for name in OPERATIONS]).astype(np.float32)


def _value(
    sign_key: PRNGKey,
    number: Int[Array, ""],
    magnitude: Int[Array, ""],
    shape: tuple[int, ...],
    *,
    greatest: Greatest,
    bins: int,
) -> Float[Array, ""]:
    """The value of an operation at a magnitude, with a random sign where it has one."""
    value = jnp.asarray(value_table(greatest, bins, shape))[number, magnitude]
    signed, factor = (jnp.asarray([name in names for name in OPERATIONS])[number] for names in (SIGNED, FACTORS))
    return jnp.where(signed, jax.random.rademacher(sign_key, (), jnp.float32), 1.0) * value + factor


def _apply(
    policy: _Policy,
    numbers: Int[Array, "n"],
    values: Float[Array, "n"],
    image: Image,
) -> Image:
    """Operations, one after the other, on eight bits."""
    settings = {"interpolation": policy.interpolation, "fill": policy.fill}

    def apply(numbers: Int[Array, "n"], values: Float[Array, "n"], image: Image) -> Image:
        step = lambda image, operation: (operate(operation[0], operation[1], image, **settings), None)  # noqa: E731
        return jax.lax.scan(step, quantise(image), (numbers, values))[0]

    def apply_to_levels(numbers: Int[Array, "n"], values: Float[Array, "n"], image: Image) -> Image:
        step = lambda levels, drawn: (operate_levels(drawn[0], drawn[1], levels, **settings), None)  # noqa: E731
        return from_levels(jax.lax.scan(step, to_levels(image), (numbers, values))[0])

    return one_by_one(apply_to_levels, smooth=apply)(numbers, values, image)


Operations = tuple[Int[Array, "n"], Float[Array, "n"]]
"""Numbers and values of operations, first to last."""


class _Policy(Geometric):
    """Operations on an image of eight bits; a label map is moved by the geometric ones, at the nearest pixel."""

    interpolation: Literal["nearest", "bilinear"]
    fill: float

    def apply(self, drawn: Operations, image: Image) -> Image:
        """Apply all operations to an image."""
        return _apply(self, *drawn, image)

    def warp(self, drawn: Operations, image: Image, *, order: int = 1, beyond: float = 0.0) -> Image:
        """Apply the geometric operations alone."""

        def move(numbers: Int[Array, "n"], values: Float[Array, "n"], image: Image) -> Image:
            step = lambda image, one: (move_only(one[0], one[1], image, order=order, fill=beyond), None)  # noqa: E731
            return jax.lax.scan(step, image, (numbers, values))[0]

        return one_by_one(move)(*drawn, image)


@dataclasses.dataclass(frozen=True)
class RandAugment(_Policy):
    """A number of operations drawn alike from 14, all at one magnitude.

    Values are torchvision's; the paper's list is the same, and leaves them to AutoAugment.

    Raises:
        ValueError: if a number is out of range or the interpolation unknown.

    References:
        Cubuk, Zoph, Shlens & Le (arXiv 1909.13719).
    """

    num_operations: int = 2
    """How many, one after the other."""
    magnitude: int = 9
    """From 0 to 30."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """Of the geometric operations."""
    fill: float = 0.0
    """What moves in from beyond the image."""

    def __post_init__(self):
        check_positive("num_operations", self.num_operations)
        if self.magnitude not in range(BINS):
            raise ValueError(f"Expected magnitude from 0 to {BINS - 1}, got magnitude={self.magnitude!r}.")
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> Operations:
        """Draw operations and their values."""
        choices = jnp.asarray([operation_number(name) for name in RAND_AUGMENT])

        def draw_one(key: PRNGKey) -> tuple[Int[Array, ""], Float[Array, ""]]:
            choice_key, sign_key = jax.random.split(key)
            number = jax.random.choice(choice_key, choices)
            magnitude = jnp.int32(self.magnitude)
            return number, _value(sign_key, number, magnitude, shape, greatest=USUAL, bins=BINS)

        return jax.vmap(draw_one)(jax.random.split(key, self.num_operations))


@dataclasses.dataclass(frozen=True)
class TrivialAugment(_Policy):
    """One operation drawn alike from 14, at a magnitude drawn alike from 31 (wide, with torchvision's values).

    Raises:
        ValueError: if the interpolation is unknown.

    References:
        Müller & Hutter (arXiv 2103.10158).
    """

    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """Of the geometric operations."""
    fill: float = 0.0
    """What moves in from beyond the image."""

    def __post_init__(self):
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> Operations:
        """Draw operations and their values."""
        choice_key, magnitude_key, sign_key = jax.random.split(key, 3)
        number = jax.random.choice(choice_key, jnp.asarray([operation_number(name) for name in RAND_AUGMENT]))
        magnitude = jax.random.randint(magnitude_key, (), 0, BINS)
        value = _value(sign_key, number, magnitude, shape, greatest=WIDE, bins=BINS)
        return number[None], value[None]


@dataclasses.dataclass(frozen=True)
class AutoAugment(_Policy):
    """One of 25 pairs of operations, each applied with a chance and a magnitude that were searched for.

    Values are torchvision's.

    Raises:
        ValueError: if the policy or the interpolation is unknown; the nearest is named.

    References:
        Cubuk, Zoph, Mané, Vasudevan & Le (arXiv 1805.09501), tables 7 (CIFAR-10), 8 (SVHN) and 9 (ImageNet).
    """

    policy: Literal["cifar10", "svhn", "imagenet"] = "cifar10"
    """What it was searched for on."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """Of the geometric operations."""
    fill: float = 0.0
    """What moves in from beyond the image."""

    def __post_init__(self):
        check_choice("policy", self.policy, POLICIES)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> Operations:
        """Draw operations and their values."""
        pair_key, key = jax.random.split(key)
        pairs = POLICIES[self.policy]
        # [pairs, 2] each.
        numbers = jnp.asarray([[operation_number(name) for name, _, _ in pair] for pair in pairs])
        chances = jnp.asarray([[chance for _, chance, _ in pair] for pair in pairs], jnp.float32)
        magnitudes = jnp.asarray([[magnitude for _, _, magnitude in pair] for pair in pairs])
        row = jax.random.randint(pair_key, (), 0, len(pairs))

        def draw_one(
            key: PRNGKey, number: Int[Array, ""], chance: Float[Array, ""], magnitude: Int[Array, ""]
        ) -> tuple[Int[Array, ""], Float[Array, ""]]:
            chance_key, sign_key = jax.random.split(key)
            number = jnp.where(jax.random.bernoulli(chance_key, chance), number, operation_number("identity"))
            return number, _value(sign_key, number, magnitude, shape, greatest=USUAL, bins=AUTO_AUGMENT_BINS)

        return jax.vmap(draw_one)(jax.random.split(key, 2), numbers[row], chances[row], magnitudes[row])
