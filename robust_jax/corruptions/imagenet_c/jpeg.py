"""JPEG compression (arXiv 1903.12261, section 3 and appendix B)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float

from robust_jax.corruptions.base import BenchmarkCorruption, constants
from robust_jax.images.jpeg import jpeg
from robust_jax.types import Image, PRNGKey

QUALITY = {
    "imagenet224": (25, 18, 15, 10, 7),
    "cifar32": (80, 65, 58, 50, 40),
    "tiny64": (65, 58, 50, 40, 25),
}


@dataclasses.dataclass(frozen=True)
class JpegCompression(BenchmarkCorruption):
    """Saved as a JPEG of low quality, colour at half the resolution, and loaded again.

    One channel is saved as a grey JPEG. The result has eight bits under ``clean`` too: that is what JPEG does.
    """

    variable: ClassVar[str] = "transmission"

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        del key
        return jpeg(image, constants(self.table(QUALITY, image), severity))
