"""Snow and fog (arXiv 1903.12261, section 3 and appendix B)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax.core.random_words import random_normal
from robust_jax.corruptions.base import BenchmarkCorruption, constants, counts
from robust_jax.corruptions.imagenet_c.blur import motion_blur, zoom_positions
from robust_jax.images.colour import grey
from robust_jax.images.noise_fields import plasma
from robust_jax.images.quantise import quantise
from robust_jax.images.resample import sample_grid
from robust_jax.images.size import image_size
from robust_jax.types import Image, PRNGKey

# Mean and standard deviation of the noise, zoom, threshold, radius and sigma of the motion blur, share of the image
# that is not whitened.
SNOW = {
    "imagenet224": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "cifar32": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "tiny64": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
}
ZOOM, RADIUS, SIGMA = 2, 4, 5
# Amount and decay of the plasma.
FOG = {
    "imagenet224": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "cifar32": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "tiny64": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
}


@dataclasses.dataclass(frozen=True)
class Snow(BenchmarkCorruption):
    """Flakes of thresholded, zoomed and motion-blurred noise, and their half turn, over a whitened image.

    The flakes fall at an angle from U(−135°, −45°). As in the original the layer passes through eight bits before and
    after the blur, and what is zoomed is a crop of whole pixels (``clean``: neither). Whitening takes the maximum of
    each channel and 1.5 grey + 0.5; an image of one channel is its own grey.
    """

    variable: ClassVar[str] = "weather"
    min_size: ClassVar[int] = 6

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        table = np.array(self.table(SNOW, image), np.float64)
        table[:, [ZOOM, RADIUS, SIGMA]] *= self.scale(image)
        table[:, ZOOM] = np.maximum(table[:, ZOOM], 1)
        noise_key, angle_key = jax.random.split(key)
        layer = self._flakes(noise_key, angle_key, image_size(image), table, severity)
        return whiten(image, constants(table, severity)[-1]) + layer + layer[::-1, ::-1]

    def _flakes(
        self, key: PRNGKey, angle_key: PRNGKey, shape: tuple[int, int], table: np.ndarray, severity: Array
    ) -> Float[Array, "h w 1"]:
        mean, deviation, _, threshold, _, sigma, _ = constants(table, severity)
        layer = mean + deviation * random_normal(key, (*shape, 1))
        rows, columns = (
            np.stack([zoom_positions(side, factor, exact=self.clean) for factor in table[:, ZOOM]]) for side in shape
        )
        layer = sample_grid(layer, constants(rows, severity), constants(columns, severity))
        layer = jnp.clip(jnp.where(layer < threshold, 0, layer), 0, 1)
        layer = layer if self.clean else quantise(layer, "trunc_u8")
        radii = np.ceil(table[:, RADIUS])
        angle = jax.random.uniform(angle_key, minval=-135.0, maxval=-45.0)
        taps = 2 * counts(radii, severity) + 1
        layer = motion_blur(layer, angle, sigma, taps, max_taps=int(2 * radii.max() + 1), centred=self.clean)
        return layer if self.clean else quantise(layer, "trunc_u8")


@dataclasses.dataclass(frozen=True)
class Fog(BenchmarkCorruption):
    """A plasma cloud added to the image, then all scaled so that the image's maximum keeps its place.

    The map's side is the power of two from the image's longer side on. As in the original the cloud's displacements
    fall with the square of the decay, and the cloud of one image is not weaker where the image is dark.
    """

    variable: ClassVar[str] = "weather"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        amount, decay = constants(self.table(FOG, image), severity)
        height, width, _ = image.shape
        cloud = plasma(key, 2 ** math.ceil(math.log2(max(height, width))), decay)
        brightest = jnp.max(image)
        fogged = image + amount * cloud[:height, :width, None]
        return fogged * brightest / (brightest + amount)


def whiten(image: Image, share: float | Float[Array, ""]) -> Image:
    """A ``share`` of the image, and the rest of what is the lighter, each channel or 1.5 grey + 0.5."""
    return share * image + (1 - share) * jnp.maximum(image, grey(image)[..., None] * 1.5 + 0.5)
