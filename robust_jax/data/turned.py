"""Another data set with its images turned, as a matter of chance or of class."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from PIL import Image

from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.data.source import DataSet, Example, Read, Source, check_whole_labels

SEED = 20220204


@dataclasses.dataclass(frozen=True)
class Turned:
    """Images turned about their middle by a random angle, bilinear; the corners are black.

    The angle is one of several directions, a full circle apart in equal steps, give or take some degrees; always the
    same for an example. With ``label="direction"`` the direction is what is to be told.

    Raises:
        ValueError: if a number is out of range or the label unknown.
    """

    data: DataSet
    """The data set."""
    degrees: float = 0.0
    """How far an angle may be from its direction, either way."""
    directions: int = 1
    """How many; the first is upright."""
    label: Literal["class", "direction"] = "class"
    """What the labels are."""

    def __post_init__(self):
        check_non_negative("degrees", self.degrees)
        check_positive("directions", self.directions)
        check_choice("label", self.label, ("class", "direction"))

    @property
    def name(self) -> str:
        return f"{self.data.name}_turned{self.directions}x{self.degrees:g}_{self.label}"

    def load(self, split: str) -> Source:
        """One split."""
        source = self.data.load(split)
        check_whole_labels(source, "Turned")
        names = source.class_names
        if self.label == "direction":
            names = tuple(f"{360 * i / self.directions:g}°" for i in range(self.directions))
        read = _TurningReader(source.read, self, split)
        return dataclasses.replace(source, name=self.name, class_names=names, read=read, read_many=None)


@dataclasses.dataclass(frozen=True)
class _TurningReader:
    read: Read
    turned: Turned
    split: str

    def __call__(self, index: int) -> Example:
        pixels, label = self.read(index)
        rng = np.random.Generator(np.random.PCG64([SEED, len(self.split), index]))
        direction = int(rng.integers(self.turned.directions))
        angle = 360 * direction / self.turned.directions + rng.uniform(-1, 1) * self.turned.degrees
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        image = image.rotate(angle, resample=Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(pixels.shape), direction if self.turned.label == "direction" else label
