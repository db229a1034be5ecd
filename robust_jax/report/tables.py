"""One table of several runs: a line a run, the baseline first, the best of every column marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from robust_jax.declarations import Column, Declaration
from robust_jax.types import Row

Runs = Mapping[str, Sequence[Row]]
Declared = Sequence[Declaration]
CAPTION = "95 % intervals, bootstrap or over seeds; best in bold: the lowest, or the highest under ↑"


class Cell(NamedTuple):
    value: str
    interval: str
    best: bool


def comparison_cells(runs: Runs, declared: Declared) -> tuple[list[str], dict[str, list[Cell]]]:
    """Column headings, and the cells of every run; only columns that some run has."""
    found = {name: {_place(row): row for row in rows} for name, rows in runs.items()}
    columns = {place: column for place, column in _columns(declared).items() if any(place in r for r in found.values())}
    cells: dict[str, list[Cell]] = {name: [] for name in runs}
    for place, column in columns.items():
        rows = {name: table.get(place) for name, table in found.items()}
        for name, row in rows.items():
            # Values on other data are no rivals.
            rivals = [other.value for other in rows.values() if row and other and other.dataset == row.dataset]
            best = _best(column, rivals) if len(runs) > 1 else None
            cells[name].append(_cell(row, column, best))
    return [column.heading for column in columns.values()], cells


def comparison_table(runs: Runs, declared: Declared, *, title: str | None = None) -> Table:
    """For the terminal."""
    titles, cells = comparison_cells(runs, declared)
    table = Table(title=title, caption=CAPTION, caption_justify="left")
    table.add_column("run", overflow="fold", min_width=10)
    for text in titles:
        table.add_column(text, justify="right")
    for name, row in cells.items():
        table.add_row(escape(name), *(_rich(cell) for cell in row))
    return table


def comparison_markdown(runs: Runs, declared: Declared) -> str:
    """For a README."""
    titles, cells = comparison_cells(runs, declared)
    lines = ["| run | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for name, row in cells.items():
        texts = [f"**{cell.value}** {cell.interval}" if cell.best else f"{cell.value} {cell.interval}" for cell in row]
        lines.append(f"| {name.replace('|', chr(92) + '|')} | " + " | ".join(text.strip() for text in texts) + " |")
    return "\n".join(lines)


def headline(runs: Runs, declared: Declared) -> str:
    """The table in a sentence: the first three columns' values of every run, in the order of the runs."""
    titles, cells = comparison_cells(runs, declared)
    shown = min(3, len(titles))
    figures = ", ".join(f"{name} {' / '.join(cell.value for cell in row[:shown])}" for name, row in cells.items())
    return f"{' / '.join(titles[:shown])}: {figures}"


def _place(row: Row) -> tuple[str, str, float | None, str]:
    return row.suite, row.case, row.severity, row.metric


def _columns(declared: Declared) -> dict[tuple[str, str, float | None, str], Column]:
    """The columns by the place of their rows, the secondary ones behind the others."""
    found: dict[tuple[str, str, float | None, str], Column] = {}
    for declaration in declared:
        for column in declaration.columns:
            found.setdefault((declaration.suite, column.case, column.level, column.metric), column)
    return dict(sorted(found.items(), key=lambda item: item[1].secondary))


def _best(column: Column, values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    if not known or column.direction is None:
        return None
    return max(known) if column.direction == "higher" else min(known)


def _cell(row: Row | None, column: Column, best: float | None) -> Cell:
    if row is None:
        return Cell("–", "", False)
    value = column.text(row.value)
    if row.low is None or row.high is None:
        return Cell(value, "", row.value == best)
    return Cell(value, f"[{column.text(row.low)}, {column.text(row.high)}]", row.value == best)


def _rich(cell: Cell) -> str:
    value = f"[bold]{cell.value}[/bold]" if cell.best else cell.value
    return f"{value} [dim]\\{cell.interval}[/dim]" if cell.interval else value
