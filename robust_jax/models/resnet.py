"""Residual networks: He et al. (2016a), arXiv 1512.03385, and with pre-activation (2016b), arXiv 1603.05027."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from robust_jax.core.checks import check_choice, check_fraction, check_positive
from robust_jax.models.layers import (
    NORMS,
    STEM_STRIDE,
    Dropout,
    Dtype,
    Maps,
    Norm,
    Stem,
    check_common,
    check_size,
    classify,
    conv,
    he_normal,
    norm,
    norm_relu,
    normalise,
    ones,
    stem_conv,
    stem_pool,
    zeros,
)
from robust_jax.models.smoothing import smooth
from robust_jax.types import Images, Output

EXPANSION = {"basic": 1, "bottleneck": 4}


class ResNet(nn.Module):
    """A residual network; the first block of every stage but the first halves the resolution.

    Convolutions have no bias. Bottlenecks stride in their 3×3 convolution, as torchvision's do.

    Raises:
        ValueError: on an unknown name or a size that is not positive; when called, on images without four axes or
            smaller than the total stride.
    """

    num_classes: int = 10
    """Number of classes."""
    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks in each stage."""
    width: int = 64
    """Channels of the first stage (of the 3×3 convolutions, in bottlenecks); every stage doubles them."""
    block: Literal["basic", "bottleneck"] = "basic"
    """Two 3×3 convolutions; or 1×1, 3×3 and 1×1 with four times the channels."""
    stem: Stem = "cifar"
    """First layer: 3×3; 7×7 at stride 2 and max pooling (imagenet); or disjoint 2×2 patches, several times faster."""
    variant: Literal["v1", "preact"] = "v1"
    """Normalise after convolutions (He et al., 2016a), or before them (2016b)."""
    shortcut: Literal["projection", "pad"] = "projection"
    """Where the shape changes: a 1×1 convolution (option B), or subsample and pad channels with zeros (option A)."""
    norm: Norm = "batch"
    """Batch or group normalisation, or of the filter's response (frn), whose learned threshold is the ReLU after it."""
    zero_init_residual: bool = False
    """Start every residual branch at zero, by its last norm's scale (v1) or its last kernel (preact)."""
    dropout: float = 0.0
    """Probability that an activation before the last convolution of a block is dropped in training, as in
    :class:`WideResNet`."""
    head_dropout: float = 0.0
    """Probability that a feature is dropped before the last layer in training."""
    smoothing: float | None = None
    """Bound of the feature maps where they are smoothed after each stage, see
    :func:`~robust_jax.models.smoothing.smooth`; with pre-activation not after the last. None smooths nothing."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from images in [0, 1]: one number, or one per channel."""
    std: tuple[float, ...] = (0.25,)
    """Divides the images afterwards: one number, or one per channel."""
    dtype: Dtype = "float32"
    """Type of the computation; parameters, statistics and logits are float32."""

    def __post_init__(self):
        check_common(self.num_classes, self.mean, self.std, self.dtype)
        check_choice("block", self.block, EXPANSION)
        check_choice("stem", self.stem, STEM_STRIDE)
        check_choice("variant", self.variant, ("v1", "preact"))
        check_choice("shortcut", self.shortcut, ("projection", "pad"))
        check_choice("norm", self.norm, NORMS)
        check_fraction("dropout", self.dropout)
        check_fraction("head_dropout", self.head_dropout)
        if self.smoothing is not None:
            check_positive("smoothing", self.smoothing)
        check_positive("width", self.width)
        for size in (len(self.stage_sizes), *self.stage_sizes):
            if size < 1:
                raise ValueError(f"Expected stage_sizes of one or more blocks, got stage_sizes={self.stage_sizes!r}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        check_size(images, STEM_STRIDE[self.stem] * 2 ** (len(self.stage_sizes) - 1))
        x = normalise(images, self.mean, self.std, self.dtype)
        x = stem_conv(self.width, self.stem, dtype=self.dtype, name="stem_conv")(x)
        if self.variant == "v1":
            x = norm_relu(self.norm, train=train, dtype=self.dtype, name="stem_norm")(x)
        x = stem_pool(x, self.stem)
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                x = _Block(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    block=self.block,
                    variant=self.variant,
                    shortcut=self.shortcut,
                    norm=self.norm,
                    zero_init=self.zero_init_residual,
                    dropout=self.dropout,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train)
            # The pooling after the last stage makes maps smaller as well, but pre-activated ones have a norm before it.
            if self.smoothing is not None and (self.variant == "v1" or stage < len(self.stage_sizes) - 1):
                x = smooth(x, temperature=self.smoothing)
        if self.variant == "preact":
            x = norm_relu(self.norm, train=train, dtype=self.dtype, name="last_norm")(x)
        features, logits = classify(x, self.num_classes, dropout=self.head_dropout, train=train)
        return Output(logits, features)


def resnet18(**fields: Any) -> ResNet:
    """ResNet-18; ``fields`` are those of :class:`ResNet`, and ``stem="imagenet"`` is for large images."""
    return ResNet(**{"stage_sizes": (2, 2, 2, 2), **fields})


def resnet34(**fields: Any) -> ResNet:
    """ResNet-34; ``fields`` are those of :class:`ResNet`, and ``stem="imagenet"`` is for large images."""
    return ResNet(**{"stage_sizes": (3, 4, 6, 3), **fields})


def resnet50(**fields: Any) -> ResNet:
    """ResNet-50; ``fields`` are those of :class:`ResNet`, and ``stem="imagenet"`` is for large images."""
    return ResNet(**{"stage_sizes": (3, 4, 6, 3), "block": "bottleneck", **fields})


def cifar_resnet(depth: int = 20, **fields: Any) -> ResNet:
    """The narrow CIFAR-10 networks of He et al. (2016a), section 4.2: depth 6n + 2, 16 channels, option A shortcuts.

    Raises:
        ValueError: if ``depth`` is not 6n + 2 for a positive n.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"Expected depth = 6n + 2 (8, 14, 20, …), got depth={depth!r}.")
    return ResNet(**{"stage_sizes": (depth // 6,) * 3, "width": 16, "shortcut": "pad", **fields})


class _Block(nn.Module):
    """A residual branch and its shortcut."""

    width: int
    stride: int
    block: str
    variant: str
    shortcut: str
    norm: Norm
    zero_init: bool
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Maps, *, train: bool) -> Maps:
        kernels = (3, 3) if self.block == "basic" else (1, 3, 1)
        strides = (self.stride, 1) if self.block == "basic" else (1, self.stride, 1)
        widths = (*(self.width for _ in kernels[1:]), self.width * EXPANSION[self.block])
        layers = list(zip(kernels, strides, widths, strict=True))
        if self.variant == "v1":
            return nn.relu(self._v1_branch(x, layers, train) + self._shortcut(x, train))
        active = self._norm_relu(train, "norm1")(x)
        # A projection reads the activated input, an identity or padded one the input itself (2016b, appendix).
        projects = self.shortcut == "projection" and self._changes_shape(x)
        return self._preact_branch(active, layers, train) + self._shortcut(active if projects else x, train)

    def _v1_branch(self, x: Maps, layers: Sequence[tuple[int, int, int]], train: bool) -> Maps:
        for i, (kernel, stride, width) in enumerate(layers, 1):
            last = i == len(layers)
            x = self._dropped(x, train) if last else x
            x = conv(width, kernel, stride=stride, dtype=self.dtype, name=f"conv{i}")(x)
            if last:
                x = self._norm(train, f"norm{i}", scale_init=zeros if self.zero_init else ones)(x)
            else:
                x = self._norm_relu(train, f"norm{i}")(x)
        return x

    def _preact_branch(self, x: Maps, layers: Sequence[tuple[int, int, int]], train: bool) -> Maps:
        for i, (kernel, stride, width) in enumerate(layers, 1):
            kernel_init = zeros if self.zero_init and i == len(layers) else he_normal
            if i > 1:
                x = self._norm_relu(train, f"norm{i}")(x)
            x = self._dropped(x, train) if i == len(layers) else x
            x = conv(width, kernel, stride=stride, dtype=self.dtype, name=f"conv{i}", kernel_init=kernel_init)(x)
        return x

    def _dropped(self, x: Maps, train: bool) -> Maps:
        return Dropout(self.dropout, name="dropout1")(x, train=train)

    def _shortcut(self, x: Maps, train: bool) -> Maps:
        if not self._changes_shape(x):
            return x
        width = self.width * EXPANSION[self.block]
        if self.shortcut == "pad":
            before = (width - x.shape[-1]) // 2
            after = width - x.shape[-1] - before
            return jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (before, after)))
        x = conv(width, 1, stride=self.stride, dtype=self.dtype, name="shortcut_conv")(x)
        return self._norm(train, "shortcut_norm")(x) if self.variant == "v1" else x

    def _changes_shape(self, x: Maps) -> bool:
        return self.stride > 1 or x.shape[-1] != self.width * EXPANSION[self.block]

    def _norm(self, train: bool, name: str, scale_init: Callable[..., Array] = ones) -> Callable[[Maps], Maps]:
        return norm(self.norm, train=train, dtype=self.dtype, name=name, scale_init=scale_init)

    def _norm_relu(self, train: bool, name: str) -> Callable[[Maps], Maps]:
        return norm_relu(self.norm, train=train, dtype=self.dtype, name=name)
