"""Rows in files: one JSON object a line. NaN and infinities, which JSON has not, are strings."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path

from robust_jax.core.files import write_atomically
from robust_jax.types import Row

FIELDS = {field.name for field in dataclasses.fields(Row)}
NUMBERS = ("severity", "value", "low", "high")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes all rows at once, or nothing."""
    lines = (
        json.dumps({name: _encode(value) for name, value in dataclasses.asdict(row).items()}, ensure_ascii=False)
        for row in rows
    )
    write_atomically(path, "".join(line + "\n" for line in lines))


def read_rows(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming the file and the line that is damaged.
    """
    rows = []
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        try:
            fields = json.loads(line)
            if set(fields) != FIELDS:
                raise ValueError(f"expected the fields {', '.join(sorted(FIELDS))}")
            rows.append(Row(**fields | {name: _decode(fields[name]) for name in NUMBERS}))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is not a row: {error}") from error
    return rows


def _encode(value: str | float | None) -> str | float | None:
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _decode(value: str | float | None) -> float | None:
    return float(value) if isinstance(value, str) else value
