"""Robustness of several runs beyond what their accuracy explains (Taori et al., arXiv 2007.00644)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from robust_jax import metrics
from robust_jax.declarations import Shift
from robust_jax.metrics import Baseline
from robust_jax.report.plots import SOFT, STYLE, Declared, Runs, baseline_row, colours, figures_of, panels, plain, svg
from robust_jax.types import Row

STANDARD = "standard"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
COLUMNS = 3


class Pair(NamedTuple):
    """Rows of the error on clean examples and under one shift."""

    clean: Row
    shifted: Row
    natural: bool


class Effective(NamedTuple):
    """Effective and relative robustness of one run under one shift; effective is None where there is no line."""

    shift: str
    run: str
    clean_accuracy: float
    shifted_accuracy: float
    effective: float | None
    relative: float


def effective_robustness_plot(runs: Runs, declared: Declared) -> str | None:
    """Accuracy under shift against clean accuracy on logit axes, a panel for each shift and a point for each run.

    The line is fitted to standard models, the runs whose names begin with ``standard``, where there are two or more of
    differing accuracy; above it is effective robustness. Dashed, no loss. Bars are 95 % intervals.

    None if there are no two runs on a natural shift, nor a line for corruptions.
    """
    shifts = _panels(runs, declared)
    if not shifts:
        return None
    with matplotlib.rc_context(STYLE):
        xlabel, ylabel = "clean accuracy %", "accuracy under shift %"
        figure, axes = panels(len(shifts), columns=COLUMNS, size=(3.5, 3.3), xlabel=xlabel, ylabel=ylabel)
        shades = dict(zip(runs, colours(len(runs)), strict=True))
        for axis, (shift, pairs) in zip(axes, shifts.items(), strict=True):
            _draw_panel(axis, pairs, _line(pairs), shades)
            axis.set_title(plain(shift))
        handles = {
            label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=min(5, len(handles)))
        return svg(figure, "effective-robustness")


def effective_robustness_table(runs: Runs, declared: Declared) -> list[Effective]:
    """Every run under every shift that is plotted; relative to the first run that is there."""
    found = []
    for shift, pairs in _panels(runs, declared).items():
        line, baseline = _line(pairs), next(iter(pairs.values()))
        for name, pair in pairs.items():
            clean, shifted = 1 - pair.clean.value, 1 - pair.shifted.value
            inside = _inside(pair)[0]
            effective = (
                None if line is None else float(metrics.effective_robustness(np.array(inside), np.array(shifted), line))
            )
            relative = float(metrics.relative_robustness(np.array(shifted), np.array(1 - baseline.shifted.value)))
            found.append(Effective(shift, name, clean, float(shifted), effective, relative))
    return found


def shift_pairs(rows: Sequence[Row], declared: Declared) -> dict[str, Pair]:
    """Errors on clean examples and under every shift that suites declare and a run was tested on."""
    found = {(row.suite, row.case, row.metric): row for row in rows}
    baseline, pairs = baseline_row(rows, declared, "error"), {}
    for suite, shift in figures_of(declared, Shift):
        clean = baseline if shift.clean is None else found.get((suite, *shift.clean))
        shifted = found.get((suite, shift.case, shift.metric))
        if clean is not None and shifted is not None:
            pairs.setdefault(shift.title, Pair(clean, shifted, shift.natural))
    return pairs


def _panels(runs: Runs, declared: Declared) -> dict[str, dict[str, Pair]]:
    """By shift and run; corruptions, which other figures show, only where there is a line."""
    found: dict[tuple[str, str], dict[str, Pair]] = {}
    for name, rows in runs.items():
        for shift, pair in shift_pairs(rows, declared).items():
            found.setdefault((shift, pair.clean.dataset), {})[name] = pair
    panels = {}
    for (shift, dataset), pairs in found.items():
        natural = any(pair.natural for pair in pairs.values())
        if len(pairs) > 1 and (natural or _line(pairs) is not None):
            # Models of several data sets have a line on each.
            several = sum(other == shift for other, _ in found) > 1
            panels[f"{shift} ({dataset})" if several else shift] = pairs
    return panels


def _line(pairs: Mapping[str, Pair]) -> Baseline | None:
    points = np.array([_inside(pair) for name, pair in pairs.items() if name.rsplit("/")[-1].startswith(STANDARD)])
    if len(points) < 2 or len(np.unique(points[:, 0])) < 2:
        return None
    return metrics.fit_baseline(points[:, 0], points[:, 1])


def _inside(pair: Pair) -> tuple[float, float]:
    """Accuracies, half an example away from 0 and 1, whose logits are infinite."""
    return _clip(1 - pair.clean.value, pair.clean), _clip(1 - pair.shifted.value, pair.shifted)


def _clip(accuracy: float, row: Row) -> float:
    margin = 0.5 / row.count
    return float(np.clip(accuracy, margin, 1 - margin))


def _draw_panel(axis: Axes, pairs: Mapping[str, Pair], line: Baseline | None, shades: Mapping[str, str]) -> None:
    points = np.array([_inside(pair) for pair in pairs.values()])
    axis.set_xscale("logit")
    axis.set_yscale("logit")
    for (name, pair), (x, y) in zip(pairs.items(), points, strict=True):
        bars = [np.abs(np.array([_bounds(row)]).T - at) for row, at in ((pair.clean, x), (pair.shifted, y))]
        marker = "o" if name.rsplit("/")[-1].startswith(STANDARD) else "D"
        axis.errorbar(
            x, y, xerr=bars[0], yerr=bars[1], fmt=marker, color=shades[name], markersize=5, elinewidth=0.8,
            label=plain(name),
        )  # fmt: skip
    limits = [_limits(points[:, i]) for i in range(2)]
    first, last = (float(np.log(p / (1 - p))) for p in limits[0])
    x = 1 / (1 + np.exp(-np.linspace(first, last, 50)))
    axis.plot(x, x, "--", color=SOFT, linewidth=1)
    if line is not None:
        axis.plot(x, line(x), color=SOFT, linewidth=1.2, label="fit to standard models")
    axis.set(xlim=limits[0], ylim=limits[1])
    for which, (low, high) in zip((axis.xaxis, axis.yaxis), limits, strict=True):
        shown = [tick for tick in TICKS if low <= tick <= high]
        which.set_ticks(shown, [f"{100 * tick:g}" for tick in shown])
        which.set_ticks([], minor=True)
    axis.grid()


def _bounds(row: Row) -> tuple[float, float]:
    """Of the accuracy."""
    low, high = (row.value if bound is None else bound for bound in (row.low, row.high))
    return _clip(1 - high, row), _clip(1 - low, row)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Half a unit of logits around the points."""
    logits = np.log(values / (1 - values))
    low, high = (float(1 / (1 + np.exp(-edge))) for edge in (logits.min() - 0.5, logits.max() + 0.5))
    return low, high
