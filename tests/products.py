"""In which precision a program multiplies."""

import re
from collections.abc import Callable
from typing import Any

import jax

from robust_jax.core.platform import compiled_for

PRODUCT = re.compile(
    r"stablehlo\.(?:dot_general|convolution)\b.*?precision.*?(DEFAULT|HIGHEST|HIGH)\b.*-> tensor<.*f\d+>"
)


def product_precisions(function: Callable, *args: Any) -> set[str]:
    """Of all matrix products and convolutions of floats in ``function``, as it is written for an accelerator.

    ``DEFAULT`` is float32 on a CPU alone: of the factors a GPU keeps 11 bits, a TPU 8.
    """
    with compiled_for("gpu"):
        return set(PRODUCT.findall(jax.jit(function).lower(*args).as_text()))
