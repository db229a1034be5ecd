"""Heat maps and curves of named corruptions show what the rows say."""

import re

import pytest

from robust_jax import corruptions, suites
from robust_jax.report.corruption_plots import case_errors, severity_curves, severity_heat_map
from robust_jax.types import Row

DECLARED = suites.declarations(
    {
        "clean": suites.Clean(),
        "common_corruptions": suites.CommonCorruptions(),
        "corruptions_bar": suites.CorruptionsBar(),
        "interventions": suites.Interventions(tuple(corruptions.COMPONENTS)),
    }
)


def row(case, severity, value, suite="common_corruptions", metric="error"):
    return Row("run", "model", "data", suite, case, severity, metric, value, None, None, 100, 0)


@pytest.fixture
def runs():
    return {
        name: [
            row("clean", None, 0.05, suite="clean"),
            *(row(case, float(s), base + 0.1 * s) for case in ("fog", "gaussian_noise", "snow") for s in (1, 3, 5)),
            row("sparkles", 1.0, 0.77, suite="corruptions_bar"),
            row("fog", None, 0.5, metric="mean_error"),
            row("variable weather", None, 0.5, metric="mean_error"),
        ]
        for name, base in (("standard", 0.2), ("c$2", 0.1))
    }


def test_only_rows_of_cases_count(runs):
    errors = case_errors(runs["standard"], DECLARED)
    assert set(errors) == {"fog", "gaussian_noise", "snow", "sparkles"}
    assert errors["fog"] == pytest.approx({1.0: 0.3, 3.0: 0.5, 5.0: 0.7})
    assert errors["sparkles"] == {1.0: 0.77}


def test_heat_map_groups_by_variable(runs):
    page = severity_heat_map(runs, DECLARED)
    texts = re.findall(r">([^<>]+)</text>", page)
    assert [t for t in texts if t in ("30", "50", "70", "20", "40", "60", "77")]
    assert texts.count("77") == 2, "a cell for each run"
    labels = [t for t in texts if t in ("sparkles", "snow", "fog", "gaussian noise")]
    assert labels == ["sparkles", "snow", "fog", "gaussian noise"]
    assert {"illumination", "weather", "sensor"} <= set(texts)
    assert severity_heat_map(runs, DECLARED) == page, "equal rows give equal pages"


def test_curves_are_means_over_a_variable(runs):
    page = severity_curves(runs, DECLARED)
    assert "weather (2)" in page
    assert "sensor (1)" in page
    assert "c$2" in page or r"c\$2" in page


def test_nothing_without_rows(runs):
    clean = {"run": runs["standard"][:1]}
    assert severity_heat_map(clean, DECLARED) is None
    assert severity_curves(clean, DECLARED) is None
    one = {"run": [row("fog", 2.0, 0.3)]}
    assert severity_curves(one, DECLARED) is None
    assert severity_heat_map(one, DECLARED) is not None


def test_every_component_has_a_place():
    rows = [row(name, 1.0, 0.5, suite="interventions") for name in corruptions.COMPONENTS]
    page = severity_heat_map({"run": rows}, DECLARED)
    for name in corruptions.COMPONENTS:
        assert name.replace("_", " ") in page
