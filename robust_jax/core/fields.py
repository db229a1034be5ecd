"""Fields of components, checked against their annotations."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing

import typeguard


def check_fields(component: object, path: str = "") -> None:
    """Check the fields of a component, and of the components in them, against their annotations.

    Args:
        component: a dataclass.
        path: where the component stands, such as ``"objective."``, for the message.

    Raises:
        TypeError: naming the first field of another type, its annotation and its value.
    """
    hints = _hints(type(component))
    for field in dataclasses.fields(component):  # pyright: ignore[reportArgumentType]
        if field.name not in hints:
            continue
        value, hint = getattr(component, field.name), hints[field.name]
        if not _fits(value, hint):
            what = f"the class {value.__name__}; add ()" if isinstance(value, type) else repr(value)
            owner = "" if path else f"{type(component).__name__}."
            raise TypeError(f"Expected {owner}{path}{field.name} of type {_text(hint)}, got {what}.")
        _check_inside(value, f"{path}{field.name}")


def _check_inside(value: object, path: str) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        check_fields(value, f"{path}.")
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            _check_inside(item, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_inside(item, f"{path}[{key!r}]")


@functools.cache
def _hints(cls: type) -> dict[str, object]:
    """Return the annotations of a class; none of a user's class whose names exist for type checkers alone."""
    try:
        found = typing.get_type_hints(cls)
    except NameError:
        return {}
    # A Linen module has fields of Flax's own besides.
    return {name: hint for name, hint in found.items() if name not in ("parent", "name") or not hasattr(cls, "apply")}


def _fits(value: object, hint: object) -> bool:
    # A protocol is met by any class that has its methods, though the class is no instance; and by a string, where it
    # has properties alone.
    if isinstance(value, type | str | int | float) and any(_is_protocol(one) for one in _alternatives(hint)):
        others = [one for one in _alternatives(hint) if not _is_protocol(one)]
        return any(_checked(value, one) for one in others)
    return _checked(value, hint)


def _checked(value: object, hint: object) -> bool:
    try:
        typeguard.check_type(value, hint, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)
    except typeguard.TypeCheckError:
        return False
    return True


def _alternatives(hint: object) -> tuple[object, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)


_UNIONS = (typing.Union, type(int | str))


def _is_protocol(hint: object) -> bool:
    return isinstance(hint, type) and getattr(hint, "_is_protocol", False)


def _text(hint: object) -> str:
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return re.sub(r"[a-z_]+\.", "", str(hint))
