"""What the networks share: normalised input, convolutions padded as in torchvision, norms, stems, the classifier.

``conv`` and ``norm`` return a layer to be applied inside a ``@nn.compact`` method. ``dtype`` is the type of the
computation: float32, bfloat16, or float64 where JAX_ENABLE_X64 is set. Parameters are initialised in float32, and
statistics, features and logits are float32 where the computation is in bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice, check_fraction, check_positive
from robust_jax.models.convolution import convolve
from robust_jax.types import Images

Dtype = Literal["float32", "bfloat16", "float64"]
Norm = Literal["batch", "group", "frn"]
Stem = Literal["cifar", "imagenet", "patch"]
Padding = Literal["both", "end"]
Maps = Float[Array, "b h w c"]
"""Feature maps, in the type of the computation."""

DTYPES = ("float32", "bfloat16", "float64")
NORMS = ("batch", "group", "frn")
STEM_STRIDE = {"cifar": 1, "imagenet": 4, "patch": 2}
BATCH_NORM_MOMENTUM = 0.9
NORM_EPSILON = 1e-5
FRN_EPSILON = 1e-6
MAX_GROUPS = 32

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. (2015), section 2.2, backward case; as torchvision and Zagoruyko & Komodakis initialise convolutions."""
zeros = nn.initializers.zeros_init()
ones = nn.initializers.ones_init()


def check_common(num_classes: int, mean: tuple[float, ...], std: tuple[float, ...], dtype: str) -> None:
    """Raises ``ValueError`` unless the fields that every network has are in range."""
    check_positive("num_classes", num_classes)
    check_choice("dtype", dtype, DTYPES)
    if len(mean) != len(std):
        raise ValueError(f"Expected as many entries in mean as in std, got mean={mean!r} and std={std!r}.")
    for value in std:
        check_positive("std", value)


def at_least_float32(x: Array) -> Array:
    """Cast bfloat16 to float32, for statistics and results that need its digits; float64 stays."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def check_size(images: Images, min_size: int) -> None:
    """Raises ``ValueError`` unless both sides of ``images`` have at least ``min_size`` pixels."""
    if images.ndim == 4 and min(images.shape[1:3]) < min_size:
        raise ValueError(
            f"Expected images of at least {min_size}×{min_size} pixels for this network, got shape {images.shape}."
        )


def normalise(images: Images, mean: tuple[float, ...], std: tuple[float, ...], dtype: Dtype) -> Maps:
    r""":math:`(x - \mu) / \sigma`, per channel, in the type of the computation.

    Raises:
        ValueError: if ``images`` has not four axes, if ``mean`` and ``std`` have neither one entry nor one per
            channel, or if ``dtype`` is float64 and JAX's 64-bit types are off.
    """
    if images.ndim != 4:
        raise ValueError(f"Expected images of shape [b, h, w, c], got shape {images.shape}.")
    check_choice("dtype", dtype, DTYPES)
    for name, value in (("mean", mean), ("std", std)):
        if len(value) not in (1, images.shape[-1]):
            raise ValueError(
                f"Expected {name} to have 1 entry or one per channel, got {name}={value!r} for images of shape "
                f"{images.shape}."
            )
    shape = (1, 1, 1, -1)
    if dtype == "float64" and not jax.enable_x64.value:
        raise ValueError("Expected JAX_ENABLE_X64=1 for dtype='float64'; JAX computes in float32 without it.")
    wide = jnp.promote_types(dtype, jnp.float32)
    centred = images.astype(wide) - jnp.asarray(mean, wide).reshape(shape)
    return (centred / jnp.asarray(std, wide).reshape(shape)).astype(dtype)


def conv(
    features: int,
    kernel: int,
    *,
    stride: int = 1,
    dtype: Dtype,
    name: str,
    padding: Padding = "both",
    kernel_init: Callable[..., Array] = he_normal,
) -> nn.Conv:
    """A convolution without bias, padded by ``(kernel - 1) // 2`` on every side.

    That is torch's padding. TensorFlow's ``"SAME"`` pads even sizes at stride 2 at the end only, as ``padding="end"``
    does here; published weights expect one or the other.
    """
    side = (kernel - 1) // 2
    pad = (0, kernel - stride) if padding == "end" and stride > 1 else (side, side)
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=(pad, pad),
        use_bias=False,
        dtype=dtype,
        kernel_init=kernel_init,
        conv_general_dilated=convolve,
        name=name,
    )


class FilterResponseNorm(nn.Module):
    r"""Filter response normalisation (Singh & Krishnan, arXiv 1911.09737): of one image and channel alone.

    .. math:: y = \gamma\, x / \sqrt{\nu^2 + \epsilon} + \beta

    with ν² the mean of x² over positions and ε = 1e-6; then, where there is a ``threshold``, max(y, τ) with τ learned,
    which starts as the ReLU that it stands for. Statistics are float32.
    """

    threshold: bool
    """Whether τ follows."""
    dtype: Dtype
    """Of what it returns."""
    scale_init: Callable[..., Array] = ones
    """Of γ."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        channels = x.shape[-1:]

        def parameter(name: str, init: Callable[..., Array]) -> Float[Array, "1 1 1 c"]:
            return self.param(name, init, channels, jnp.float32)[None, None, None]

        x = at_least_float32(x)
        x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=(1, 2), keepdims=True) + FRN_EPSILON)
        x = parameter("scale", self.scale_init) * x + parameter("bias", zeros)
        return (jnp.maximum(x, parameter("threshold", zeros)) if self.threshold else x).astype(self.dtype)


def norm(
    kind: Norm, *, train: bool, dtype: Dtype, name: str, scale_init: Callable[..., Array] = ones
) -> Callable[[Maps], Maps]:
    """Batch normalisation, group normalisation with the most groups, at most 32, that divide the channels, or FRN.

    Statistics are float32. The running ones decay by 0.9 a step and hold the biased variance, where torch's hold the
    unbiased one. The others have none, and treat every image alone.
    """
    if kind == "batch":
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=BATCH_NORM_MOMENTUM,
            epsilon=NORM_EPSILON,
            dtype=dtype,
            scale_init=scale_init,
            name=name,
        )
    if kind == "frn":
        return FilterResponseNorm(threshold=False, dtype=dtype, scale_init=scale_init, name=name)

    def group_norm(x: Maps) -> Maps:
        groups = math.gcd(MAX_GROUPS, x.shape[-1])
        return nn.GroupNorm(groups, epsilon=NORM_EPSILON, dtype=dtype, scale_init=scale_init, name=name)(x)

    return group_norm


def norm_relu(kind: Norm, *, train: bool, dtype: Dtype, name: str) -> Callable[[Maps], Maps]:
    """A norm and the ReLU after it, in place of which FRN has its learned threshold."""
    if kind == "frn":
        return FilterResponseNorm(threshold=True, dtype=dtype, name=name)
    layer = norm(kind, train=train, dtype=dtype, name=name)
    return lambda x: nn.relu(layer(x))


def stem_conv(features: int, stem: Stem, *, dtype: Dtype, name: str) -> nn.Conv:
    """The first convolution: 3×3; or 7×7 at stride 2; or of disjoint 2×2 patches."""
    kernel, stride = {"cifar": (3, 1), "imagenet": (7, 2), "patch": (2, 2)}[stem]
    return conv(features, kernel, stride=stride, dtype=dtype, name=name)


def stem_pool(x: Maps, stem: Stem) -> Maps:
    """Max pooling, 3×3 at stride 2, after the ImageNet stem; nothing after the others."""
    if stem != "imagenet":
        return x
    # Flax takes pairs, beside the names that it declares.
    return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # pyright: ignore[reportArgumentType]


class Dropout(nn.Module):
    """Activations, by chance, set to zero, and the others divided by the chance to stay (Srivastava et al., 2014).

    In training every example has a mask of its own. In evaluation nothing is dropped, unless the network is applied
    with a key, ``rngs={"dropout": key}``: then all examples have one mask, so that a key stands for one network with
    fewer units, whose prediction of an image depends on that image alone.

    Raises:
        ValueError: if the rate is outside [0, 1].
    """

    rate: float
    """Chance to be dropped."""

    def __post_init__(self):
        check_fraction("rate", self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        if self.rate == 0 or not (train or self.has_rng("dropout")):
            return x
        if self.rate == 1:
            # Nothing stays to be divided by 0.
            return jnp.zeros_like(x)
        shape = x.shape if train else (1, *x.shape[1:])
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
        return jnp.where(keep, x / (1 - self.rate), 0)


def classify(
    x: Maps, num_classes: int, *, dropout: float = 0.0, train: bool = False
) -> tuple[Float[Array, "b f"], Float[Array, "b k"]]:
    """Global average pooling, dropout and a linear classifier: features and logits.

    They are float32 for ``x`` in bfloat16.
    """
    features = jnp.mean(at_least_float32(x), axis=(1, 2))
    features = Dropout(dropout, name="head_dropout")(features, train=train)
    return features, nn.Dense(num_classes, name="head")(features)
