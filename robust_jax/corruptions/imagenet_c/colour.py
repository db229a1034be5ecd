"""Changes of light and of colour: brightness, contrast, saturation (arXiv 1903.12261, section 3 and appendix B)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.types import Image, PRNGKey

BRIGHTNESS = {
    "imagenet224": (0.1, 0.2, 0.3, 0.4, 0.5),
    "cifar32": (0.05, 0.1, 0.15, 0.2, 0.3),
    "tiny64": (0.1, 0.2, 0.3, 0.4, 0.5),
}
CONTRAST = {
    "imagenet224": (0.4, 0.3, 0.2, 0.1, 0.05),
    "cifar32": (0.75, 0.5, 0.4, 0.3, 0.15),
    "tiny64": (0.4, 0.3, 0.2, 0.1, 0.05),
}
# Factor and offset.
SATURATE = {
    "imagenet224": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    "cifar32": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    "tiny64": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
}
# Channels that differ by less have no hue.
_GREY = 1e-6


@dataclasses.dataclass(frozen=True)
class Brightness(BenchmarkCorruption):
    """The value of HSV raised by a constant and cut at 1; one channel is its own value.

    ``clean`` differs by the truncation to eight bits alone.
    """

    variable: ClassVar[str] = "illumination"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        del key
        return brighten(image, constants(self.table(BRIGHTNESS, image), severity))


@dataclasses.dataclass(frozen=True)
class Contrast(BenchmarkCorruption):
    """Differences from the mean of each channel shrunk by a factor: (x − mean) c + mean.

    ``clean`` differs by the truncation to eight bits alone.
    """

    variable: ClassVar[str] = "illumination"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        del key
        mean = jnp.mean(image, axis=(0, 1), keepdims=True)
        return (image - mean) * constants(self.table(CONTRAST, image), severity) + mean


@dataclasses.dataclass(frozen=True)
class Saturate(BenchmarkCorruption):
    """The saturation of HSV times a factor plus an offset, cut to [0, 1]; the identity on one channel.

    Greys have no hue, which the original stores as that of red: severities 4 and 5 tint them red (``clean``: they stay
    grey).
    """

    variable: ClassVar[str] = "processing"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        del key
        if image.shape[-1] == 1:
            return image
        factor, offset = constants(self.table(SATURATE, image), severity)
        return saturate(image, factor, offset, tint_greys=not self.clean)


def brighten(image: Image, amount: float | Float[Array, ""]) -> Image:
    """``amount`` added to the value of HSV, the result cut to [0, 1]; hue and saturation stay.

    At constant hue and saturation all channels are proportional to the value. Black becomes grey.
    """
    value = jnp.max(image, axis=-1, keepdims=True)
    new = jnp.clip(value + amount, 0, 1)
    black = value <= 0
    return jnp.where(black, new, image / jnp.where(black, 1, value) * new)


def saturate(
    image: Float[Array, "h w 3"],
    factor: float | Float[Array, ""],
    offset: float | Float[Array, ""],
    *,
    tint_greys: bool = False,
) -> Float[Array, "h w 3"]:
    """The saturation of HSV times ``factor`` plus ``offset``, cut to [0, 1]; hue and value stay.

    At constant hue and value all differences from the value are proportional to the saturation.

    Args:
        image: the image.
        factor: of the saturation.
        offset: of the saturation.
        tint_greys: treat greys as red of no saturation, so that an offset makes them reddish; else they stay grey.
    """
    value = jnp.max(image, axis=-1, keepdims=True)
    spread = value - jnp.min(image, axis=-1, keepdims=True)
    coloured = spread > _GREY
    saturation = jnp.where(coloured, spread / jnp.where(coloured, value, 1), 0)
    new = jnp.clip(saturation * factor + offset, 0, 1)
    # How far each channel lies below the value, in parts of the spread: for red, not at all and fully.
    lack = jnp.array([[[0.0, 1.0, 1.0]]]) if tint_greys else jnp.zeros((1, 1, 3))
    lack = jnp.where(coloured, (value - image) / jnp.where(coloured, spread, 1), lack)
    return value * (1 - new * lack)
