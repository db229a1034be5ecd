"""Tables and pages made of rows."""

import dataclasses
import html.parser
import math
import re

import numpy as np
import pytest
from rich.console import Console

from robust_jax import report, suites
from robust_jax.types import Row

BASE = Row("base", "ResNet", "digits", "clean", "clean", None, "error", 0.1234, 0.11, 0.14, 500, 0)


def row(**changes):
    return dataclasses.replace(BASE, **changes)


def rows_of(run, *, error=0.1234, mce=0.3, clean_only=False):
    rows = [row(run=run, value=error), row(run=run, metric="nll", value=0.5, low=0.4, high=0.6)]
    for i, confidence in enumerate((0.5, 0.9)):
        case = f"bin {i / 2:.3f}-{(i + 1) / 2:.3f}"
        rows.append(row(run=run, case=case, metric="confidence", value=confidence, count=250))
        rows.append(row(run=run, case=case, metric="accuracy", value=0.5, low=0.4, high=0.6, count=250))
    if clean_only:
        return rows
    for norm in ("L0", "L2", "Linf"):
        for eps in (0.01, 0.1, 1.0):
            curve = {"suite": "random_lp", "case": f"{norm} eps={eps:g}", "severity": eps}
            rows.append(row(run=run, **curve, value=error + eps / 4, low=error, high=error + eps / 2))
    rows.append(row(run=run, suite="random_lp", case="imperceptible L2 eps=0.5", severity=0.5))
    rows.append(row(run=run, suite="random_lp", case="all", metric="mCE_Lp", value=mce, low=None, high=None))
    return rows


RUNS = {
    "base": rows_of("base"),
    "noisy": rows_of("noisy", error=0.15, mce=0.2),
    "clean": rows_of("clean", clean_only=True),
}
SAMPLES = suites.Samples(
    images=np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3)).astype(np.uint8),
    titles=["clean", "L0", "$L_2$ <i>"],
    predictions=[["cat", "cat", "dog & co"], ["dog", "cat", "$5 or $6"]],
    confidences=np.full((2, 3), 0.625),
    labels=["cat", "dog"],
)


DECLARED = suites.declarations({"clean": suites.Clean(), "random_lp": suites.RandomLp()})


class Page(html.parser.HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def make_report(tmp_path, rows=RUNS["base"], **changes):
    options = {"config": {"model": {"depth": 16}}, "command": "robust-jax run x.py", "versions": {"jax": "1.2.3"}}
    report.write_report(tmp_path / "report.html", rows, DECLARED, **(options | {"samples": [SAMPLES]} | changes))
    return (tmp_path / "report.html").read_text()


def make_comparison(tmp_path, runs=RUNS):
    configs = {name: {"model": {"depth": depth}, "epochs": 3} for depth, name in enumerate(runs)}
    report.write_comparison(tmp_path / "compare.html", runs, DECLARED, configs=configs)
    return (tmp_path / "compare.html").read_text()


@pytest.mark.parametrize("make", [make_report, make_comparison])
def test_pages_are_whole_and_need_nothing_from_elsewhere(tmp_path, make):
    text = make(tmp_path)
    page = Page(text)
    assert page.open == []
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), target
    assert not re.search(r"@import|url\((?!#)", text)
    assert page.count("script") == page.count("link") == 0
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_report_holds_the_results_plots_samples_and_how_to_repeat_them(tmp_path):
    page = Page(make_report(tmp_path))
    results = ("12.34", "[11.00, 14.00]", "30.00", "ResNet on digits, seed 0")
    for expected in (*results, '"depth": 16', "robust-jax run x.py", "1.2.3"):
        assert expected in page.text
    assert page.count("svg") == 3
    assert page.count("image") == 6
    for text in ("Linf", "confidence", "accuracy", "cat 62 %", "error %"):
        assert text in page.text
    assert "imperceptible L2 eps=0.5" in page.text


def test_equal_rows_give_equal_pages(tmp_path):
    assert make_report(tmp_path) == make_report(tmp_path)


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>&"
    rows = [dataclasses.replace(r, run=evil, model=evil, dataset=evil) for r in RUNS["base"]]
    text = make_report(tmp_path, rows, config={evil: evil}, command=evil, versions={evil: evil})
    text += make_comparison(tmp_path, {evil: rows, "$x_": rows})
    assert "<script" not in text
    assert evil in Page(text).text


def test_pages_of_few_rows(tmp_path):
    assert Page(make_report(tmp_path, RUNS["clean"], samples=())).count("svg") == 1
    assert Page(make_report(tmp_path, RUNS["clean"][:1], samples=())).count("svg") == 0
    assert Page(make_report(tmp_path, [], samples=())).open == []


def test_a_comparison_says_what_differs(tmp_path):
    page = Page(make_comparison(tmp_path))
    assert "noisy model.depth 0 1" in page.text
    assert "epochs" not in page.text
    assert page.count("svg") == 2


def test_the_best_of_every_column_is_marked_and_missing_values_are_dashes(tmp_path):
    lines = report.comparison_markdown(RUNS, DECLARED).splitlines()
    assert lines[0] == "| run | clean error % | mCE_Lp % | NLL |"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [line[0] for line in cells] == ["base", "noisy", "clean"]
    assert cells[0][1:3] == ["**12.34** [11.00, 14.00]", "30.00"]
    assert cells[1][1:3] == ["15.00 [11.00, 14.00]", "**20.00**"]
    assert cells[2][2] == "–"
    best = [attributes for _, attributes in Page(make_comparison(tmp_path)).tags if attributes.get("class") == "best"]
    assert len(best) == 2 + 1 + 3


def test_nan_is_never_the_best():
    runs = {"a": [row(value=math.nan, low=None, high=None)], "b": [row(value=0.5)]}
    lines = report.comparison_markdown(runs, DECLARED).splitlines()
    assert "**50.00**" in lines[3]
    assert "**" not in lines[2]


def test_the_terminal_shows_names_and_intervals_as_they_are():
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.comparison_table({"[red]run": RUNS["base"]}, DECLARED, title="t"))
    console.file.close()
    text = console.export_text()
    assert "[red]run" in text
    assert "12.34 [11.00, 14.00]" in text


def test_headline():
    runs = {name: RUNS[name] for name in ("base", "noisy")}
    expected = "clean error % / mCE_Lp % / NLL: base 12.34 / 30.00 / 0.500, noisy 15.00 / 20.00 / 0.500"
    assert report.headline(runs, DECLARED) == expected
