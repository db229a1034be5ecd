"""Discs and squares drawn on noise: segmentation without files."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8

from robust_jax.core.checks import check_positive
from robust_jax.data.source import Source, check_split, check_validation, hold_out

SEED = 20150518
CLASSES = ("background", "disc", "square")
MOST = 3
"""Most objects in an image."""
NOISE = 0.08
"""Standard deviation of the noise of every value."""


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Up to three discs and squares on a background of uneven light, with noise; later ones cover earlier ones.

    Objects are brighter than the background around them and of random colour, so that the colour of a pixel hints at
    an object and not at its kind. Every image is a function of its split and its number.
    """

    num_train: int = 256
    """Training images, those held out included."""
    num_test: int = 64
    """Test images."""
    image_size: int = 32
    """Side of the images in pixels."""
    validation: float = 0.0
    """Training images held out: a fraction, or a count."""

    def __post_init__(self):
        for name in ("num_train", "num_test", "image_size"):
            check_positive(name, getattr(self, name))
        check_validation(self.validation)

    @property
    def name(self) -> str:
        """Name of the data set in rows."""
        return "shapes"

    def load(self, split: str) -> Source:
        """Return one split: train, validation or test."""
        check_split(split)
        test = split == "test"
        source = Source(
            name=self.name,
            split=split,
            class_names=CLASSES,
            image_shape=(self.image_size, self.image_size, 3),
            read=_ShapesReader(self.image_size, test),
            ids=np.arange(self.num_test if test else self.num_train),
            threaded=False,
            pixelwise="classes",
        )
        return source if test else hold_out(source, split, self.validation)


@dataclasses.dataclass(frozen=True)
class _ShapesReader:
    size: int
    test: bool

    def __call__(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], Int[np.ndarray, "h w"]]:
        rng = np.random.Generator(np.random.PCG64([SEED, self.test, index]))
        y, x = (np.mgrid[: self.size, : self.size] + 0.5) / self.size
        slope = rng.uniform(-0.15, 0.15, 2)
        light = rng.uniform(0.3, 0.5) + slope[0] * (y - 0.5) + slope[1] * (x - 0.5)
        pixels = np.repeat(light[..., None], 3, axis=-1)
        label = np.zeros(light.shape, np.int32)
        for _ in range(rng.integers(1, MOST + 1)):
            kind, inside = _draw_object(rng, y, x)
            pixels[inside] = light[inside][:, None] + 0.2 + rng.uniform(-0.1, 0.1, 3)
            label[inside] = kind
        pixels += NOISE * rng.standard_normal(pixels.shape)
        return np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8), label


def _draw_object(
    rng: np.random.Generator, y: Float[np.ndarray, "h w"], x: Float[np.ndarray, "h w"]
) -> tuple[int, np.ndarray]:
    """Draw a class and the pixels it covers: a disc, or a square that may be turned."""
    kind = int(rng.integers(1, len(CLASSES)))
    radius = rng.uniform(0.12, 0.22)
    down, across = y - rng.uniform(0.2, 0.8), x - rng.uniform(0.2, 0.8)
    angle = rng.uniform(0, np.pi / 2)
    if kind == 1:
        return kind, down**2 + across**2 < radius**2
    along, beside = (
        np.cos(angle) * across + np.sin(angle) * down,
        np.cos(angle) * down - np.sin(angle) * across,
    )
    return kind, np.maximum(np.abs(along), np.abs(beside)) < radius
