"""Other people's weights, from files that hold arrays and nothing else."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load_file

from robust_jax.core.checks import nearest

# Our scope or leaf, and the names it goes by in PyTorch code.
SCOPES = {
    "stem_conv": ("conv1",),
    "stem_norm": ("bn1",),
    "shortcut_conv": ("downsample.0", "shortcut.0"),
    "shortcut_norm": ("downsample.1", "shortcut.1"),
    "head": ("fc", "linear"),
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load_weights(
    path: str | Path, model: nn.Module, image_shape: tuple[int, int, int]
) -> tuple[PyTree, dict[str, PyTree]]:
    """Parameters and state of a ``ResNet`` from a ``.safetensors`` file in PyTorch's naming.

    Names are those of torchvision (``conv1``, ``layer1.0.bn2``, ``downsample.0``, ``fc``) or of the usual CIFAR code
    (``shortcut.0``, ``linear``). Convolutions are turned from OIHW to HWIO.

    Args:
        path: the file.
        model: a network that the weights fit.
        image_shape: of the images it takes.

    Returns:
        Parameters and model state, as :func:`~robust_jax.models.init` gives them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, lacks an array, has one too many, or one of another shape; all are named.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"No weights {path}.")
    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    images = jnp.zeros((1, *image_shape))
    expected = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    used: set[str] = set()
    leaves, treedef = jax.tree.flatten_with_path(expected)
    loaded = [_find(tuple(key.key for key in keys[1:]), leaf.shape, arrays, used, path) for keys, leaf in leaves]
    unexpected = sorted(name for name in set(arrays) - used if not name.endswith("num_batches_tracked"))
    if unexpected:
        raise ValueError(f"{path} holds arrays that {type(model).__name__} does not have: {', '.join(unexpected[:5])}.")
    variables = dict(jax.tree.unflatten(treedef, loaded))
    return variables.pop("params"), variables


def torch_names(path: tuple[str, ...]) -> list[str]:
    """What a variable such as ``("stage2_block1", "conv1", "kernel")`` may be called in PyTorch code."""
    names = [""]
    for part in path[:-1]:
        block = re.fullmatch(r"stage(\d+)_block(\d+)", part)
        layer = re.fullmatch(r"norm(\d+)", part)
        if block:
            choices: tuple[str, ...] = (f"layer{block[1]}.{int(block[2]) - 1}",)
        elif layer:
            choices = (f"bn{layer[1]}",)
        else:
            choices = SCOPES.get(part, (part,))
        names = [f"{name}{choice}." for name in names for choice in choices]
    return [name + LEAVES[path[-1]] for name in names]


def _find(
    variable: tuple[str, ...], shape: tuple[int, ...], arrays: dict[str, np.ndarray], used: set[str], path: str | Path
) -> jax.Array:
    candidates = torch_names(variable)
    name = next((name for name in candidates if name in arrays), None)
    if name is None:
        raise ValueError(f"{path} has no array {candidates[0]!r}.{nearest(candidates[0], arrays)}")
    used.add(name)
    array = arrays[name]
    if variable[-1] == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    if array.shape != shape:
        raise ValueError(f"Expected {name!r} of {path} to give shape {shape}, got {array.shape}.")
    return jnp.asarray(array, jnp.float32)
