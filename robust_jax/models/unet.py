"""U-Net (Ronneberger, Fischer & Brox, arXiv 1505.04597), and logistic regression on windows to hold beside it."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from robust_jax.core.checks import check_choice, check_fraction, check_positive
from robust_jax.models.convolution import convolve
from robust_jax.models.layers import (
    NORMS,
    Dropout,
    Dtype,
    Maps,
    Norm,
    check_common,
    conv,
    norm_relu,
    normalise,
)
from robust_jax.types import Images, Output


class UNet(nn.Module):
    """An encoder and a decoder of feature maps, joined at every resolution; logits for every pixel.

    Each level has two 3×3 convolutions, each with a norm and a ReLU. Between levels of the encoder stands 2×2 max
    pooling; between levels of the decoder a 2×2 convolution upwards (transposed, stride 2), after which the encoder's
    maps of that resolution are appended. ``Output.prediction`` are logits [b, h, w, k]; ``Output.features`` the mean
    over the image of what the last layer reads. Images of any size that divides by the total stride will do.

    The original has no norm, convolutions without padding, so that it predicts the middle of a larger image, and
    dropout at the end of the encoder only; here convolutions are padded with zeros to the image's own size.

    Raises:
        ValueError: on an unknown name, a number out of range, or no width; when called, on images without four axes or
            with a side that does not divide by the total stride.

    References:
        Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (arXiv
        1505.04597), section 2.
    """

    num_classes: int = 2
    """Number of classes."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Channels of each level, from full resolution down; by default the paper's."""
    norm: Norm = "batch"
    """Batch or group normalisation, or of the filter's response, see :class:`ResNet`."""
    dropout: float = 0.0
    """Probability that an activation of the lowest level is dropped in training."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from images in [0, 1]: one number, or one per channel."""
    std: tuple[float, ...] = (0.25,)
    """Divides the images afterwards: one number, or one per channel."""
    dtype: Dtype = "float32"
    """Type of the computation; parameters, statistics and logits are float32."""

    def __post_init__(self):
        check_common(self.num_classes, self.mean, self.std, self.dtype)
        check_choice("norm", self.norm, NORMS)
        check_fraction("dropout", self.dropout)
        if not self.widths:
            raise ValueError("Expected widths of one or more levels, got widths=().")
        for width in self.widths:
            check_positive("widths", width)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        x = normalise(images, self.mean, self.std, self.dtype)
        stride = 2 ** (len(self.widths) - 1)
        if images.shape[1] % stride or images.shape[2] % stride:
            raise ValueError(f"Expected images with sides that divide by {stride}, got shape {images.shape}.")
        passed = []
        for level, width in enumerate(self.widths):
            if level > 0:
                passed.append(x)
                x = nn.max_pool(x, (2, 2), (2, 2))
            x = self._convolved(x, width, train, f"encoder{level}")
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        for level in reversed(range(len(passed))):
            width = self.widths[level]
            x = jnp.concatenate([passed[level], self._upwards(x, width, f"up{level}")], axis=-1)
            x = self._convolved(x, width, train, f"decoder{level}")
        return pixel_output(x, self.num_classes, kernel=1)

    def _convolved(self, x: Maps, width: int, train: bool, name: str) -> Maps:
        for i in range(2):
            x = conv(width, 3, dtype=self.dtype, name=f"{name}_conv{i}")(x)
            x = norm_relu(self.norm, train=train, dtype=self.dtype, name=f"{name}_norm{i}")(x)
        return x

    def _upwards(self, x: Maps, width: int, name: str) -> Maps:
        """Apply a transposed 2×2 convolution of stride 2, whose windows do not overlap: a 1×1 one to four pixels."""
        batch, height, wide, _ = x.shape
        x = conv(4 * width, 1, dtype=self.dtype, name=name)(x).reshape(batch, height, wide, 2, 2, width)
        return jnp.transpose(x, (0, 1, 3, 2, 4, 5)).reshape(batch, 2 * height, 2 * wide, width)


class PixelLogistic(nn.Module):
    """Logistic regression of every pixel's class on the window around it: one convolution, padded with zeros.

    A window of 1 sees the pixel's colour alone. ``Output.features`` is the mean colour of the normalised image.

    Raises:
        ValueError: on a number out of range or an even window; when called, on images without four axes.
    """

    num_classes: int = 2
    """Number of classes."""
    window: int = 1
    """Side of the window in pixels, odd."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from images in [0, 1]: one number, or one per channel."""
    std: tuple[float, ...] = (0.25,)
    """Divides the images afterwards: one number, or one per channel."""
    dtype: Dtype = "float32"
    """Type of the normalised images; parameters and logits are float32."""

    def __post_init__(self):
        check_common(self.num_classes, self.mean, self.std, self.dtype)
        if not (self.window > 0 and self.window % 2 == 1):
            raise ValueError(f"Expected an odd window > 0, got window={self.window!r}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        del train
        return pixel_output(normalise(images, self.mean, self.std, self.dtype), self.num_classes, kernel=self.window)


def pixel_output(x: Maps, num_classes: int, *, kernel: int) -> Output:
    """Return logits of every pixel by a convolution ``head`` with a bias, and the mean of what it reads, in float32."""
    x = x.astype(jnp.float32)
    pad = (kernel // 2, kernel // 2)
    head = nn.Conv(num_classes, (kernel, kernel), padding=(pad, pad), conv_general_dilated=convolve, name="head")
    return Output(head(x), jnp.mean(x, axis=(1, 2)))
