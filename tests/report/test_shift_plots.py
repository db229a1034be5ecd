"""Effective robustness as plotted and tabled, against the line of models whose robustness is known."""

import dataclasses
import re

import numpy as np
import pytest
from scipy.special import expit, logit

from robust_jax import data, report, suites
from robust_jax.report.plots import colours
from robust_jax.report.shift_plots import effective_robustness_plot, effective_robustness_table, shift_pairs
from robust_jax.types import Row

COUNT = 1000
DECLARED = suites.declarations(
    {
        "clean": suites.Clean(),
        "natural_shift": suites.NaturalShift({name: data.Digits() for name in ("new photos", "sketches", "a")}),
        "common_corruptions": suites.CommonCorruptions(),
    }
)


def row(suite, case, metric, value, count=COUNT):
    return Row("run", "ResNet", "photos", suite, case, None, metric, value, value - 0.02, value + 0.02, count, 0)


def rows_of(clean, shifted, corrupted=None):
    """Rows of a run by accuracies."""
    rows = [row("clean", "clean", "error", 1 - clean)]
    for name, accuracy in shifted.items():
        rows.append(row("natural_shift", name, "error", 1 - accuracy))
        rows.append(row("natural_shift", name, "clean_error", 1 - clean))
    if corrupted is not None:
        rows.append(row("common_corruptions", "all", "mean_error_15", 1 - corrupted))
        rows.append(row("common_corruptions", "all", "mean_nll", 1.0))
    return rows


def line(accuracy, slope=0.8, intercept=-0.5):
    return float(expit(slope * logit(accuracy) + intercept))


@pytest.fixture
def runs():
    """Standard models on a line under each of two shifts, and one run six points above the first."""
    runs = {
        f"standard_{i}": rows_of(a, {"new photos": line(a), "sketches": line(a, 0.5, -1)})
        for i, a in enumerate((0.7, 0.8, 0.9))
    }
    runs["c2"] = rows_of(0.85, {"new photos": line(0.85) + 0.06, "sketches": line(0.85, 0.5, -1)})
    return runs


def test_effective_and_relative_robustness(runs):
    table = {(entry.shift, entry.run): entry for entry in effective_robustness_table(runs, DECLARED)}
    assert len(table) == 8
    assert table["new photos", "c2"].effective == pytest.approx(0.06, abs=1e-6)
    assert table["new photos", "c2"].relative == pytest.approx(line(0.85) + 0.06 - line(0.7))
    assert table["new photos", "c2"].clean_accuracy == pytest.approx(0.85)
    for i in range(3):
        assert table["new photos", f"standard_{i}"].effective == pytest.approx(0, abs=1e-6)
    assert table["sketches", "c2"].effective == pytest.approx(0, abs=1e-6)
    assert table["sketches", "standard_0"].relative == 0


def test_the_plot_has_a_panel_for_each_shift_and_a_point_for_each_run(runs):
    page = effective_robustness_plot(runs, DECLARED)
    texts = re.findall(r">([^<>]+)</text>", page)
    for text in ("new photos", "sketches", "c2", "standard_2", "fit to standard models", "clean accuracy %", "80"):
        assert text in texts, text
    assert effective_robustness_plot(runs, DECLARED) == page, "equal rows give equal pages"


def test_the_line_is_drawn_through_the_standard_models(runs):
    """In units of the picture: round marks lie on the line, the robust run lies above it."""
    runs = {name: [r for r in rows if r.case != "sketches"] for name, rows in runs.items()}
    page = effective_robustness_plot(runs, DECLARED)
    paths = [np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", d), float) for d in re.findall(r'd="([^"]+)"', page)]
    # Of the two long lines the dashed one, where nothing is lost, is higher; the picture's y points down.
    fit = max((path for path in paths if len(path) > 20), key=lambda path: path[:, 1].mean())
    above = {}
    for colour, name in zip(colours(4), runs, strict=True):
        x, y = re.search(rf'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)" style="fill: {colour}', page).groups()
        above[name] = np.interp(float(x), *fit.T) - float(y)
    for i in range(3):
        assert above[f"standard_{i}"] == pytest.approx(0, abs=0.5)
    assert above["c2"] > 10


def test_without_standard_models_there_is_no_line(runs):
    few = {"a": runs["standard_0"], "b": runs["c2"]}
    assert "fit to standard models" not in effective_robustness_plot(few, DECLARED)
    assert all(entry.effective is None for entry in effective_robustness_table(few, DECLARED))
    same = {"standard": runs["standard_0"], "standard_again": runs["standard_0"], "c2": runs["c2"]}
    assert all(entry.effective is None for entry in effective_robustness_table(same, DECLARED))


def test_corruptions_are_a_shift_where_there_is_a_line():
    runs = {
        f"standard_{i}": rows_of(a, {}, corrupted=b) for i, (a, b) in enumerate(((0.9, 0.6), (0.8, 0.5), (0.7, 0.4)))
    }
    assert {entry.shift for entry in effective_robustness_table(runs, DECLARED)} == {"common corruptions"}
    assert "common corruptions" in effective_robustness_plot(runs, DECLARED)
    assert effective_robustness_plot({"standard": runs["standard_0"], "c2": runs["standard_1"]}, DECLARED) is None


def test_models_of_different_data_have_lines_of_their_own(runs):
    for name in ("standard_0", "standard_1"):
        others = [dataclasses.replace(r, dataset="drawings", value=r.value / 2) for r in runs[name]]
        runs[f"{name}_drawings"] = others
    table = effective_robustness_table(runs, DECLARED)
    shifts = {f"{shift} ({dataset})" for shift in ("new photos", "sketches") for dataset in ("photos", "drawings")}
    assert {entry.shift for entry in table} == shifts
    standard = [entry for entry in table if entry.shift == "new photos (photos)" and entry.run.startswith("standard")]
    assert [entry.effective for entry in standard] == pytest.approx([0, 0, 0], abs=1e-6)


def test_perfect_and_hopeless_runs_are_drawn():
    runs = {
        "standard": rows_of(1.0, {"a": 0.9}),
        "standard_short": rows_of(0.5, {"a": 0.0}),
        "c2": rows_of(0.8, {"a": 1.0}),
    }
    assert "</svg>" in effective_robustness_plot(runs, DECLARED)
    assert all(np.isfinite(entry.effective) for entry in effective_robustness_table(runs, DECLARED))


def test_nothing_without_rows(runs):
    assert effective_robustness_plot({}, DECLARED) is None
    assert effective_robustness_plot({"standard_0": runs["standard_0"]}, DECLARED) is None
    assert effective_robustness_table({"a": [row("clean", "clean", "error", 0.1)]}, DECLARED) == []
    assert shift_pairs([row("clean", "clean", "error", 0.1)], DECLARED) == {}


def test_the_page_of_a_comparison_shows_it(runs, tmp_path):
    evil = "<script>$x"
    runs[evil] = runs["c2"]
    report.write_comparison(tmp_path / "compare.html", runs, DECLARED, configs={name: {} for name in runs})
    text = (tmp_path / "compare.html").read_text()
    assert "Effective robustness" in text
    assert "+6.00" in text
    assert "<script" not in text
    report.write_comparison(tmp_path / "plain.html", {"a": runs["c2"][:1]}, DECLARED, configs={"a": {}})
    assert "Effective robustness" not in (tmp_path / "plain.html").read_text()
