"""Stable identities of settings: the same in every process, and different wherever the settings differ."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_jax import config
from robust_jax.config import TAG, Fingerprinted, Tree


def digest(*settings: object) -> str:
    """Return a short name for settings, for the store of finished cases.

    Equal settings have equal names, in this process and in any other; a changed field gives another.

    Args:
        settings: literals, components, PRNG keys, arrays, or tuples and dicts of them. A function is known by its
            module, its name, its code and what it closes over, but not by the globals that it reads.

    Raises:
        TypeError: if a setting, or anything in it, is none of these.
    """
    text = json.dumps([stable_tree(setting) for setting in settings], allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stable_tree(value: Any, within: tuple[int, ...] = ()) -> Tree:
    """Encode as :func:`~robust_jax.config.to_tree` does, and arrays, keys and functions besides, by their content.

    Args:
        value: the setting.
        within: ids of the functions that hold it, one of which it may be itself.

    Raises:
        TypeError: if it, or anything in it, has no content that could be told.
    """
    inner = functools.partial(stable_tree, within=within)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _array(value)
    if isinstance(value, Fingerprinted):
        return {TAG: config.component_name(type(value)), "fingerprint": value.fingerprint}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: inner(getattr(value, field.name)) for field in config.component_fields(value)}
        return {TAG: config.component_name(type(value)), **fields}
    if isinstance(value, tuple | list):
        return [inner(item) for item in value]
    if isinstance(value, Mapping):
        return {"items": [[inner(key), inner(item)] for key, item in value.items()]}
    if isinstance(value, bytes | complex | slice | range | ModuleType):
        return {type(value).__name__: value.__name__ if isinstance(value, ModuleType) else repr(value)}
    if isinstance(value, frozenset | set):
        members: list[Tree] = [*sorted(json.dumps(inner(item)) for item in value)]
        return {"set": members}
    if isinstance(value, type | BuiltinFunctionType | np.ufunc):
        return {"named": f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', value.__name__)}"}
    if callable(value):
        return _function(value, within)
    return config.to_tree(value)


def _array(value: Any) -> Tree:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return {"key": str(jax.random.key_impl(value)), "data": np.asarray(jax.random.key_data(value)).tolist()}
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(f"Expected an array of numbers, got dtype {array.dtype}.")
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"array": content, "shape": list(array.shape), "dtype": array.dtype.str}


def _function(value: Any, within: tuple[int, ...]) -> Tree:
    """A function by its code, its defaults and the values it closes over."""
    if id(value) in within:
        # A function that calls itself holds itself.
        return {"enclosing": len(within) - within.index(id(value))}
    inner = functools.partial(stable_tree, within=(*within, id(value)))
    if isinstance(value, functools.partial):
        return {"partial": [inner(value.func), inner(value.args), inner(value.keywords)]}
    if isinstance(value, MethodType):
        return {"method": [inner(value.__self__), inner(value.__func__)]}
    if not isinstance(value, FunctionType):
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is None:
            raise TypeError(
                f"Expected a literal, an array, a function or a component, which is a dataclass, got {value!r} of type "
                f"{type(value).__name__}."
            )
        return {"wrapped": [type(value).__name__, inner(wrapped)]}
    return {
        "function": f"{value.__module__}.{value.__qualname__}",
        "code": _code(value.__code__, inner),
        "defaults": [inner(value.__defaults__), inner(value.__kwdefaults__)],
        "closure": [inner(cell.cell_contents) for cell in value.__closure__ or ()],
    }


def _code(code: CodeType, inner: Any) -> Tree:
    constants = [_code(c, inner) if isinstance(c, CodeType) else inner(c) for c in code.co_consts if c is not Ellipsis]
    names = [*code.co_names, *code.co_varnames, *code.co_freevars]
    return [hashlib.sha256(code.co_code).hexdigest(), constants, list(names)]
