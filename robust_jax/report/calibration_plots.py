"""Plots of rows about calibration: under shift, over coverage, and of what members disagree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from robust_jax.corruptions import COMPONENTS
from robust_jax.report.plots import INK, STYLE, Runs, colours, name_runs, panels, plain, svg
from robust_jax.types import Row

SUITES = ("calibration", "common_corruptions")
"""Whose rows are taken, the first that a run has."""
KINDS = ("rotation", "translation")
UNITS = {"rotation": "degrees", "translation": "pixels"}
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


def severity_box_plots(runs: Runs) -> str | None:
    """Error, NLL, Brier score and ECE by severity: of each run a box over the corruptions, as in arXiv 1906.02530.

    Boxes are of quartiles, whiskers reach to the best and the worst corruption; at severity 0 are clean images.

    None if no run has been evaluated under two corruptions or more.
    """
    errors = [corruption_values(rows, "error") for rows in runs.values()]
    severities = sorted({severity for run in errors for severity in run} - {0.0})
    if all(len(run.get(severity, [])) < 2 for run in errors for severity in severities):
        return None
    with matplotlib.rc_context(STYLE):
        width = 1.2 + 0.16 * len(runs) * (1 + len(severities))
        figure, axes = panels(4, columns=2, size=(max(width, 3.4), 2.2), xlabel="severity", ylabel="", sharex=True)
        for axis, measure in zip(axes, MEASURES, strict=True):
            for i, (colour, (name, rows)) in enumerate(zip(colours(len(runs)), runs.items(), strict=True)):
                values = corruption_values(rows, measure.metric)
                _draw_boxes(axis, [values.get(s, []) for s in (0.0, *severities)], i, len(runs), measure.scale, colour)
                axis.plot([], [], color=colour, linewidth=5, label=plain(name))
            axis.set_xticks(range(len(severities) + 1), ["clean", *(f"{severity:g}" for severity in severities)])
            axis.set_title(measure.title)
            axis.set_ylim(bottom=0)
            axis.grid(axis="y")
        name_runs(figure, axes[0], runs)
        return svg(figure, "severity-boxes")


def geometry_curves(runs: Runs) -> str | None:
    """Error, NLL and ECE of turned and of moved images against how far, a line for each run, with interval bands.

    None if no run has been evaluated on such.
    """
    kinds = [kind for kind in KINDS if any(row.case == kind for rows in runs.values() for row in _shifted(rows))]
    if not kinds:
        return None
    shown = [measure for measure in MEASURES if measure.metric != "brier"]
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(len(kinds) * len(shown), columns=3, size=(3.4, 2.2), xlabel="", ylabel="")
        places = [(kind, measure) for kind in kinds for measure in shown]
        for axis, (kind, measure) in zip(axes, places, strict=True):
            for colour, (name, rows) in zip(colours(len(runs)), runs.items(), strict=True):
                curve = [r for r in _shifted(rows) if r.case in (kind, "clean") and r.metric == measure.metric]
                _draw_line(axis, curve, measure.scale, colour, name)
            axis.set(xlabel=f"{kind}, {UNITS[kind]}", ylabel=measure.title)
            axis.set_ylim(bottom=0)
            axis.grid()
        name_runs(figure, axes[0], runs)
        return svg(figure, "geometry")


def risk_coverage_curves(runs: Runs) -> str | None:
    """Error among the predictions of greatest confidence against their share, a line for each run.

    None if no run has such a curve.
    """
    curves = {
        name: [r for r in rows if (r.suite, r.case) == ("calibration", "coverage")] for name, rows in runs.items()
    }
    if not any(curves.values()):
        return None
    with matplotlib.rc_context(STYLE):
        figure, (axis,) = panels(1, columns=1, size=(5.2, 3.2), xlabel="coverage", ylabel="error %")
        for colour, (name, curve) in zip(colours(len(runs)), curves.items(), strict=True):
            _draw_line(axis, curve, 100, colour, name)
        axis.set_xlim(0, 1)
        axis.set_ylim(bottom=0)
        axis.grid()
        name_runs(figure, axis, runs)
        return svg(figure, "risk-coverage")


def member_disagreement(runs: Runs) -> str | None:
    """How often two members predict different classes in %, by pair, a panel for each run; on the diagonal their error.

    None if no run has members.
    """
    matrices = {name: disagreement_matrix(rows) for name, rows in runs.items()}
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


def corruption_values(rows: Sequence[Row], metric: str) -> dict[float, list[float]]:
    """Values of a metric over the corruptions, by severity; at severity 0 that of clean images."""
    values: dict[float, list[float]] = {}
    for row in _shifted(rows):
        if row.metric == metric and (row.case in COMPONENTS or row.case == "clean"):
            values.setdefault(row.severity or 0.0, []).append(row.value)
    return values


def disagreement_matrix(rows: Sequence[Row]) -> np.ndarray | None:
    """Disagreement ``[members, members]``, with errors on the diagonal; None without members."""
    found = {
        row.case: row.value for row in rows if row.suite == "diversity" and row.metric in ("error", "disagreement")
    }
    size = sum(case.startswith("member ") for case in found)
    if not size:
        return None
    matrix = np.full((size, size), np.nan)
    for i in range(size):
        matrix[i, i] = found[f"member {i}"]
        for j in range(i + 1, size):
            matrix[i, j] = matrix[j, i] = found[f"members {i}-{j}"]
    return matrix


def _shifted(rows: Sequence[Row]) -> list[Row]:
    """Cases under shift, and the clean one, of the first suite that there is."""
    for suite in SUITES:
        found = [row for row in rows if row.suite == suite and row.severity is not None]
        if found:
            clean = [row for row in rows if (row.suite, row.case) == ("clean", "clean")]
            return found if suite == "calibration" else [*clean, *found]
    return []


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


def _draw_line(axis: Axes, rows: Sequence[Row], scale: float, colour: str, name: str) -> None:
    rows = sorted(rows, key=lambda row: row.severity or 0.0)
    at = [row.severity or 0.0 for row in rows]
    axis.plot(
        at, [scale * row.value for row in rows], "o-", color=colour, markersize=3, linewidth=1.4, label=plain(name)
    )
    low, high = (
        [scale * (row.value if getattr(row, bound) is None else getattr(row, bound)) for row in rows]
        for bound in ("low", "high")
    )
    axis.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
