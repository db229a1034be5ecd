"""Declarations of suites: the columns, figures and tables in which the report shows their rows.

The report knows no suite by name. A suite says which of its rows are the columns of the table of runs, and which are
drawn how; the declarations are saved beside the rows.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

__all__ = [
    "CaseTable",
    "Column",
    "Curves",
    "Declaration",
    "LevelGrid",
    "LevelTable",
    "MemberMatrix",
    "Panel",
    "Reliability",
    "Shift",
]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: one metric of one case of a suite.

    Raises:
        ValueError: if the direction is unknown or the scale is not positive.
    """

    title: str
    """Heading, with the unit, such as ``"clean error %"``."""
    case: str
    """Case of its rows."""
    metric: str
    """Metric of its rows."""
    level: float | None = None
    """Severity or radius of its rows."""
    scale: float = 1
    """Factor from the row's value to the unit of the heading: 100 for percent."""
    digits: int = 2
    """Digits after the point."""
    direction: Literal["lower", "higher"] | None = "lower"
    """Which values are better; None where none are."""
    secondary: bool = False
    """Whether it stands behind the other columns of all suites."""
    format: str | None = None
    """Format of the number in place of ``digits``, such as ``".3g"``."""

    def __post_init__(self):
        if self.direction not in ("lower", "higher", None):
            raise ValueError(f"Expected direction 'lower', 'higher' or None, got {self.direction!r}.")
        if not self.scale > 0:
            raise ValueError(f"Expected scale > 0, got {self.scale!r}; direction says which values are better.")

    @property
    def heading(self) -> str:
        """Title, with an arrow where higher values are better."""
        return f"{self.title} ↑" if self.direction == "higher" else self.title

    def text(self, value: float) -> str:
        """Return a value of its rows, scaled and rounded."""
        # Without the sign that a negative value keeps when it is rounded to 0.
        text = format(value * self.scale, self.format or f".{self.digits}f")
        return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


@dataclasses.dataclass(frozen=True)
class Panel:
    """One panel of curves: a metric of some cases against the level of their rows."""

    title: str
    cases: tuple[str, ...]
    metric: str
    xlabel: str
    ylabel: str
    scale: float = 100
    """Factor from the row's value to the unit of the label."""


@dataclasses.dataclass(frozen=True)
class Curves:
    """Values against levels: a panel for each group of cases, a line for each run, a band for its intervals."""

    title: str
    caption: str
    panels: tuple[Panel, ...]
    log: bool = False
    """Whether levels are on a logarithmic axis."""
    baseline: bool = False
    """Whether a dotted line shows the value on unchanged images."""


@dataclasses.dataclass(frozen=True)
class LevelGrid:
    """Cases in groups, each at several levels: a heat map of errors, a curve for each group, boxes over all cases."""

    groups: tuple[tuple[str, tuple[str, ...]], ...]
    """Title and cases of each group."""


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Accuracy against confidence: each bin of a reliability diagram is a case, with rows of both metrics."""

    prefix: str = "bin "
    """Start of the names of its cases."""


@dataclasses.dataclass(frozen=True)
class MemberMatrix:
    """Disagreement of members: rows of cases ``members I-J``, and errors of cases ``member I`` on the diagonal."""


@dataclasses.dataclass(frozen=True)
class Shift:
    """Error under a shift, to be set against the error on clean images; the effective robustness of runs."""

    title: str
    case: str
    metric: str
    clean: tuple[str, str] | None = None
    """Case and metric of the error on clean images, of the same suite; None takes that of the baseline."""
    natural: bool = False
    """Whether it is drawn also where there are no standard models to fit a line to."""


@dataclasses.dataclass(frozen=True)
class CaseTable:
    """A table with a line for each case and run: its level, and a column for each metric."""

    title: str
    heading: str
    """Heading of the cases."""
    columns: tuple[Column, ...]
    """Columns; their cases and levels are those of the line."""


@dataclasses.dataclass(frozen=True)
class LevelTable:
    """A table with a line for each run and level: a column for each case."""

    title: str
    heading: str
    """Heading of the levels."""
    columns: tuple[Column, ...]
    """Columns; their level is that of the line."""


Figure = Curves | LevelGrid | Reliability | MemberMatrix | Shift | CaseTable | LevelTable


@dataclasses.dataclass(frozen=True)
class Declaration:
    """How the report shows the rows that bear the name of a suite."""

    suite: str
    """Name of the suite in rows."""
    columns: tuple[Column, ...] = ()
    """Columns of the table of runs, the most important first."""
    figures: tuple[Figure, ...] = ()
    """Figures and tables of their own."""
    baseline: str | None = None
    """Case that holds the values on unchanged images, if there is one."""
