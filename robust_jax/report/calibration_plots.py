"""Plots of rows about uncertainty: calibration by severity, and disagreement of members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from robust_jax.declarations import LevelGrid, MemberMatrix
from robust_jax.report.plots import (
    INK,
    STYLE,
    Declared,
    Runs,
    baseline_row,
    colours,
    figures_of,
    name_runs,
    panels,
    plain,
    svg,
)
from robust_jax.types import Row

# Dark text on light cells, light on dark ones.
COLOUR_MAP, DARK_FROM = "YlOrBr", 0.62


class Measure(NamedTuple):
    """A metric as it is drawn."""

    metric: str
    title: str
    scale: float


MEASURES = (
    Measure("error", "error %", 100),
    Measure("nll", "NLL", 1),
    Measure("brier", "Brier", 1),
    Measure("ece", "ECE %", 100),
)


def severity_box_plots(runs: Runs, declared: Declared) -> str | None:
    """Error, NLL, Brier score and ECE by severity: of each run a box over the cases, as in arXiv 1906.02530.

    Boxes are of quartiles, whiskers reach to the best and the worst case; at severity 0 are clean images.

    None if no run has two cases or more.
    """
    errors = [case_values(rows, declared, "error") for rows in runs.values()]
    severities = sorted({severity for run in errors for severity in run} - {0.0})
    if all(len(run.get(severity, [])) < 2 for run in errors for severity in severities):
        return None
    with matplotlib.rc_context(STYLE):
        width = 1.2 + 0.16 * len(runs) * (1 + len(severities))
        figure, axes = panels(4, columns=2, size=(max(width, 3.4), 2.2), xlabel="severity", ylabel="", sharex=True)
        for axis, measure in zip(axes, MEASURES, strict=True):
            for i, (colour, (name, rows)) in enumerate(zip(colours(len(runs)), runs.items(), strict=True)):
                values = case_values(rows, declared, measure.metric)
                _draw_boxes(axis, [values.get(s, []) for s in (0.0, *severities)], i, len(runs), measure.scale, colour)
                axis.plot([], [], color=colour, linewidth=5, label=plain(name))
            axis.set_xticks(range(len(severities) + 1), ["clean", *(f"{severity:g}" for severity in severities)])
            axis.set_title(measure.title)
            axis.set_ylim(bottom=0)
            axis.grid(axis="y")
        name_runs(figure, axes[0], runs)
        return svg(figure, "severity-boxes")


def member_disagreement(runs: Runs, declared: Declared) -> str | None:
    """How often two members predict different classes in %, by pair, a panel for each run; on the diagonal their error.

    None if no run has members.
    """
    matrices = {name: disagreement_matrix(rows, declared) for name, rows in runs.items()}
    matrices = {name: matrix for name, matrix in matrices.items() if matrix is not None}
    if not matrices:
        return None
    highest = max(np.nanmax(matrix) for matrix in matrices.values())
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(len(matrices), columns=4, size=(2.8, 2.5), xlabel="member", ylabel="member")
        for axis, (name, matrix) in zip(axes, matrices.items(), strict=True):
            axis.imshow(matrix, cmap=COLOUR_MAP, vmin=0, vmax=highest or 1, interpolation="none")
            for i, j in np.argwhere(np.isfinite(matrix)):
                colour = "#ffffff" if matrix[i, j] > DARK_FROM * highest else "#1d2330"
                axis.text(j, i, f"{100 * matrix[i, j]:.1f}", ha="center", va="center", fontsize=6, color=colour)
            axis.set(xticks=range(len(matrix)), yticks=range(len(matrix)), title=plain(name))
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
        return svg(figure, "members")


def case_values(rows: Sequence[Row], declared: Declared, metric: str) -> dict[float, list[float]]:
    """Values of a metric over the cases of a grid, by severity; at severity 0 that of clean images.

    The grid is the first declared one that there are rows of.
    """
    for suite, grid in figures_of(declared, LevelGrid):
        cases = {case for _, members in grid.groups for case in members}
        clean = baseline_row(rows, declared, metric)
        values = {} if clean is None else {0.0: [clean.value]}
        found = [row for row in rows if row.suite == suite and row.metric == metric and row.case in cases]
        for row in found:
            values.setdefault(row.severity or 0.0, []).append(row.value)
        if found:
            return values
    return {}


def disagreement_matrix(rows: Sequence[Row], declared: Declared) -> np.ndarray | None:
    """Disagreement ``[members, members]``, with errors on the diagonal; None without members."""
    suites = {suite for suite, _ in figures_of(declared, MemberMatrix)}
    found = {row.case: row.value for row in rows if row.suite in suites and row.metric in ("error", "disagreement")}
    size = sum(case.startswith("member ") for case in found)
    if not size:
        return None
    matrix = np.full((size, size), np.nan)
    for i in range(size):
        matrix[i, i] = found[f"member {i}"]
        for j in range(i + 1, size):
            matrix[i, j] = matrix[j, i] = found[f"members {i}-{j}"]
    return matrix


def _draw_boxes(
    axis: Axes, values: Sequence[Sequence[float]], place: int, number: int, scale: float, colour: str
) -> None:
    """The boxes of one run, side by side with those of the others."""
    width = 0.8 / number
    filled = [i for i, group in enumerate(values) if group]
    line = {"color": colour, "linewidth": 1}
    axis.boxplot(
        [scale * np.array(values[i]) for i in filled],
        positions=[i + (place - (number - 1) / 2) * width for i in filled],
        widths=0.8 * width,
        whis=(0, 100),
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": to_rgba(colour, 0.35), "edgecolor": colour, "linewidth": 1},
        medianprops={"color": INK, "linewidth": 1.2},
        whiskerprops=line,
        capprops=line,
    )
