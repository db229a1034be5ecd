"""Wide residual networks: Zagoruyko & Komodakis (2016), arXiv 1605.07146."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn

from robust_jax.core.checks import check_choice, check_fraction, check_positive
from robust_jax.models.layers import (
    NORMS,
    STEM_STRIDE,
    Dropout,
    Dtype,
    Maps,
    Norm,
    Padding,
    check_common,
    check_size,
    classify,
    conv,
    norm,
    norm_relu,
    normalise,
    stem_conv,
)
from robust_jax.models.smoothing import smooth
from robust_jax.types import Images, Output

STEM_WIDTH = 16
ACTIVATIONS = {"relu": nn.relu, "silu": nn.silu}


class WideResNet(nn.Module):
    """WRN-depth-width: three stages of pre-activated basic blocks of 16, 32 and 64 times ``width`` channels.

    Where the shape changes the shortcut is a 1×1 convolution of the pre-activated input. Table 1 of the paper;
    dropout as in its section 2.4.

    Raises:
        ValueError: if ``depth`` is not 6n + 4, on an unknown name or a value out of range; when called, on images
            without four axes or smaller than the total stride.
    """

    num_classes: int = 10
    """Number of classes."""
    depth: int = 28
    """Number of convolutions in sequence and the classifier: 6n + 4."""
    width: int = 10
    """Widening factor."""
    dropout: float = 0.0
    """Probability that an activation between the two convolutions of a block is dropped in training."""
    head_dropout: float = 0.0
    """Probability that a feature is dropped before the last layer in training."""
    smoothing: float | None = None
    """Bound of the feature maps where they are smoothed before each downsampling, see
    :func:`~robust_jax.models.smoothing.smooth`; None smooths nothing."""
    stem: Literal["cifar", "patch"] = "cifar"
    """First layer: 3×3, or disjoint 2×2 patches, several times faster."""
    norm: Norm = "batch"
    """Batch or group normalisation, or of the filter's response (frn), whose learned threshold is the ReLU after it."""
    activation: Literal["relu", "silu"] = "relu"
    """Non-linearity; Gowal et al. (2020), arXiv 2010.03593, train with the SiLU."""
    padding: Padding = "both"
    """Where convolutions of stride 2 are padded: on both sides, or at the end alone, as in the code of Gowal et al."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from images in [0, 1]: one number, or one per channel."""
    std: tuple[float, ...] = (0.25,)
    """Divides the images afterwards: one number, or one per channel."""
    dtype: Dtype = "float32"
    """Type of the computation; parameters, statistics and logits are float32."""

    def __post_init__(self):
        check_common(self.num_classes, self.mean, self.std, self.dtype)
        if self.depth < 10 or self.depth % 6 != 4:
            raise ValueError(f"Expected depth = 6n + 4 (10, 16, 22, 28, …), got depth={self.depth!r}.")
        check_positive("width", self.width)
        check_fraction("dropout", self.dropout)
        check_fraction("head_dropout", self.head_dropout)
        if self.smoothing is not None:
            check_positive("smoothing", self.smoothing)
        check_choice("stem", self.stem, ("cifar", "patch"))
        check_choice("norm", self.norm, NORMS)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("padding", self.padding, ("both", "end"))
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        check_size(images, STEM_STRIDE[self.stem] * 4)
        x = normalise(images, self.mean, self.std, self.dtype)
        x = stem_conv(STEM_WIDTH, self.stem, dtype=self.dtype, name="stem_conv")(x)
        for stage in range(3):
            for block in range((self.depth - 4) // 6):
                x = _WideBlock(
                    width=STEM_WIDTH * self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    dropout=self.dropout,
                    norm=self.norm,
                    activation=self.activation,
                    padding=self.padding,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train)
            if self.smoothing is not None and stage < 2:
                x = smooth(x, temperature=self.smoothing)
        x = _norm_active(self.norm, self.activation, train=train, dtype=self.dtype, name="last_norm")(x)
        features, logits = classify(x, self.num_classes, dropout=self.head_dropout, train=train)
        return Output(logits, features)


class _WideBlock(nn.Module):
    """norm, activation, conv, norm, activation, dropout, conv, beside the shortcut."""

    width: int
    stride: int
    dropout: float
    norm: Norm
    activation: str
    padding: Padding
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Maps, *, train: bool) -> Maps:
        norm_active = partial(_norm_active, self.norm, self.activation, train=train, dtype=self.dtype)
        active = norm_active(name="norm1")(x)
        branch = conv(self.width, 3, stride=self.stride, padding=self.padding, dtype=self.dtype, name="conv1")(active)
        branch = norm_active(name="norm2")(branch)
        branch = Dropout(self.dropout, name="dropout1")(branch, train=train)
        branch = conv(self.width, 3, dtype=self.dtype, name="conv2")(branch)
        if self.stride > 1 or x.shape[-1] != self.width:
            x = conv(self.width, 1, stride=self.stride, dtype=self.dtype, name="shortcut_conv")(active)
        return branch + x


def _norm_active(kind: Norm, activation: str, *, train: bool, dtype: Dtype, name: str) -> Callable[[Maps], Maps]:
    if activation == "relu":
        return norm_relu(kind, train=train, dtype=dtype, name=name)
    layer = norm(kind, train=train, dtype=dtype, name=name)
    return lambda x: ACTIVATIONS[activation](layer(x))
