"""Plots of cases at several severities, as of named corruptions: heat maps, and curves of groups of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_jax.declarations import LevelGrid
from robust_jax.report.plots import (
    INK,
    SOFT,
    STYLE,
    Declared,
    Runs,
    colours,
    draw_baseline,
    figures_of,
    name_runs,
    panels,
    plain,
    svg,
)
from robust_jax.types import Row

# Dark text on light cells, light on dark ones; the colour map is the same on light and on dark paper.
COLOUR_MAP, DARK_FROM = "YlOrBr", 0.62

Errors = dict[str, dict[float, float]]
"""Error by corruption and severity."""


def severity_heat_map(runs: Runs, declared: Declared) -> str | None:
    """Errors in % by case and severity, a panel for each run, the cases in the groups that suites declare.

    None if no run has such cases.
    """
    errors = {name: case_errors(rows, declared) for name, rows in runs.items()}
    groups = _groups(errors, declared)
    if not groups:
        return None
    names = [name for members in groups.values() for name in members]
    severities = sorted({severity for run in errors.values() for cells in run.values() for severity in cells})
    shown = {name: run for name, run in errors.items() if run}
    with matplotlib.rc_context(STYLE):
        width = 3.2 + len(shown) * (0.6 + 0.38 * len(severities))
        figure = Figure(figsize=(width, 0.9 + 0.2 * len(names)), layout="constrained")
        axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for axis, (name, run) in zip(axes, shown.items(), strict=True):
            cells = np.array([[100 * run.get(case, {}).get(s, np.nan) for s in severities] for case in names])
            _draw_cells(axis, cells)
            axis.set_title(plain(name))
            axis.set_xticks(range(len(severities)), [f"{severity:g}" for severity in severities])
            axis.set_xlabel("severity")
        axes[0].set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        _label_groups(axes[-1], [group for group, members in groups.items() for _ in members])
        return svg(figure, "heat-map")


def severity_curves(runs: Runs, declared: Declared) -> str | None:
    """Mean error against severity, a panel for each group of cases and a line for each run.

    None if no run has such cases at more than one severity.
    """
    errors = {name: case_errors(rows, declared) for name, rows in runs.items()}
    groups = _groups(errors, declared)
    if not groups or len({s for run in errors.values() for cells in run.values() for s in cells}) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(
            len(groups), columns=4, size=(2.6, 2.1), xlabel="severity", ylabel="error %", sharex=True, sharey=True
        )
        for axis, (group, members) in zip(axes, groups.items(), strict=True):
            for colour, (name, run) in zip(colours(len(errors)), errors.items(), strict=True):
                curve = _mean_curve([run[member] for member in members if member in run])
                axis.plot(*curve, "o-", color=colour, markersize=3, linewidth=1.4, label=plain(name))
                draw_baseline(axis, runs[name], declared, colour, "error", 100)
            axis.set_title(f"{plain(group)} ({len(members)})")
            axis.grid()
        axes[0].set_ylim(bottom=0)
        name_runs(figure, axes[0], runs)
        return svg(figure, "severity")


def case_errors(rows: Sequence[Row], declared: Declared) -> Errors:
    """Return the error by case and severity, from the rows of all suites that declare a grid of cases."""
    places = {
        (suite, case) for suite, grid in figures_of(declared, LevelGrid) for _, cases in grid.groups for case in cases
    }
    errors: Errors = {}
    for row in rows:
        if row.metric == "error" and row.severity is not None and (row.suite, row.case) in places:
            errors.setdefault(row.case, {})[row.severity] = row.value
    return errors


def _groups(errors: Mapping[str, Errors], declared: Declared) -> dict[str, list[str]]:
    """The cases that there are, in their groups; those of several suites stand together."""
    known = {case for run in errors.values() for case in run}
    groups: dict[str, list[str]] = {}
    for _, grid in figures_of(declared, LevelGrid):
        for group, cases in grid.groups:
            members = groups.setdefault(group, [])
            members.extend(case for case in cases if case in known and case not in members)
    return {group: members for group, members in groups.items() if members}


def _mean_curve(cells: Sequence[dict[float, float]]) -> tuple[list[float], list[float]]:
    severities = sorted(set.intersection(*(set(run) for run in cells))) if cells else []
    return severities, [100 * float(np.mean([run[severity] for run in cells])) for severity in severities]


def _draw_cells(axis: Axes, cells: np.ndarray) -> None:
    axis.imshow(cells, cmap=COLOUR_MAP, vmin=0, vmax=100, aspect="auto", interpolation="none")
    for i, j in np.argwhere(np.isfinite(cells)):
        colour = "#ffffff" if cells[i, j] > 100 * DARK_FROM else "#1d2330"
        axis.text(j, i, f"{cells[i, j]:.0f}", ha="center", va="center", fontsize=6.5, color=colour)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def _label_groups(axis: Axes, groups: Sequence[str]) -> None:
    """Groups at the right, with a line between them."""
    for group in dict.fromkeys(groups):
        places = [i for i, other in enumerate(groups) if other == group]
        axis.annotate(
            plain(group),
            (1.0, np.mean(places)),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=SOFT,
        )
    for panel in axis.figure.axes:
        for i in range(1, len(groups)):
            if groups[i] != groups[i - 1]:
                panel.axhline(i - 0.5, color=INK, linewidth=0.6)
