"""Decoding and fitting of photographs, on the host."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def fit_image(
    image: Image.Image,
    size: int | None,
    mode: str = "RGB",
    *,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> UInt8[np.ndarray, "h w c"]:
    """Return pixels in one of Pillow's modes; with a size, resize the shorter side to it and cut out the centre.

    Args:
        image: the image.
        size: side of the square that is cut out; None leaves the image at its size.
        mode: Pillow's mode.
        resample: Pillow's filter; the nearest pixel for label maps.
    """
    image = image.convert(mode)
    if size is not None:
        scale = size / min(image.size)
        image = image.resize([max(size, round(side * scale)) for side in image.size], resample)
        left, top = ((side - size) // 2 for side in image.size)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(image.height, image.width, -1)
