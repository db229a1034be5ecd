"""Another data set at another size."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from robust_jax.core.checks import check_positive
from robust_jax.data.source import DataSet, Example, Read, Source, check_whole_labels


@dataclasses.dataclass(frozen=True)
class Resized:
    """The images of a data set resized to squares, bicubic, so that a model of that size can be tested on them.

    What is not square is squeezed. Twice, to fewer pixels and back, it is a data set of coarse pictures.
    """

    data: DataSet
    """The data set."""
    image_size: int = 32
    """Side of the images in pixels."""

    def __post_init__(self):
        check_positive("image_size", self.image_size)

    @property
    def name(self) -> str:
        return f"{self.data.name}_{self.image_size}px"

    def load(self, split: str) -> Source:
        """One split, as the data set has them."""
        source = self.data.load(split)
        check_whole_labels(source, "Resized")
        shape = (self.image_size, self.image_size, source.image_shape[-1])
        read = _ResizedReader(source.read, self.image_size)
        return dataclasses.replace(source, name=self.name, image_shape=shape, read=read, read_many=None)


@dataclasses.dataclass(frozen=True)
class _ResizedReader:
    read: Read
    size: int

    def __call__(self, index: int) -> Example:
        pixels, label = self.read(index)
        # Of Pillow's modes only those of one, three and four channels are images of bytes.
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(image).reshape(self.size, self.size, -1), label
