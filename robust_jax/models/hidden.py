"""Access to what a network computes between its layers."""

from __future__ import annotations

import contextlib

import flax.linen as nn

from robust_jax.types import HiddenFn


def changed_hidden(hidden_fn: HiddenFn | None) -> contextlib.AbstractContextManager:
    """Inside it, what a network's direct submodules return passes through a function.

    Args:
        hidden_fn: ``hidden_fn(name, maps) -> maps``, called with the submodule's name, such as ``"stage1_block2"``;
            None changes nothing. It runs as part of the network, so it is differentiated through.
    """
    if hidden_fn is None:
        return contextlib.nullcontext()

    def change(call, args, kwargs, context):
        found = call(*args, **kwargs)
        path = context.module.path
        return hidden_fn(path[0], found) if len(path) == 1 and context.method_name == "__call__" else found

    return nn.intercept_methods(change)
