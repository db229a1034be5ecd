"""Plots of calibration show what the rows say, and nothing where there are none."""

import re

import numpy as np
import pytest

from robust_jax import report, suites
from robust_jax.report import calibration_plots as plots
from robust_jax.report.curves import curve_figures
from robust_jax.types import Row

METRICS = ("error", "nll", "brier", "ece", "entropy")
DECLARED = suites.declarations(
    {
        "clean": suites.Clean(),
        "calibration": suites.Calibration(("fog", "snow", "contrast"), rotations=(30, 60), translations=(2,)),
        "common_corruptions": suites.CommonCorruptions(("fog",)),
        "diversity": suites.Diversity(),
    }
)


def curves(runs, declared):
    return {figure.title: page for figure, page in curve_figures(runs, declared)} or None


ALL = (plots.severity_box_plots, curves, plots.member_disagreement)


def row(case, severity, value, metric="error", suite="calibration"):
    return Row("run", "model", "data", suite, case, severity, metric, value, value - 0.01, value + 0.01, 100, 0)


def rows_of(base, *, members=0):
    rows = [row("clean", None, base, suite="clean")]
    for metric in METRICS:
        rows.append(row("clean", 0.0, base, metric))
        for i, case in enumerate(("fog", "snow", "contrast")):
            rows += [row(case, float(s), base + 0.1 * s + 0.01 * i, metric) for s in (1, 3)]
        rows += [row("rotation", float(d), base + d / 360, metric) for d in (30, 60)]
        rows.append(row("translation", 2.0, base, metric))
        rows.append(row("corruptions", None, 0.77, f"mean_{metric}"))
    rows += [row("coverage", c, base * c, "risk") for c in (0.5, 1.0)]
    for i in range(members):
        rows.append(row(f"member {i}", None, 0.3 + i / 100, suite="diversity"))
        rows += [
            row(f"members {i}-{j}", None, 0.1 * (i + j), "disagreement", "diversity") for j in range(i + 1, members)
        ]
    return rows


RUNS = {"standard": rows_of(0.1), "c$2": rows_of(0.2, members=3)}


def texts(page):
    return re.findall(r">([^<>]+)</text>", page)


def test_values_by_severity():
    values = plots.case_values(RUNS["standard"], DECLARED, "error")
    assert values == {0.0: [0.1], 1.0: pytest.approx([0.2, 0.21, 0.22]), 3.0: pytest.approx([0.4, 0.41, 0.42])}
    other = [row("fog", 2.0, 0.5, suite="common_corruptions"), row("clean", None, 0.3, suite="clean")]
    assert plots.case_values(other, DECLARED, "error") == {0.0: [0.3], 2.0: [0.5]}


def test_a_box_for_each_run_and_severity():
    page = plots.severity_box_plots(RUNS, DECLARED)
    assert {"error %", "NLL", "Brier", "ECE %", "clean", "1", "3", "standard"} <= set(texts(page))
    # Boxes are filled with the run's colour, thinned.
    for colour in ("#3b78c2", "#e07b39"):
        assert len(re.findall(rf"fill: {colour}; (?:fill-)?opacity: 0.35", page)) == 4 * 3
    one = {"run": [row("fog", float(s), 0.3, metric) for s in (1, 3) for metric in METRICS]}
    assert plots.severity_box_plots(one, DECLARED) is None, "a box of one corruption"


def test_curves_of_geometry_and_of_coverage():
    geometry, coverage = curves(RUNS, DECLARED).values()
    assert {"rotation, degrees", "translation, pixels", "NLL", "ECE %", "60"} <= set(texts(geometry))
    assert {"coverage", "error %", "standard"} <= set(texts(coverage))


def test_disagreement_is_symmetric_with_errors_on_the_diagonal():
    expected = [[0.3, 0.1, 0.2], [0.1, 0.31, 0.3], [0.2, 0.3, 0.32]]
    np.testing.assert_allclose(plots.disagreement_matrix(RUNS["c$2"], DECLARED), expected)
    found = texts(plots.member_disagreement(RUNS, DECLARED))
    assert found.count("20.0") == 2
    assert "31.0" in found
    assert not any("standard" in text for text in found), "one network has no members"


@pytest.mark.parametrize("plot", ALL, ids=lambda plot: plot.__name__)
def test_equal_rows_give_equal_plots_and_none_give_none(plot):
    assert plot(RUNS, DECLARED) == plot(RUNS, DECLARED)
    assert plot({"run": RUNS["standard"][:1]}, DECLARED) is None
    assert plot(RUNS, ()) is None, "what no suite declares is not drawn"


def test_pages_and_tables_show_them(tmp_path):
    report.write_comparison(tmp_path / "compare.html", RUNS, DECLARED, configs={name: {} for name in RUNS})
    page = (tmp_path / "compare.html").read_text()
    for title in ("Calibration by severity", "rotated and translated", "Risk and coverage", "Disagreement of members"):
        assert title in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "| 0.770 [0.760, 0.780] | 77.00 [76.00, 78.00] |" in report.comparison_markdown(
        {"run": RUNS["standard"]}, DECLARED
    ).replace("**", "")
