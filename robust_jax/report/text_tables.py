"""Tables as texts: those of cases and of levels that suites declare."""

from __future__ import annotations

from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from robust_jax.declarations import CaseTable, Column, LevelTable
from robust_jax.report.plots import Declared, Runs, figures_of
from robust_jax.types import Row

MISSING = "–"


class TextTable(NamedTuple):
    """A table as texts; the first column names what a line is of."""

    titles: list[str]
    lines: list[list[str]]

    def markdown(self) -> str:
        """For a README."""
        head = ["| " + " | ".join(self.titles) + " |", "|---|" + "---:|" * (len(self.titles) - 1)]
        return "\n".join([*head, *("| " + " | ".join(line) + " |" for line in self.lines)])

    def terminal(self, title: str) -> Table:
        """For the terminal."""
        table = Table(title=title)
        for i, text in enumerate(self.titles):
            table.add_column(text, justify="right" if i else "left")
        for line in self.lines:
            table.add_row(*(escape(text) for text in line))
        return table


def suite_tables(runs: Runs, declared: Declared) -> dict[str, TextTable]:
    """Return the tables that suites declare and that there are rows for, by title."""
    tables = {figure.title: _level_table(runs, suite, figure) for suite, figure in figures_of(declared, LevelTable)}
    tables |= {figure.title: _case_table(runs, suite, figure) for suite, figure in figures_of(declared, CaseTable)}
    return {title: table for title, table in tables.items() if table.lines}


def _case_table(runs: Runs, suite: str, figure: CaseTable) -> TextTable:
    """A line for each case and run."""
    found: dict[tuple[str, float | None, str], dict[str, Row]] = {}
    for name, rows in runs.items():
        for row in rows:
            if row.suite == suite:
                found.setdefault((row.case, row.severity, name), {})[row.metric] = row
    several = len(runs) > 1
    lines = [
        [case, *([name] if several else []), _level(level), *(_cell(c, rows.get(c.metric)) for c in figure.columns)]
        for (case, level, name), rows in found.items()
    ]
    titles = [figure.heading, *(["run"] if several else []), "eps", *(column.title for column in figure.columns)]
    return TextTable(titles, lines)


def _level_table(runs: Runs, suite: str, figure: LevelTable) -> TextTable:
    """A line for each run and level."""
    found: dict[tuple[str, float | None], dict[tuple[str, str], Row]] = {}
    places = {(column.case, column.metric) for column in figure.columns}
    for name, rows in runs.items():
        for row in rows:
            if row.suite == suite and (row.case, row.metric) in places:
                found.setdefault((name, row.severity), {})[row.case, row.metric] = row
    columns = [c for c in figure.columns if any((c.case, c.metric) in rows for rows in found.values())]
    lines = [
        [name, _level(level), *(_value(column, rows.get((column.case, column.metric))) for column in columns)]
        for (name, level), rows in found.items()
    ]
    return TextTable(["run", figure.heading, *(column.title for column in columns)], lines)


def _level(level: float | None) -> str:
    return MISSING if level is None else f"{level:.4g}"


def _value(column: Column, row: Row | None) -> str:
    return MISSING if row is None else column.text(row.value)


def _cell(column: Column, row: Row | None) -> str:
    """The value, with its interval if it has one."""
    if row is None or row.low is None or row.high is None:
        return _value(column, row)
    return f"{_value(column, row)} [{column.text(row.low)}, {column.text(row.high)}]"
