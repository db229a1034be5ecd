"""Decoding and fitting of photographs, on the host."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def fit_image(image: Image.Image, size: int | None) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels; with a size, the shorter side resized to it (bicubic) and the centre cut out, square."""
    image = image.convert("RGB")
    if size is not None:
        scale = size / min(image.size)
        image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
        left, top = ((side - size) // 2 for side in image.size)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)
