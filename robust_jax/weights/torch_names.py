"""What the variables of our networks are called in PyTorch code, and how their arrays lie there.

Names are those of torchvision's and timm's ResNets and ViTs, and of RobustBench's ResNets, PreActResNets and
WideResNets, those of Gowal et al. included.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

import numpy as np

from robust_jax.models.vit import ViT
from robust_jax.models.wide_resnet import WideResNet
from robust_jax.types import Module

# Our scope, and the names it goes by.
RESIDUAL = {
    "stem_conv": ("conv1",),
    "stem_norm": ("bn1",),
    "shortcut_conv": ("downsample.0", "shortcut.0", "convShortcut"),
    "shortcut_norm": ("downsample.1", "shortcut.1"),
    "norm1": ("bn1",),
    "norm2": ("bn2",),
    "norm3": ("bn3",),
    "last_norm": ("bn1", "bn"),
    "head": ("fc", "linear"),
}
END_PADDED = {
    "stem_conv": ("init_conv",),
    "norm1": ("batchnorm_0",),
    "conv1": ("conv_0",),
    "norm2": ("batchnorm_1",),
    "conv2": ("conv_1",),
    "shortcut_conv": ("shortcut",),
    "last_norm": ("batchnorm",),
    "head": ("logits",),
}
"""Of the WideResNet of Gowal et al., which pads as no other code does, so that its names tell."""
TRANSFORMER = {
    "embedding": ("patch_embed.proj", "conv_proj"),
    "norm0": ("norm1", "ln_1"),
    "norm1": ("norm2", "ln_2"),
    "mlp0": ("mlp.fc1", "mlp.0", "mlp.linear_1"),
    "mlp1": ("mlp.fc2", "mlp.3", "mlp.linear_2"),
    "final_norm": ("norm", "encoder.ln"),
    "head": ("head", "heads.head"),
}
LEAVES = {
    "kernel": ("weight",),
    "scale": ("weight",),
    "mean": ("running_mean",),
    "var": ("running_var",),
    "cls": ("cls_token", "class_token"),
    "positions": ("pos_embed", "encoder.pos_embedding"),
}
FUSED = ("query", "key", "value")
"""The parts of the one array that projects to all three."""


class Counterpart(NamedTuple):
    """What a variable is in PyTorch code."""

    variable: tuple[str, ...]
    """Its path without the collection, such as ``("stage2_block1", "conv1", "kernel")``."""
    shape: tuple[int, ...]
    """Its shape with us."""
    names: tuple[str, ...]
    """What it may be called."""
    torch_shape: tuple[int, ...]
    """The shape of the array of that name."""


def counterpart(model: Module, variable: tuple[str, ...], shape: tuple[int, ...]) -> Counterpart:
    """What a variable of ``model`` may be called in PyTorch code, and its shape there.

    Scopes without a published name keep their own, so that networks written with PyTorch's names need no table.
    """
    *scopes, leaf = variable
    if isinstance(model, ViT):
        parts = [_transformer_names(scope) for scope in scopes]
    elif isinstance(model, WideResNet) and model.padding == "end":
        parts = [_residual_names(scope, END_PADDED, ("layer.{before}.block.{block}",)) for scope in scopes]
    else:
        parts = [
            _residual_names(scope, RESIDUAL, ("layer{stage}.{block}", "block{stage}.layer.{block}")) for scope in scopes
        ]
    if "attention" in scopes:
        # One name for the module and its layer: timm's, torchvision's.
        fused = scopes[-1] in FUSED
        parts[-2:] = [("attn.qkv", "self_attention.in_proj") if fused else ("attn.proj", "self_attention.out_proj")]
    choices = itertools.product(*parts, LEAVES.get(leaf, (leaf,)))
    names = tuple(".".join(choice).replace("in_proj.", "in_proj_") for choice in choices)
    return Counterpart(variable, shape, names, _torch_shape(variable, shape))


def from_torch(array: np.ndarray, counterpart: Counterpart) -> np.ndarray:
    """An array as PyTorch has it, as the variable's: OIHW to HWIO, transposed, or a third split into heads."""
    variable = counterpart.variable
    if _is_fused(variable):
        array = np.split(array, len(FUSED))[FUSED.index(variable[-2])]
    if variable[-1] == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array.reshape(counterpart.shape)


def _residual_names(scope: str, table: dict[str, tuple[str, ...]], blocks: tuple[str, ...]) -> tuple[str, ...]:
    numbers = re.fullmatch(r"stage(\d+)_block(\d+)", scope)
    if not numbers:
        return table.get(scope, (scope,))
    stage, block = int(numbers[1]), int(numbers[2])
    return tuple(name.format(stage=stage, before=stage - 1, block=block - 1) for name in blocks)


def _transformer_names(scope: str) -> tuple[str, ...]:
    number = re.fullmatch(r"block(\d+)", scope)
    if not number:
        return TRANSFORMER.get(scope, (scope,))
    return f"blocks.{number[1]}", f"encoder.layers.encoder_layer_{number[1]}"


def _is_fused(variable: tuple[str, ...]) -> bool:
    return variable[-3:-1] in [("attention", part) for part in FUSED]


def _torch_shape(variable: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    if _is_fused(variable):
        heads = len(FUSED) * shape[-2] * shape[-1]
        return (heads, shape[0]) if variable[-1] == "kernel" else (heads,)
    if variable[-1] != "kernel":
        return shape
    if len(shape) == 4:
        return shape[3], shape[2], shape[0], shape[1]
    # The output of attention reads heads × size of a head.
    return shape[-1], int(np.prod(shape[:-1]))
