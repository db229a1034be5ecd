"""Curves: values against a severity or a radius, in the panels that suites declare."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from robust_jax.declarations import Curves, Panel
from robust_jax.report.plots import (
    STYLE,
    Declared,
    Runs,
    colours,
    draw_baseline,
    draw_curve,
    figures_of,
    level,
    name_runs,
    panels,
    plain,
    svg,
)
from robust_jax.types import Row

TICKS = 4


def curve_figures(runs: Runs, declared: Declared) -> list[tuple[Curves, str]]:
    """Return the curves that there are rows for, with their declarations."""
    drawn = ((figure, draw_curves(runs, suite, figure, declared)) for suite, figure in figures_of(declared, Curves))
    return [(figure, text) for figure, text in drawn if text is not None]


def draw_curves(runs: Runs, suite: str, figure: Curves, declared: Declared) -> str | None:
    """Draw a panel for each group of cases and a line for each run, with bands of intervals; None without rows."""
    curves = {panel: {name: _curve(rows, suite, panel) for name, rows in runs.items()} for panel in figure.panels}
    curves = {panel: lines for panel, lines in curves.items() if any(lines.values())}
    if not curves:
        return None
    labels = [{getattr(panel, name) for panel in curves} for name in ("xlabel", "ylabel")]
    xlabel, ylabel = (names.pop() if len(names) == 1 else "" for names in labels)
    with matplotlib.rc_context(STYLE):
        drawn, axes = panels(len(curves), columns=3, size=(3.4, 2.2), xlabel=xlabel, ylabel=ylabel, sharey=bool(ylabel))
        for axis, (panel, lines) in zip(axes, curves.items(), strict=True):
            if figure.log:
                axis.set_xscale("log")
            for colour, name in zip(colours(len(runs)), runs, strict=True):
                draw_curve(axis, lines[name], colour, name, scale=panel.scale)
                if figure.baseline:
                    draw_baseline(axis, runs[name], declared, colour, panel.metric, panel.scale)
            if figure.log:
                _mark_levels(axis, sorted({level(row) for rows in lines.values() for row in rows}))
            axis.set_title(plain(panel.title))
            if not xlabel:
                axis.set_xlabel(panel.xlabel)
            if not ylabel:
                axis.set_ylabel(panel.ylabel)
            axis.set_ylim(bottom=0)
            axis.grid()
        name_runs(drawn, axes[0], runs)
        return svg(drawn, f"{suite}-{figure.title}".lower().replace(" ", "-"))


def _curve(rows: Sequence[Row], suite: str, panel: Panel) -> list[Row]:
    return [row for row in rows if row.suite == suite and row.metric == panel.metric and row.case in panel.cases]


def _mark_levels(axis: Axes, levels: Sequence[float]) -> None:
    """A few of the levels themselves as ticks; powers of ten would leave short axes with one tick or none."""
    wanted = np.geomspace(levels[0], levels[-1], TICKS)
    shown = sorted({min(levels, key=lambda eps: abs(math.log(eps / mark))) for mark in wanted})
    axis.set_xticks(shown, [_short(eps) for eps in shown])
    axis.set_xticks([], minor=True)


def _short(eps: float) -> str:
    return f"{eps / 1000:.3g}k" if eps >= 1000 else f"{eps:.0f}" if eps >= 100 else f"{eps:.3g}"
