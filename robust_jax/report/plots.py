"""Plots of rows, as SVG to stand in a page, whose colours of ink, soft ink and lines they take.

Figures are made without pyplot, so nothing global is kept.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_jax.declarations import Declaration, Reliability
from robust_jax.types import Row

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

COLOURS = ("#3b78c2", "#e07b39", "#3f9e63", "#cc4c55", "#8a6cc0", "#94735a", "#d377b5", "#7f8894")
# Placeholders: each becomes a variable of the page's style, so that a plot is legible on light and on dark paper.
INK, SOFT = "#010203", "#040506"
# Outside a page, in a notebook, the colours for light paper stand in.
VARIABLES = {INK: "var(--ink, #1d2330)", SOFT: "var(--soft, #5c6475)"}
STYLE: dict[RcKeyType, str | bool | float] = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "figure.facecolor": "none",
    "grid.color": SOFT,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
Runs = Mapping[str, Sequence[Row]]
Declared = Sequence[Declaration]
F = TypeVar("F")


class Samples(Protocol):
    """A grid of images: a row for each example, a column for each way it was shown."""

    @property
    def images(self) -> UInt8[np.ndarray, "rows columns h w c"]: ...

    @property
    def titles(self) -> list[str]:
        """Titles of the columns."""
        ...

    @property
    def predictions(self) -> list[list[str]]:
        """Predicted class names, or any other text about each image, by row and column."""
        ...

    @property
    def confidences(self) -> Float[np.ndarray, "rows columns"] | None:
        """Confidences of the predictions; None if the texts are not classes."""
        ...

    @property
    def labels(self) -> list[str]:
        """True class names, by row."""
        ...


def reliability_diagram(runs: Runs, declared: Declared) -> str | None:
    """Accuracy against confidence in bins; on the diagonal, confidence can be believed. Larger marks, more examples.

    None if no run has bins of confidence.
    """
    points = {name: _reliability(rows, declared) for name, rows in runs.items()}
    if not any(points.values()):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], "--", color=SOFT, linewidth=1)
        for colour, (name, bins) in zip(colours(len(points)), points.items(), strict=True):
            confidence = np.array([b["confidence"].value for b in bins])
            accuracy, low, high = (
                np.array([getattr(b["accuracy"], f) for b in bins]) for f in ("value", "low", "high")
            )
            count = np.array([b["accuracy"].count for b in bins], float)
            axis.plot(confidence, accuracy, color=colour, linewidth=1, alpha=0.5)
            axis.vlines(confidence, low, high, color=colour, linewidth=1, alpha=0.7)
            sizes = 12 + 90 * count / max(count.max(initial=1), 1)
            axis.scatter(confidence, accuracy, s=sizes, color=colour, label=plain(name), clip_on=False, zorder=3)
        axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.grid()
        if len(runs) > 1:
            axis.legend(loc="upper left")
        return svg(figure, "reliability")


def sample_grid(samples: Samples) -> str:
    """Images with what is predicted for them and how surely; wrong predictions in red, true classes at the left.

    Without confidences, what is said of the images is no prediction and has no colour.
    """
    rows, columns, height, width = samples.images.shape[:4]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.1 * columns + 0.4, 1.3 * rows * height / width + 0.3), layout="constrained")
        axes: list[list[Axes]] = figure.subplots(rows, columns, squeeze=False).tolist()
        for i, j in np.ndindex(rows, columns):
            axis, image = axes[i][j], samples.images[i, j]
            # Pixels as they are: smoothing would hide the very noise that is to be seen.
            shown = image.squeeze(-1) if image.shape[-1] == 1 else image
            axis.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="none")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            text, colour = plain(samples.predictions[i][j]), INK
            if samples.confidences is not None:
                text = f"{text} {100 * samples.confidences[i, j]:.0f} %"
                colour = "#2f9e55" if samples.predictions[i][j] == samples.labels[i] else "#d9483b"
            axis.set_xlabel(text, fontsize=7, color=colour, labelpad=2)
            if i == 0:
                axis.set_title(plain(samples.titles[j]), fontsize=9)
            if j == 0:
                axis.set_ylabel(plain(samples.labels[i]), fontsize=8)
        return svg(figure, "samples")


def panels(
    number: int,
    *,
    columns: int,
    size: tuple[float, float],
    xlabel: str,
    ylabel: str,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels in at most so many columns, each of a size in inches; the outer ones are labelled."""
    columns = min(columns, number)
    lines = -(-number // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * lines + 0.3), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=sharex, sharey=sharey)
    for axis in axes.flat[number:]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel(ylabel)
    for axis in axes[-1]:
        axis.set_xlabel(xlabel)
    return figure, list(axes.flat[:number])


def name_runs(figure: Figure, axis: Axes, runs: Runs) -> None:
    """A legend above the panels, of what one of them shows, where there are several runs."""
    if len(runs) > 1:
        # A letter takes about 0.07 inches, a handle and its gaps 0.6: no more names beside each other than fit.
        fitting = int(figure.get_figwidth() / (0.07 * max(map(len, runs)) + 0.6))
        columns = max(1, min(6, len(runs), fitting))
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=columns)


def baseline_row(rows: Sequence[Row], declared: Declared, metric: str) -> Row | None:
    """Return a run's row of a metric on unchanged images, if a suite declares it."""
    places = {(declaration.suite, declaration.baseline) for declaration in declared if declaration.baseline is not None}
    return next((row for row in rows if row.metric == metric and (row.suite, row.case) in places), None)


def draw_baseline(axis: Axes, rows: Sequence[Row], declared: Declared, colour: str, metric: str, scale: float) -> None:
    """Draw a dotted line at a run's value on unchanged images, where it is known."""
    row = baseline_row(rows, declared, metric)
    if row is not None:
        axis.axhline(scale * row.value, color=colour, linestyle=":", linewidth=1)


def draw_curve(axis: Axes, rows: Sequence[Row], colour: str, name: str, *, scale: float) -> None:
    """Draw scaled values against severities, with a band of intervals."""
    rows = sorted(rows, key=level)
    at = [level(row) for row in rows]
    axis.plot(
        at, [scale * row.value for row in rows], "o-", color=colour, markersize=3, linewidth=1.4, label=plain(name)
    )
    low, high = (
        [scale * (row.value if getattr(row, bound) is None else getattr(row, bound)) for row in rows]
        for bound in ("low", "high")
    )
    axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)


def level(row: Row) -> float:
    """Return the severity or radius of a row.

    Raises:
        ValueError: if the row has none, so that it has no place in a curve.
    """
    if row.severity is None:
        raise ValueError(f"Expected a row with a severity for a curve, got {row!r}.")
    return row.severity


def _reliability(rows: Sequence[Row], declared: Declared) -> list[dict[str, Row]]:
    found = {(row.suite, row.case, row.metric): row for row in rows}
    bins: dict[tuple[str, str], dict[str, Row]] = {}
    for suite, figure in figures_of(declared, Reliability):
        for (of, case, metric), row in found.items():
            if of == suite and case.startswith(figure.prefix):
                bins.setdefault((suite, case), {})[metric] = row
    return list(bins.values())


def figures_of(declared: Declared, kind: type[F]) -> list[tuple[str, F]]:
    """Return the figures of one kind, each once, with the names of their suites."""
    found = [(d.suite, figure) for d in declared for figure in d.figures if isinstance(figure, kind)]
    return list(dict.fromkeys(found))


def colours(count: int) -> list[str]:
    """A colour for each of so many runs."""
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def plain(text: str) -> str:
    """Text whose dollars are not read as the start of a formula."""
    return text.replace("$", r"\$")


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element; ids are unique to ``name``."""
    buffer = io.StringIO()
    # Without a date and with ids from a fixed salt, equal rows give equal pages.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for placeholder, variable in VARIABLES.items():
        text = text.replace(placeholder, variable)
    # An id may stand only once in a page; those that nothing refers to are the ones that repeat.
    used = set(re.findall(r"#([\w.-]+)", text))
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
