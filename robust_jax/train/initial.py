"""Weights of an earlier stage or run as the start of another, and which of them are trained."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from robust_jax.core.checks import nearest
from robust_jax.types import Interceptor, LayerCall, Params


@dataclasses.dataclass(frozen=True)
class FromRun:
    """Weights that another run of the experiment file ends with; it is trained first where it is not finished."""

    name: str
    """Name of the run."""


def carried_over(
    initial: dict[str, PyTree], params: PyTree, model_state: PyTree, *, reset: Sequence[str]
) -> tuple[PyTree, PyTree]:
    """Return the parameters and the state of a network that starts from other variables.

    Args:
        initial: ``{"params": ..., **state}`` to start from.
        params: the network's own initial parameters, kept where ``reset`` matches their path.
        model_state: the network's own initial state.
        reset: patterns of paths such as ``"head/*"``.

    Raises:
        ValueError: if a pattern matches nothing, or an array that is carried over is absent or has another shape.
    """
    fresh = matches(params, reset, argument="reset")
    theirs = _by_path(initial["params"])

    def choose(path, own: Array, anew: bool) -> Array:
        name = path_name(path)
        if anew:
            return own
        if name not in theirs or theirs[name].shape != own.shape:
            found = "none" if name not in theirs else f"shape {theirs[name].shape}"
            raise ValueError(
                f"Expected initial weights with {name} of shape {own.shape}, got {found}; name it in reset to draw it "
                "anew."
            )
        return theirs[name].astype(own.dtype)

    carried = jax.tree.map_with_path(choose, params, fresh)
    state = {name: initial.get(name, own) for name, own in model_state.items()}
    # Donated buffers must not be shared with whoever else holds them.
    return jax.tree.map(jnp.copy, carried), jax.tree.map(jnp.copy, state)


def matches(params: PyTree, patterns: Sequence[str], *, argument: str) -> PyTree:
    """Return a tree of booleans: whether the path of a parameter matches a pattern.

    Args:
        params: parameters of a network.
        patterns: shell patterns of paths such as ``"head/*"`` or ``"stage3*"``; ``*`` also matches ``/``.
        argument: name of the field that holds the patterns, for the error.

    Raises:
        ValueError: if a pattern matches no parameter.
    """
    names = list(_by_path(params))
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"Expected {argument} to match parameters, got {pattern!r}.{nearest(pattern, names)}")
    return jax.tree.map_with_path(
        lambda path, _: any(fnmatch.fnmatchcase(path_name(path), pattern) for pattern in patterns), params
    )


def path_name(path: Sequence[jax.tree_util.DictKey]) -> str:
    """Return the path of a parameter as text, such as ``"head/kernel"``."""
    return "/".join(str(entry.key) for entry in path)


def only_trainable(optimiser: optax.GradientTransformation, trainable: PyTree) -> optax.GradientTransformation:
    """Return an optimiser that moves the marked parameters of the network, and all of the objective's own."""

    def labels(params: Params) -> Params:
        marked = jax.tree.map(lambda moves: "moves" if moves else "stays", trainable)
        return Params(marked, jax.tree.map(lambda _: "moves", params.objective))

    return optax.partition({"moves": optimiser, "stays": optax.set_to_zero()}, labels)


def frozen(params: Params, trainable: PyTree) -> Params:
    """Return the parameters without a gradient to those that do not move, so that none is computed."""

    def hold(leaf: Array, moves: bool) -> Array:
        return leaf if moves else jax.lax.stop_gradient(leaf)

    return params._replace(network=jax.tree.map(hold, params.network, trainable))


def frozen_batch_norm(trainable: PyTree) -> Interceptor:
    """Normalise by running statistics in every batch norm whose scale and shift do not move.

    Running averages of those layers do not move either.
    """
    moving = {name.rpartition("/")[0] for name, moves in _by_path(trainable).items() if moves}

    def normalise(layer: LayerCall, *args: Array, **kwargs) -> Array:
        if layer.kind != "BatchNorm" or layer.settings["use_running_average"] or "/".join(layer.path) in moving:
            return layer.call(*args, **kwargs)
        x, statistics, params = args[0], layer.variables["batch_stats"], layer.variables.get("params", {})
        factor = jax.lax.rsqrt(statistics["var"] + layer.settings["epsilon"])
        shape = (1,) * (x.ndim - 1) + (-1,)
        factor = (factor * params["scale"] if "scale" in params else factor).reshape(shape)
        normal = (x.astype(jnp.float32) - statistics["mean"].reshape(shape)) * factor
        return (normal + params["bias"].reshape(shape) if "bias" in params else normal).astype(x.dtype)

    return normalise


def _by_path(tree: PyTree) -> dict[str, Array]:
    return {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
