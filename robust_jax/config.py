"""Components as data: to JSON and back, and compared.

A component is a frozen dataclass (or a Linen module, which is one) whose fields are literals, tuples, dicts or other
components. In JSON it is an object with its room and name under ``"component"`` beside its fields::

    {"component": "models.WideResNet", "depth": 28, "width": 4, ...}

A file can only name classes of this package: names are looked up in its own rooms, and nothing is imported or
unpickled because a file says so.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import types
import typing
from typing import Any, Protocol

from robust_jax.core.checks import nearest

PACKAGE = "robust_jax"
ROOMS = (
    "attacks",
    "augmentations",
    "corruptions",
    "data",
    "declarations",
    "detectors",
    "models",
    "objectives",
    "posteriors",
    "suites",
    "tasks",
    "train",
)
TAG = "component"

Tree = None | bool | int | float | str | list["Tree"] | dict[str, "Tree"]
"""A component as JSON holds it."""


class ConfigError(ValueError):
    """A configuration that cannot be read, or an override that does not fit it."""


@typing.runtime_checkable
class Fingerprinted(Protocol):
    """A component that holds arrays in memory, of which only a digest is saved."""

    @property
    def fingerprint(self) -> str: ...


def to_json(component: object) -> str:
    """A component as JSON text, indented; equal components give equal text.

    Raises:
        TypeError: if a field holds something that is not a literal, tuple, dict or component.
    """
    return json.dumps(to_tree(component), indent=2, allow_nan=False)


def from_json(text: str, *, extra: tuple[type, ...] = ()) -> Any:
    """The component that :func:`to_json` wrote.

    Args:
        text: the JSON.
        extra: classes of the caller's own that the text may name, beside those of this package.

    Raises:
        ConfigError: on malformed JSON, an unknown component or field (the nearest is suggested), or a wrong type.
    """
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not valid JSON: {error}") from error
    return from_tree(tree, extra=extra)


class _Dataclass(Protocol):
    __dataclass_fields__: typing.ClassVar[dict[str, dataclasses.Field]]


@typing.overload
def to_tree(value: _Dataclass) -> dict[str, Tree]: ...


@typing.overload
def to_tree(value: object) -> Tree: ...


def to_tree(value: object) -> Tree:
    """As :func:`to_json`, as nested dicts, lists and literals."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        # JSON has no infinities.
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, tuple | list):
        return [to_tree(item) for item in value]
    if isinstance(value, typing.Mapping):
        return {str(key): to_tree(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Fingerprinted):
            return {TAG: component_name(type(value)), "fingerprint": value.fingerprint}
        fields = {field.name: to_tree(getattr(value, field.name)) for field in component_fields(value)}
        return {TAG: component_name(type(value)), **fields}
    raise TypeError(f"Expected a literal, tuple, dict or component, got {value!r} of type {type(value).__name__}.")


def from_tree(tree: Any, *, extra: tuple[type, ...] = (), path: str = "config") -> Any:
    """The inverse of :func:`to_tree`; lists become tuples."""
    if isinstance(tree, list):
        return tuple(from_tree(item, extra=extra, path=f"{path}.{i}") for i, item in enumerate(tree))
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {"float"}:
        return float(tree["float"])
    if TAG not in tree:
        return {key: from_tree(item, extra=extra, path=f"{path}.{key}") for key, item in tree.items()}
    cls = _find_component(tree[TAG], extra, path)
    values = {key: item for key, item in tree.items() if key != TAG}
    if "fingerprint" in values:
        raise ConfigError(f"{path}: {tree[TAG]} held arrays in memory and cannot be rebuilt from its fingerprint.")
    fields = {field.name: field for field in component_fields(cls)}
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in fields:
            raise ConfigError(f"{path}: {tree[TAG]} has no field {name!r}.{nearest(name, fields)}")
    values = {name: from_tree(item, extra=extra, path=f"{path}.{name}") for name, item in values.items()}
    for name, value in values.items():
        _check_type(f"{path}.{name}", value, hints.get(name, object))
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def diff(before: object, after: object) -> list[tuple[str, Tree, Tree]]:
    """The differences between two components (or their trees), as ``(path, before, after)``; absent is ``None``."""
    before, after = (value if isinstance(value, dict) else to_tree(value) for value in (before, after))
    left, right = _flatten(before), _flatten(after)
    paths = [*left, *(path for path in right if path not in left)]
    return [(path, left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)]


def component_fields(component: object) -> list[dataclasses.Field]:
    """The fields that make up a component's configuration (a Linen module's own bookkeeping left out)."""
    if not dataclasses.is_dataclass(component):
        raise TypeError(f"Expected a component, which is a dataclass, got {component!r}.")
    bookkeeping = ("parent", "name") if _is_linen(component if isinstance(component, type) else type(component)) else ()
    return [field for field in dataclasses.fields(component) if field.init and field.name not in bookkeeping]


def component_name(cls: type) -> str:
    """``room.Class`` for a class of this package, its full dotted name for anybody else's."""
    package, _, rest = cls.__module__.partition(".")
    if package != PACKAGE:
        return f"{cls.__module__}.{cls.__qualname__}"
    return f"{rest.partition('.')[0]}.{cls.__qualname__}"


def _find_component(name: object, extra: tuple[type, ...], path: str) -> type:
    for cls in extra:
        if component_name(cls) == name:
            return cls
    room, _, class_name = str(name).partition(".")
    if room not in ROOMS:
        raise ConfigError(f"{path}: component {name!r} is not one of {PACKAGE}'s.{nearest(room, ROOMS)}")
    module = importlib.import_module(f"{PACKAGE}.{room}")
    valid = [n for n in module.__all__ if dataclasses.is_dataclass(getattr(module, n))]
    if class_name not in valid:
        raise ConfigError(f"{path}: unknown component {name!r}.{nearest(class_name, valid)}")
    return getattr(module, class_name)


def _is_linen(cls: type) -> bool:
    return any(base.__module__.startswith("flax.linen") for base in cls.__mro__)


def _flatten(tree: Tree, path: str = "") -> dict[str, Tree]:
    if isinstance(tree, dict) and set(tree) != {"float"}:
        items = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, dict | list) for item in tree):
        items = enumerate(tree)
    else:
        return {path: tree["float"] if isinstance(tree, dict) else tree}
    flat = {}
    for key, item in items:
        flat |= _flatten(item, f"{path}.{key}" if path else str(key))
    return flat


def _check_type(path: str, value: object, hint: object) -> None:
    if not _fits(value, hint):
        expected = getattr(hint, "__name__", None) or str(hint)
        raise ConfigError(f"{path}: expected {expected}, got {value!r} of type {type(value).__name__}.")


def _fits(value: object, hint: object) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint is type(None):
        return value is None
    if origin is tuple:
        return isinstance(value, tuple)
    return True
