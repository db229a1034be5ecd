"""What the variables of our networks are called in PyTorch code, and how their arrays lie there.

Names are those of torchvision's and timm's ResNets and ViTs, of RobustBench's ResNets, PreActResNets and WideResNets,
and of the CIFAR code these are of.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

import flax.linen as nn
import numpy as np

from robust_jax.models.vit import ViT

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
TRANSFORMER = {
    "embedding": ("patch_embed.proj", "conv_proj"),
    "cls": ("cls_token", "class_token"),
    "positions": ("pos_embed", "encoder.pos_embedding"),
    "norm0": ("norm1", "ln_1"),
    "norm1": ("norm2", "ln_2"),
    "mlp0": ("mlp.fc1", "mlp.0", "mlp.linear_1"),
    "mlp1": ("mlp.fc2", "mlp.3", "mlp.linear_2"),
    "final_norm": ("norm", "encoder.ln"),
    "head": ("head", "heads.head"),
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
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


def counterpart(model: nn.Module, variable: tuple[str, ...], shape: tuple[int, ...]) -> Counterpart:
    """What a variable of ``model`` may be called in PyTorch code, and its shape there.

    Scopes without a published name keep their own, so that networks written with PyTorch's names need no table.
    """
    *scopes, leaf = variable
    vit = isinstance(model, ViT)
    parts = [_scope_names(scope, vit) for scope in scopes]
    if vit and "attention" in scopes:
        # One name for the module and its layer: timm's, torchvision's.
        fused = scopes[-1] in FUSED
        parts[-2:] = [("attn.qkv", "self_attention.in_proj") if fused else ("attn.proj", "self_attention.out_proj")]
    leaf_names = TRANSFORMER.get(leaf, (LEAVES.get(leaf, leaf),)) if not scopes else (LEAVES.get(leaf, leaf),)
    names = tuple(".".join(choice).replace("in_proj.", "in_proj_") for choice in itertools.product(*parts, leaf_names))
    return Counterpart(variable, shape, names, _torch_shape(variable, shape))


def from_torch(array: np.ndarray, counterpart: Counterpart) -> np.ndarray:
    """An array as PyTorch has it, as the variable's: OIHW to HWIO, transposed, or a third split into heads."""
    variable = counterpart.variable
    if _is_fused(variable):
        array = np.split(array, len(FUSED))[FUSED.index(variable[-2])]
    if variable[-1] == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array.reshape(counterpart.shape)


def _scope_names(scope: str, vit: bool) -> tuple[str, ...]:
    stage_block = re.fullmatch(r"stage(\d+)_block(\d+)", scope)
    if stage_block:
        stage, block = int(stage_block[1]), int(stage_block[2]) - 1
        return f"layer{stage}.{block}", f"block{stage}.layer.{block}"
    block = re.fullmatch(r"block(\d+)", scope)
    if vit and block:
        return f"blocks.{block[1]}", f"encoder.layers.encoder_layer_{block[1]}"
    return (TRANSFORMER if vit else RESIDUAL).get(scope, (scope,))


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
