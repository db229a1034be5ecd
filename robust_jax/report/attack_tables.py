"""What rows say of attacks: one table of many attacks, robust accuracies by AutoAttack, error against the radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
from rich.markup import escape
from rich.table import Table

from robust_jax.report.plots import STYLE, colours, draw_clean_error, draw_curve, name_runs, panels, svg
from robust_jax.types import Row

Runs = Mapping[str, Sequence[Row]]
COSTS = {"success_rate": "success %", "median_norm": "median norm", "queries": "queries", "gradients": "gradients"}


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


def attack_tables(runs: Runs) -> dict[str, TextTable]:
    """The tables that there are rows for, by title."""
    tables = {"Robust accuracy by AutoAttack, %": autoattack_table(runs), "Attacks": attack_survey_table(runs)}
    return {title: table for title, table in tables.items() if table is not None}


def attack_survey_table(runs: Runs) -> TextTable | None:
    """A line for each attack and run: what it broke, how small, and at what cost. None without such rows."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for name, rows in runs.items():
        for row in rows:
            if row.suite == "attack_survey":
                found.setdefault((row.case, name), {})[row.metric] = row
    if not found:
        return None
    lines = []
    for (case, name), rows in found.items():
        radius = rows["success_rate"].severity
        cells = [case, *([name] if len(runs) > 1 else []), "–" if radius is None else f"{radius:.4g}"]
        cells += [_cell(metric, rows.get(metric)) for metric in COSTS]
        cells.append(f"{1e3 * rows['seconds'].value:.3g}" if "seconds" in rows else "–")
        lines.append(cells)
    titles = ["attack", *(["run"] if len(runs) > 1 else []), "eps", *COSTS.values(), "ms per image"]
    return TextTable(titles, lines)


def autoattack_table(runs: Runs) -> TextTable | None:
    """Robust accuracies in % after each of AutoAttack's attacks, a line for each run and radius. None without them."""
    lines: dict[tuple[str, str, float | None], dict[str, str]] = {}
    titles = ["run", "eps"]
    for name, rows in runs.items():
        norm = next((row.case for row in rows if row.suite == "autoattack" and row.metric == "robust_accuracy"), "")
        for row in rows:
            if row.suite == "autoattack" and row.metric == "robust_accuracy_after":
                title = row.case if row.case == "clean" else f"after {row.case}"
                titles += [title] if title not in titles else []
                lines.setdefault((name, norm, row.severity), {})[title] = f"{100 * row.value:.2f}"
    if not lines:
        return None
    found = []
    for (name, norm, eps), cells in lines.items():
        radius = "–" if eps is None else f"{eps:.4g}"
        after = [cells.get(title, "–") for title in titles[2:]]
        found.append([name, f"{norm.removeprefix('AutoAttack ')} {radius}", *after])
    return TextTable(titles, found)


def adversarial_curves(runs: Runs) -> str | None:
    """Error against the radius, a panel for each attack and a line for each run; None without such rows."""
    curves: dict[str, dict[str, list[Row]]] = {}
    for name, rows in runs.items():
        for row in rows:
            if row.suite == "adversarial" and row.metric == "error" and ": " not in row.case:
                curves.setdefault(row.case, {}).setdefault(name, []).append(row)
    if not curves:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(len(curves), columns=3, size=(3.4, 2.2), xlabel="eps", ylabel="error %", sharey=True)
        for axis, (case, lines) in zip(axes, curves.items(), strict=True):
            for colour, name in zip(colours(len(runs)), runs, strict=True):
                draw_curve(axis, lines.get(name, []), colour, name)
                draw_clean_error(axis, runs[name], colour)
            axis.set_title(case)
            axis.grid()
        axes[0].set_ylim(bottom=0)
        name_runs(figure, axes[0], runs)
        return svg(figure, "adversarial")


def _cell(metric: str, row: Row | None) -> str:
    if row is None:
        return "–"
    if metric == "success_rate":
        interval = "" if row.low is None or row.high is None else f" [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        return f"{100 * row.value:.1f}{interval}"
    return f"{row.value:.4g}" if metric == "median_norm" else f"{row.value:,.0f}"
