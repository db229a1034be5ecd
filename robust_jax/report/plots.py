"""Plots of rows, as SVG text. Figures are made without pyplot, so nothing global is touched."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from robust_jax.types import Row

COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c")
Runs = Mapping[str, Sequence[Row]]


def error_curves(runs: Runs) -> str | None:
    """Error against eps, a panel for each norm and a line for each run, with interval bands."""
    curves = {name: _curves(rows) for name, rows in runs.items()}
    norms = list(dict.fromkeys(norm for run in curves.values() for norm in run))
    if not norms:
        return None
    columns = min(3, len(norms))
    lines = -(-len(norms) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.5 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axis, norm in zip(axes.flat, norms, strict=False):
        for colour, (name, run) in zip(_cycle(len(curves)), curves.items(), strict=True):
            rows = sorted(run.get(norm, []), key=lambda row: row.severity)
            eps = [row.severity for row in rows]
            axis.plot(eps, [100 * row.value for row in rows], "o-", color=colour, markersize=3, label=name)
            low, high = ([100 * getattr(row, bound) for row in rows] for bound in ("low", "high"))
            axis.fill_between(eps, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_xscale("log")
        axis.set_title(norm, fontsize=10)
        axis.grid(alpha=0.25)
    for axis in axes.flat[len(norms) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("error %")
    for axis in axes[-1]:
        axis.set_xlabel("eps")
    if len(runs) > 1:
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(6, len(runs)))
    return _svg(figure)


def reliability_diagram(runs: Runs) -> str | None:
    """Accuracy against confidence in bins; on the diagonal, confidence can be believed."""
    points = {name: _reliability(rows) for name, rows in runs.items()}
    if not any(points.values()):
        return None
    figure = Figure(figsize=(4.4, 4.0), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], "--", color="#888888", linewidth=1)
    for colour, (name, bins) in zip(_cycle(len(points)), points.items(), strict=True):
        confidence = [b["confidence"].value for b in bins]
        accuracy = [b["accuracy"] for b in bins]
        values = np.array([a.value for a in accuracy])
        errors = np.abs([[a.low for a in accuracy], [a.high for a in accuracy]] - values) if len(values) else None
        axis.errorbar(confidence, values, yerr=errors, fmt="o-", color=colour, markersize=4, capsize=2, label=name)
    axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.grid(alpha=0.25)
    if len(runs) > 1:
        axis.legend(fontsize=8)
    return _svg(figure)


def sample_grid(samples) -> str:
    """Images with what is predicted for them; wrong predictions in red."""
    rows, columns, height, width = samples.images.shape[:4]
    figure = Figure(figsize=(1.15 * columns, 1.3 * rows * height / width + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for i in range(rows):
        for j in range(columns):
            axis, image = axes[i, j], samples.images[i, j]
            axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
            right = samples.predictions[i][j] == samples.labels[i]
            text = f"{samples.predictions[i][j]} {100 * samples.confidences[i, j]:.0f} %"
            axis.set_xlabel(text, fontsize=7, color="#2a7f3f" if right else "#c0392b", labelpad=2)
            if i == 0:
                axis.set_title(samples.titles[j], fontsize=9)
    return _svg(figure)


def _curves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    curves: dict[str, list[Row]] = {}
    for row in rows:
        norm, _, radius = row.case.partition(" ")
        if row.suite == "random_lp" and row.metric == "error" and radius.startswith("eps="):
            curves.setdefault(norm, []).append(row)
    return curves


def _reliability(rows: Sequence[Row]) -> list[dict[str, Row]]:
    bins: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.suite == "clean" and row.case.startswith("bin "):
            bins.setdefault(row.case, {})[row.metric] = row
    return list(bins.values())


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # No date and fixed ids, so that equal rows give equal pages.
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = buffer.getvalue()
    return text[text.index("<svg") :]
