"""Errors worded the same way everywhere: the argument, the value given, what was expected, the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


def nearest(name: str, valid: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` where some valid name is close, else a list of them all."""
    valid = sorted(valid)
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else f" Valid: {', '.join(valid)}."


def check_choice(argument: str, value: str, valid: Iterable[str]) -> None:
    """Raises ``ValueError`` unless ``value`` is one of ``valid``."""
    valid = tuple(valid)
    if value not in valid:
        raise ValueError(f"Unknown {argument} {value!r}.{nearest(value, valid)}")


def check_positive(argument: str, value: float) -> None:
    """Raises ``ValueError`` unless ``value > 0``, ``TypeError`` if it is no number."""
    _check(argument, "> 0", value, lambda value: value > 0)


def check_non_negative(argument: str, value: float) -> None:
    """Raises ``ValueError`` unless ``value >= 0``, ``TypeError`` if it is no number."""
    _check(argument, ">= 0", value, lambda value: value >= 0)


def check_fraction(argument: str, value: float) -> None:
    """Raises ``ValueError`` unless ``0 <= value <= 1``, ``TypeError`` if it is no number."""
    _check(argument, "in [0, 1]", value, lambda value: 0 <= value <= 1)


def _check(argument: str, expected: str, value: float, holds: Callable[[float], bool]) -> None:
    try:
        fits = holds(value)
    except TypeError:
        raise TypeError(f"Expected {argument} as a number {expected}, got {argument}={value!r}.") from None
    if not fits:
        raise ValueError(f"Expected {argument} {expected}, got {argument}={value!r}.")
