import json
import math

import pytest

from robust_jax import report
from robust_jax.types import Row

ROW = Row("r", "m", "digits", "random_lp", "L2 eps=0.5", 0.5, "error", 0.25, 0.2, 0.3, 100, 0)


def rows_with(**changes):
    return [ROW, Row(**(vars(ROW) | changes))]


@pytest.mark.parametrize(
    "changes",
    [
        {"severity": None, "low": None, "high": None},
        {"run": 'a "quoted" | <b>näme</b>\n', "case": "L∞"},
        {"value": math.inf, "low": -math.inf, "high": 1e-300},
        {"value": 0.1 + 0.2, "count": 10**12},
    ],
)
def test_rows_survive_a_file(tmp_path, changes):
    rows = rows_with(**changes)
    report.write_rows(tmp_path / "rows.jsonl", rows)
    assert report.read_rows(tmp_path / "rows.jsonl") == rows


def test_nan_survives_as_valid_json(tmp_path):
    path = tmp_path / "rows.jsonl"
    report.write_rows(path, rows_with(value=math.nan))
    assert math.isnan(report.read_rows(path)[1].value)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = path.read_text().splitlines()
    assert len(lines) == 2
    assert all(json.loads(line, parse_constant=refuse) for line in lines)


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: line.replace('"metric"', '"metrics"'),
        lambda line: line.replace("0.25", '"a quarter"'),
        lambda line: "[1, 2]",
        lambda line: "7",
        lambda line: "",
    ],
    ids=["cut", "field", "number", "list", "scalar", "blank"],
)
def test_damage_is_named_with_file_and_line(tmp_path, damage):
    path = tmp_path / "rows.jsonl"
    report.write_rows(path, [ROW, ROW, ROW])
    lines = path.read_text().splitlines()
    lines[1] = damage(lines[1])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2 is not a row"):
        report.read_rows(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    report.write_rows(path, [ROW])

    def rows():
        yield ROW
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        report.write_rows(path, rows())
    assert report.read_rows(path) == [ROW]
    assert list(tmp_path.iterdir()) == [path]
