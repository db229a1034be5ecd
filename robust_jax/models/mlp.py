"""Multilayer perceptrons."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.models.layers import Dtype, at_least_float32, check_common, norm, normalise
from robust_jax.types import Images, Output

ACTIVATIONS = {"relu": nn.relu, "silu": nn.silu, "tanh": nn.tanh}


class Mlp(nn.Module):
    """Dense layers over all pixels of an image, ``dense1``, ``dense2``, …, and the classifier ``head``.

    Raises:
        ValueError: on an unknown name or a size that is not positive; when called, on images without four axes.
    """

    num_classes: int = 10
    """Number of classes."""
    widths: tuple[int, ...] = (100, 100)
    """Units of each hidden layer; none is a linear classifier."""
    activation: Literal["relu", "silu", "tanh"] = "relu"
    """Non-linearity after each hidden layer."""
    norm: Literal["none", "batch"] = "none"
    """Batch normalisation between each hidden layer and its non-linearity."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from images in [0, 1]: one number, or one per channel."""
    std: tuple[float, ...] = (0.25,)
    """Divides the images afterwards: one number, or one per channel."""
    dtype: Dtype = "float32"
    """Type of the computation; parameters and logits are float32."""

    def __post_init__(self):
        check_common(self.num_classes, self.mean, self.std, self.dtype)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, ("none", "batch"))
        for width in self.widths:
            check_positive("widths", width)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        x = normalise(images, self.mean, self.std, self.dtype)
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths, 1):
            x = nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.he_normal(), name=f"dense{i}")(x)
            if self.norm == "batch":
                x = norm("batch", train=train, dtype=self.dtype, name=f"norm{i}")(x)
            x = ACTIVATIONS[self.activation](x)
        features = at_least_float32(x)
        return Output(nn.Dense(self.num_classes, name="head")(features), features)
