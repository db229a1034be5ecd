"""What a network's linear layers read, and their outputs shifted by what is given: derivatives layer by layer."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import PyTreeDef
from jaxtyping import Array, Float, PyTree

from robust_jax.predictors import apply_network
from robust_jax.types import Image, Model, Output


class Window(NamedTuple):
    """Which pixels a convolution reads for each of its outputs."""

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]


class LinearLayer(NamedTuple):
    """A layer that multiplies what it reads at every position by one matrix, and may add a bias."""

    path: tuple[str, ...]
    """Of its parameters."""
    num_reads: int
    """Numbers it reads at a position, without the one of a bias."""
    output_shape: tuple[int, ...]
    """Of one image's output: positions, then outputs."""
    num_outputs: int
    """Numbers it writes at a position."""
    window: Window | None
    """Of a convolution."""

    def reads(self, inputs: Float[Array, "b ..."]) -> Float[Array, "b positions reads"]:
        """What the layer reads at every position, in the order of its kernel's leading axes."""
        if self.window is not None:
            inputs = _patches(inputs, self.window)
        return inputs.reshape(inputs.shape[0], -1, self.num_reads)

    def outputs(self, values: Float[Array, "b c ..."]) -> Float[Array, "b c positions outputs"]:
        """Arrays of the output's shape, with one axis of positions."""
        return values.reshape(*values.shape[:2], -1, self.num_outputs)


def linear_layers(
    model: Model, variables: PyTree, image_shape: tuple[int, int, int]
) -> tuple[tuple[LinearLayer, ...], int]:
    """The dense layers and convolutions of a network that run once for an image, and the number of its logits.

    Layers are in the order in which they run. Other parameters, such as those of norms, positions, grouped convolutions
    and shared layers, are in none of them.

    Raises:
        ValueError: if a batch norm is in training mode, whose outputs depend on the whole batch; it is named.
    """
    leaves, treedef = jax.tree.flatten(variables)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _linear_layers(model, treedef, shapes, image_shape)


# Traced once for a network: it takes longer than all else that a last layer needs.
@functools.lru_cache
def _linear_layers(
    model: Model, treedef: PyTreeDef, shapes: tuple[jax.ShapeDtypeStruct, ...], image_shape: tuple[int, int, int]
) -> tuple[tuple[LinearLayer, ...], int]:
    found: list[LinearLayer] = []

    def note(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, nn.BatchNorm):
            _check_batch_norm(module, kwargs)
        outputs = call(*args, **kwargs)
        if context.method_name == "__call__" and args and _is_linear(module, args[0]):
            found.append(_linear_layer(module, args[0], outputs))
        return outputs

    with nn.intercept_methods(note):
        run = lambda variables: model.apply(variables, jnp.zeros((1, *image_shape)), train=False).prediction  # noqa: E731
        logits = jax.eval_shape(run, jax.tree.unflatten(treedef, shapes))
    paths = [layer.path for layer in found]
    return tuple(layer for layer in found if paths.count(layer.path) == 1), logits.shape[-1]


def apply_tapped(
    model: Model, variables: PyTree, image: Image, shifts: Mapping[tuple[str, ...], Array]
) -> tuple[Output, dict[tuple[str, ...], Array]]:
    """The network in evaluation mode on one image.

    Args:
        model: the network.
        variables: ``{"params": …, …}``.
        image: the image.
        shifts: what is added to layers' outputs, by the layers' paths.

    Returns:
        The output, with an axis for the one image, and what each of these layers read.
    """
    inputs = {}

    def tap(call, args, kwargs, context):
        outputs = call(*args, **kwargs)
        path = context.module.path
        if context.method_name != "__call__" or path not in shifts:
            return outputs
        inputs[path] = args[0]
        return outputs + shifts[path].astype(outputs.dtype)

    with nn.intercept_methods(tap):
        output = apply_network(model, variables, image[None], train=False)
    return output, inputs


def _check_batch_norm(module: nn.BatchNorm, kwargs: Mapping) -> None:
    running = nn.merge_param("use_running_average", module.use_running_average, kwargs.get("use_running_average"))
    if not running:
        raise ValueError(
            f"Expected batch norms in evaluation mode with train=False, got {'/'.join(module.path)} in training mode: "
            "the outputs of an image would depend on the whole batch."
        )


def _is_linear(module: nn.Module, inputs: Array) -> bool:
    if isinstance(module, nn.Dense):
        return True
    if isinstance(module, nn.DenseGeneral):
        axes = _axes(module.axis)
        return not _axes(module.batch_dims) and axes == tuple(range(-len(axes), 0))
    if not isinstance(module, nn.Conv) or inputs.ndim != 4 or len(_axes(module.kernel_size)) != 2:
        return False
    plain = module.feature_group_count == 1 and set(_pair(module.input_dilation)) == {1} and module.mask is None
    return plain and module.padding not in ("CIRCULAR", "REFLECT", "CAUSAL")


def _linear_layer(module: nn.Module, inputs: Array, outputs: Array) -> LinearLayer:
    kernel = module.variables["params"]["kernel"]
    window = _window(module, (inputs.shape[1], inputs.shape[2])) if isinstance(module, nn.Conv) else None
    num_outputs = int(np.prod(module.features))
    num_reads = kernel.size // num_outputs
    return LinearLayer(module.path, num_reads, outputs.shape[1:], num_outputs, window)


def _window(module: nn.Conv, size: tuple[int, int]) -> Window:
    kernel, strides, dilation = map(_pair, (module.kernel_size, module.strides, module.kernel_dilation))
    padding = module.padding
    if isinstance(padding, str):
        spread = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        pads = lax.padtype_to_pads(size, spread, strides, padding)
    else:
        sides = (padding, padding) if isinstance(padding, int) else padding
        pads = [(side, side) if isinstance(side, int) else side for side in sides]
    vertical, horizontal = ((before, after) for before, after in pads)
    return Window(kernel, strides, (vertical, horizontal), dilation)


def _patches(images: Float[Array, "b h w c"], window: Window) -> Float[Array, "b y x rows columns c"]:
    """Slices side by side; XLA's own patches are a convolution with many groups, which is slow on a CPU."""
    padded = jnp.pad(images, ((0, 0), *window.padding, (0, 0)))
    (kernel_y, kernel_x), (stride_y, stride_x), (dilation_y, dilation_x) = window.size, window.strides, window.dilation
    height, width = (
        (length - (kernel - 1) * dilation - 1) // stride + 1
        for length, kernel, dilation, stride in zip(
            padded.shape[1:3], window.size, window.dilation, window.strides, strict=True
        )
    )
    rows = [
        [padded[:, i * dilation_y :: stride_y, j * dilation_x :: stride_x][:, :height, :width] for j in range(kernel_x)]
        for i in range(kernel_y)
    ]
    return jnp.stack([jnp.stack(row, axis=3) for row in rows], axis=3)


def _pair(value: int | Sequence[int] | None) -> tuple[int, int]:
    if value is None:
        return 1, 1
    if isinstance(value, int):
        return value, value
    first, last = tuple(value) * (2 // len(value))
    return first, last


def _axes(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
