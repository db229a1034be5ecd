"""Errors worded the same way everywhere: the argument, the value given, what was expected, the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """Raises ``ValueError`` unless ``value > 0``."""
    if not value > 0:
        raise ValueError(f"Expected {argument} > 0, got {argument}={value!r}.")


def check_non_negative(argument: str, value: float) -> None:
    """Raises ``ValueError`` unless ``value >= 0``."""
    if not value >= 0:
        raise ValueError(f"Expected {argument} >= 0, got {argument}={value!r}.")


def check_fraction(argument: str, value: float) -> None:
    """Raises ``ValueError`` unless ``0 <= value <= 1``."""
    if not 0 <= value <= 1:
        raise ValueError(f"Expected {argument} in [0, 1], got {argument}={value!r}.")
