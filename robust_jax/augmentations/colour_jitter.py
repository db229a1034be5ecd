"""Random changes of brightness, contrast, saturation and hue."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.augmentations.maps import Photometric
from robust_jax.core.checks import check_non_negative
from robust_jax.core.loops import one_by_one
from robust_jax.images import enhance
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class ColourJitter(Photometric):
    """Brightness, contrast and saturation by random factors and hue by a random turn, in random order.

    Factors are uniform in [1 − s, 1 + s] and not below 0, turns in [−s, s]. Images are read as eight bits, and each
    change is that of Pillow, see :mod:`robust_jax.images.enhance`; what has strength 0 is left out.

    Raises:
        ValueError: if a strength is negative, or that of hue above 1/2.

    References:
        Krizhevsky, Sutskever & Hinton (2012) change colours at random; this form, and the order, are torchvision's.
    """

    brightness: float = 0.4
    """Strength s of each."""
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    """In turns, at most 1/2."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_non_negative(field.name, getattr(self, field.name))
        if self.hue > 0.5:
            raise ValueError(f"Expected hue <= 0.5, got hue={self.hue!r}.")

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        changes, lows, highs = [], [], []
        for name in ("brightness", "contrast", "saturation"):
            strength = getattr(self, name)
            if strength > 0:
                changes.append(getattr(enhance, name))
                lows.append(max(0.0, 1 - strength))
                highs.append(1 + strength)
        if self.hue > 0 and image.shape[-1] == 3:
            changes.append(enhance.hue)
            lows.append(-self.hue)
            highs.append(self.hue)
        if not changes:
            return image
        order_key, value_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(changes))
        values = jax.random.uniform(value_key, (len(changes),), minval=jnp.asarray(lows), maxval=jnp.asarray(highs))
        return one_by_one(partial(_in_order, tuple(changes)))(order, values, image)


def _in_order(changes: tuple, order: Array, values: Float[Array, "n"], image: Image) -> Image:
    branches = [lambda image, value, change=change: change(image, value) for change in changes]
    step = lambda image, number: (jax.lax.switch(number, branches, image, values[number]), None)  # noqa: E731
    return jax.lax.scan(step, image, order)[0]
