"""Random crops enlarged to the size of the image."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Int

from robust_jax.augmentations.maps import Geometric
from robust_jax.augmentations.rectangles import check_share_and_ratio, random_rectangle
from robust_jax.images.resample import sample_grid
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """A random rectangle of the image, enlarged to the image's size; bilinear.

    Its area is uniform, as a share of the image's, and its ratio of width to height uniform in the logarithm. Of ten
    drawn the first that fits is taken; if none does, the greatest in the middle whose ratio is within the range.

    Raises:
        ValueError: if a range is not one.

    References:
        Szegedy et al. (arXiv 1409.4842), section 6; the draw is torchvision's.
    """

    area: tuple[float, float] = (0.08, 1.0)
    """Least and greatest share of the image."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and greatest width divided by height."""

    def __post_init__(self):
        check_share_and_ratio(area=self.area, ratio=self.ratio)

    def draw(self, key: PRNGKey, shape: tuple[int, ...]) -> tuple[Int[Array, ""], ...]:
        """Draw top, left, height and width of the rectangle."""
        high, wide, *_ = shape
        upright = (1 / self.ratio[1], 1 / self.ratio[0])
        *found, fits = random_rectangle(key, shape, area=self.area, ratio=upright)
        whole_height = min(high, round(wide * upright[1]))
        whole_width = min(wide, round(high / upright[0]))
        middle = (high - whole_height) // 2, (wide - whole_width) // 2, whole_height, whole_width
        return tuple(jnp.where(fits, a, b) for a, b in zip(found, middle, strict=True))

    def warp(self, drawn: tuple[Int[Array, ""], ...], image: Image, *, order: int = 1, beyond: float = 0.0) -> Image:
        """Enlarge the rectangle."""
        del beyond  # The rectangle lies within the image.
        high, wide, _ = image.shape
        top, left, height, width = drawn
        return sample_grid(image, _centres(top, height, high), _centres(left, width, wide), order=order)


def _centres(start, size, num: int):
    """Where the centres of ``num`` pixels lie on ``size`` pixels from ``start``, and not beyond their own centres."""
    return start + jnp.clip((jnp.arange(num) + 0.5) * size / num - 0.5, 0, size - 1)
