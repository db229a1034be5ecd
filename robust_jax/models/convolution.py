"""Convolutions whose gradients run at full speed on a CPU, inside loops too.

XLA's CPU compiler reorders the axes of a convolution for its fast routine only outside of ``while`` loops
(``ConvCanonicalization`` visits the entry computation alone). JAX's gradients of a convolution need that reordering, so
inside ``scan`` or ``fori_loop`` they fell back to a naive loop nest, 9 times slower. Gradients are written here with
explicit transposes, in the order that needs none.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from robust_jax.core.platform import on_cpu

CANONICAL = ("NHWC", "HWIO", "NHWC")


class _Window(NamedTuple):
    """Arguments of ``lax.conv_general_dilated`` that are part of the program."""

    window_strides: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...] | None
    rhs_dilation: tuple[int, ...] | None
    precision: lax.PrecisionLike


def convolve(
    lhs: Array,
    rhs: Array,
    window_strides: tuple[int, ...],
    padding: str | tuple[tuple[int, int], ...],
    lhs_dilation: tuple[int, ...] | None = None,
    rhs_dilation: tuple[int, ...] | None = None,
    dimension_numbers: lax.ConvGeneralDilatedDimensionNumbers = None,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
) -> Array:
    """``jax.lax.conv_general_dilated`` with gradients that are fast on a CPU; for ``nn.Conv(conv_general_dilated=…)``.

    Values and derivatives of every order and mode are those of ``jax.lax``, up to rounding. Grouped convolutions,
    layouts other than NHWC and HWIO, and other platforms go to ``jax.lax`` unchanged.
    """
    settings = (lhs_dilation, rhs_dilation)
    given = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    canonical = lhs.ndim == 4 and given == lax.conv_dimension_numbers(lhs.shape, rhs.shape, CANONICAL)
    if not canonical or feature_group_count > 1 or not on_cpu(lhs, rhs):
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, *settings, dimension_numbers, feature_group_count, precision=precision
        )
    pads = padding if isinstance(padding, str) else tuple((before, after) for before, after in padding)
    of_images, of_kernel = (None if dilation is None else tuple(dilation) for dilation in settings)
    return _convolve(_Window(tuple(window_strides), pads, of_images, of_kernel, precision), lhs, rhs)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolve(window: _Window, images: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"]) -> Array:
    return lax.conv_general_dilated(images, kernel, dimension_numbers=CANONICAL, **window._asdict())


# Symbolic zeros: a gradient of the images alone computes nothing for the kernel.
@partial(_convolve.defjvp, symbolic_zeros=True)
def _convolve_jvp(window: _Window, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    images, kernel = primals
    maps = _convolve(window, images, kernel)
    terms = []
    if not isinstance(tangents[0], SymbolicZero):
        # JAX transposes it to a convolution of NHWC by HWIO.
        swapped = jnp.transpose(kernel, (0, 1, 3, 2))
        layout = ("NHWC", "HWOI", "NHWC")
        terms.append(lax.conv_general_dilated(tangents[0], swapped, dimension_numbers=layout, **window._asdict()))
    if not isinstance(tangents[1], SymbolicZero):
        # The same, where the batch is contracted: images are i × h × w × b, cotangents h × w × b × o.
        turned, tangent = jnp.transpose(images, (3, 1, 2, 0)), jnp.transpose(tangents[1], (2, 0, 1, 3))
        layout = ("CHWN", "IHWO", "HWNC")
        term = lax.conv_general_dilated(turned, tangent, dimension_numbers=layout, **window._asdict())
        terms.append(jnp.transpose(term, (2, 0, 1, 3)))
    return maps, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(maps)
