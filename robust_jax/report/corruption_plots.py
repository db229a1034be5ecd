"""Plots of rows about named corruptions: heat maps of corruption and severity, and curves by what is intervened on."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_jax.corruptions import COMPONENTS, VARIABLES
from robust_jax.report.plots import INK, SOFT, STYLE, Runs, colours, draw_clean_error, name_runs, panels, plain, svg
from robust_jax.types import Row

SUITES = ("common_corruptions", "corruptions_bar", "interventions")
# Dark text on light cells, light on dark ones; the colour map is the same on light and on dark paper.
COLOUR_MAP, DARK_FROM = "YlOrBr", 0.62

Errors = dict[str, dict[float, float]]
"""Error by corruption and severity."""


def severity_heat_map(runs: Runs) -> str | None:
    """Errors in % by corruption and severity, a panel for each run, corruptions grouped by their variable.

    None if no run has been evaluated under named corruptions.
    """
    errors = {name: corruption_errors(rows) for name, rows in runs.items()}
    names = _grouped({name for run in errors.values() for name in run})
    if not names:
        return None
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
        _label_groups(axes[-1], names)
        return svg(figure, "heat-map")


def severity_curves(runs: Runs) -> str | None:
    """Mean error against severity, a panel for each variable of the imaging process and a line for each run.

    None if no run has been evaluated under named corruptions at more than one severity.
    """
    errors = {name: corruption_errors(rows) for name, rows in runs.items()}
    names = _grouped({name for run in errors.values() for name in run})
    variables = list(dict.fromkeys(COMPONENTS[name].variable for name in names))
    if not names or len({s for run in errors.values() for cells in run.values() for s in cells}) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(
            len(variables), columns=4, size=(2.6, 2.1), xlabel="severity", ylabel="error %", sharex=True, sharey=True
        )
        for axis, variable in zip(axes, variables, strict=True):
            members = [name for name in names if COMPONENTS[name].variable == variable]
            for colour, (name, run) in zip(colours(len(errors)), errors.items(), strict=True):
                curve = _mean_curve([run[member] for member in members if member in run])
                axis.plot(*curve, "o-", color=colour, markersize=3, linewidth=1.4, label=plain(name))
                draw_clean_error(axis, runs[name], colour)
            axis.set_title(f"{variable} ({len(members)})")
            axis.grid()
        axes[0].set_ylim(bottom=0)
        name_runs(figure, axes[0], runs)
        return svg(figure, "severity")


def corruption_errors(rows: Sequence[Row]) -> Errors:
    """Error by corruption and severity, from the rows of any suite of named corruptions."""
    errors: Errors = {}
    for row in rows:
        known = row.suite in SUITES and row.metric == "error" and row.case in COMPONENTS
        if known and row.severity is not None:
            errors.setdefault(row.case, {})[row.severity] = row.value
    return errors


def _grouped(names: set[str]) -> list[str]:
    """By variable, and within one in the order of the benchmarks."""
    order = list(COMPONENTS)
    return sorted(names, key=lambda name: (VARIABLES.index(COMPONENTS[name].variable), order.index(name)))


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


def _label_groups(axis: Axes, names: Sequence[str]) -> None:
    """Variables at the right, with a line between groups."""
    variables = [COMPONENTS[name].variable for name in names]
    for variable in dict.fromkeys(variables):
        places = [i for i, other in enumerate(variables) if other == variable]
        axis.annotate(
            variable,
            (1.0, np.mean(places)),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=SOFT,
        )
    for panel in axis.figure.axes:
        for i in range(1, len(variables)):
            if variables[i] != variables[i - 1]:
                panel.axhline(i - 0.5, color=INK, linewidth=0.6)
