"""Calls of a network's layers, passed through functions."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import flax.linen as nn

from robust_jax.types import Interceptor, LayerCall


@contextlib.contextmanager
def intercepted(interceptors: Sequence[Interceptor]) -> Iterator[None]:
    """Pass every call of a layer through the interceptors, the first of them outermost.

    They run as part of the network, so their results are differentiated through. Networks that run inside the context
    are affected; without interceptors nothing changes.

    Args:
        interceptors: ``(layer, *args, **kwargs) -> output``, see :data:`~robust_jax.types.Interceptor`.
    """
    with contextlib.ExitStack() as stack:
        for interceptor in interceptors:
            stack.enter_context(nn.intercept_methods(_linen(interceptor)))
        yield


def _linen(interceptor: Interceptor):
    def intercept(call, args, kwargs, context):
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        module = context.module
        layer = LayerCall(
            path=module.path,
            kind=type(module).__name__,
            call=call,
            variables=module.variables,
            settings={
                field.name: getattr(module, field.name)
                for field in dataclasses.fields(module)
                if field.name not in ("parent", "name")
            },
        )
        return interceptor(layer, *args, **kwargs)

    return intercept
