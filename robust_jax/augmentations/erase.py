"""Rectangles of an image covered up: Cutout and random erasing."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from robust_jax.augmentations.maps import Photometric
from robust_jax.augmentations.rectangles import check_share_and_ratio, random_rectangle, random_square, rectangle
from robust_jax.core.checks import check_choice, check_fraction, check_non_negative
from robust_jax.core.random_words import random_uniform
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class Cutout(Photometric):
    """A square about a random pixel becomes one colour; what would lie beyond the border is cut off.

    Raises:
        ValueError: if a number is out of range.

    References:
        DeVries & Taylor (arXiv 1708.04552): 16 pixels on CIFAR-10, 8 on CIFAR-100, 20 on SVHN. The paper's zero is that
        of normalised images, so the mean of the training set; here it is ``fill``.
    """

    size: int = 16
    """Pixels of a side."""
    fill: float = 0.5
    """What the square holds, in [0, 1]."""

    def __post_init__(self):
        check_non_negative("size", self.size)
        check_fraction("fill", self.fill)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        return jnp.where(random_square(key, image.shape, self.size), self.fill, image)


@dataclasses.dataclass(frozen=True)
class RandomErasing(Photometric):
    r"""A rectangle inside the image becomes noise or one colour.

    Its area is uniform, as a share of the image's, and its ratio of height to width uniform in the logarithm. Of ten
    drawn the first that fits is taken; if none does, the image stays.

    Raises:
        ValueError: if a number is out of range or the content unknown.

    References:
        Zhong, Zheng, Kang, Li & Yang (arXiv 1708.04896), algorithm 1; the ratio is drawn as by torchvision, since drawn
        evenly itself, as in the paper, upright rectangles are more frequent.
    """

    probability: float = 0.5
    """Of erasing at all."""
    area: tuple[float, float] = (0.02, 0.4)
    """Least and greatest share of the image."""
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    """Least and greatest height divided by width."""
    content: Literal["noise", "constant"] = "noise"
    """Each sub-pixel uniform in [0, 1], or all alike."""
    fill: float = 0.5
    """What a constant one holds."""

    def __post_init__(self):
        check_fraction("probability", self.probability)
        check_fraction("fill", self.fill)
        check_choice("content", self.content, ("noise", "constant"))
        check_share_and_ratio(area=self.area, ratio=self.ratio)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        place_key, chance_key, noise_key = jax.random.split(key, 3)
        top, left, height, width, fits = random_rectangle(place_key, image.shape, area=self.area, ratio=self.ratio)
        erased = fits & (jax.random.uniform(chance_key) < self.probability)
        content = random_uniform(noise_key, image.shape) if self.content == "noise" else self.fill
        return jnp.where(erased & rectangle(image.shape, top, left, height, width), content, image)
