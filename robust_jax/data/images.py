"""Decoding and fitting of photographs, on the host."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def fit_image(image: Image.Image, size: int | None, mode: str = "RGB") -> UInt8[np.ndarray, "h w c"]:
    """Pixels in one of Pillow's modes; with a size, the shorter side resized to it and the centre cut out, square.

    Resizing is bicubic.
    """
    image = image.convert(mode)
    if size is not None:
        scale = size / min(image.size)
        image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
        left, top = ((side - size) // 2 for side in image.size)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(image.height, image.width, -1)
