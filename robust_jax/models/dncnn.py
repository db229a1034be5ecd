"""DnCNN, a denoiser that predicts the noise (Zhang et al., arXiv 1608.03981)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from robust_jax.core.checks import check_choice
from robust_jax.models.convolution import convolve
from robust_jax.models.layers import DTYPES, Dtype, Norm, at_least_float32, conv, he_normal, norm, zeros
from robust_jax.types import Images, Output


class DnCNN(nn.Module):
    r"""A denoiser :math:`D(y) = y - R(y)`, whose 3×3 convolutions R predict the noise of a noisy image y.

    The first convolution has a bias and no norm, the last neither, and all others are normed; between them are ReLUs.
    ``Output.prediction`` is the denoised image ``[b, h, w, c]``, not clipped to [0, 1], which y may leave too; so a
    predictor of this model is a denoiser. ``Output.features`` is what the last convolution reads, averaged over the
    image. The number of channels is that of the images.

    The last convolution starts at zero, and so the network as the identity; the original draws orthogonal kernels.

    Raises:
        ValueError: on an unknown norm or type, a depth below 2 or a width that is not positive; when called, on images
            without four axes.

    References:
        Zhang, Zuo, Chen, Meng & Zhang, "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising"
        (arXiv 1608.03981), section 3.
    """

    depth: int = 17
    """Convolutions; 17 is the paper's for one level of noise, 20 for unknown levels."""
    width: int = 64
    """Channels between them."""
    norm: Norm = "batch"
    """Batch or group normalisation."""
    dtype: Dtype = "float32"
    """Type of the computation; parameters, statistics and the denoised image are float32."""

    def __post_init__(self):
        for name, least in (("depth", 2), ("width", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"Expected {name} >= {least}, got {name}={getattr(self, name)!r}.")
        check_choice("norm", self.norm, ("batch", "group"))
        check_choice("dtype", self.dtype, DTYPES)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        if images.ndim != 4:
            raise ValueError(f"Expected images of shape [b, h, w, c], got shape {images.shape}.")
        images = at_least_float32(images)
        first = nn.Conv(
            self.width,
            (3, 3),
            padding=((1, 1), (1, 1)),
            dtype=self.dtype,
            kernel_init=he_normal,
            conv_general_dilated=convolve,
            name="conv1",
        )
        x = nn.relu(first(images.astype(self.dtype)))
        for i in range(2, self.depth):
            x = conv(self.width, 3, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(norm(self.norm, train=train, dtype=self.dtype, name=f"norm{i}")(x))
        last = conv(images.shape[-1], 3, dtype=self.dtype, name=f"conv{self.depth}", kernel_init=zeros)
        noise = at_least_float32(last(x))
        return Output(images - noise, jnp.mean(at_least_float32(x), axis=(1, 2)))
