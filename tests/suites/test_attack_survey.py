"""The survey of attacks on a linear classifier, and the tables and plots made of rows about attacks."""

import jax
import numpy as np
import pytest
from suites.test_adversarial import KEY, RADII, Linear, evaluation, examples

from robust_jax import attacks, report, suites
from robust_jax.core.keys import example_keys, named_key
from robust_jax.report.curves import curve_figures

pytestmark = pytest.mark.long

SURVEY = suites.AttackSurvey(
    (attacks.PGD(eps=0.05, steps=5), attacks.FAB(norm="L2", steps=10), attacks.Square(eps=0.4, queries=30))
)

AUTOATTACK = suites.AutoAttack(attacks.AutoAttack(steps=3, queries=5), (0.03, 0.06))
ADVERSARIAL = suites.Adversarial(attacks.FGSM(), RADII, by_class=True)
DECLARED = suites.declarations({"survey": SURVEY, "autoattack": AUTOATTACK, "adversarial": ADVERSARIAL})


def test_rows_are_what_each_attack_found(tmp_path):
    store = suites.CaseStore(tmp_path)
    rows = list(SURVEY.rows(suites.Context(KEY, Linear(), evaluation(40), store=store)))
    assert [row.case for row in rows if row.metric == "success_rate"] == ["PGD Linf", "FAB L2", "Square Linf"]
    images, labels = (np.asarray(part) for part in examples())
    keys = example_keys(named_key(KEY, "adversarial"), np.arange(40))
    clean = np.asarray(Linear()(images / np.float32(255))).argmax(axis=1)
    for attack in SURVEY.attacks:
        found = {row.metric: row for row in rows if row.case == f"{type(attack).__name__} {attack.norm}"}
        result = attack.run(keys, Linear(), images / np.float32(255), labels)
        correct = clean == labels
        assert found["success_rate"].value == pytest.approx(np.asarray(result.success)[correct].mean())
        assert found["success_rate"].count == 37
        assert (np.asarray(result.success) & correct).any()
        assert found["median_norm"].value == pytest.approx(
            np.median(np.asarray(result.norm)[correct & np.asarray(result.success)]), rel=1e-4
        )
        assert found["queries"].value == pytest.approx(np.asarray(result.queries)[correct].mean())
        assert found["gradients"].value == pytest.approx(np.asarray(result.gradients)[correct].mean())
        assert 0 < found["seconds"].value < 1
    assert {row.severity for row in rows if row.case == "FAB L2"} == {None}
    again = Linear()
    assert list(SURVEY.rows(suites.Context(KEY, again, evaluation(40), store=suites.CaseStore(tmp_path)))) == rows
    assert again.traces == 0


def test_two_attacks_of_one_name():
    with pytest.raises(ValueError, match="'PGD Linf' twice"):
        suites.AttackSurvey((attacks.PGD(steps=5), attacks.PGD(steps=6)))
    with pytest.raises(ValueError, match="at least one attack"):
        suites.AttackSurvey(())


@pytest.fixture(scope="module")
def runs():
    labels = suites.RowLabels(run="first")
    data = evaluation(40)
    survey = list(SURVEY.rows(suites.Context(KEY, Linear(), data, labels=labels)))
    with pytest.warns(UserWarning, match="2 classes"):
        found = list(AUTOATTACK.rows(suites.Context(KEY, Linear(), data, labels=labels)))
    curve = list(ADVERSARIAL.rows(suites.Context(KEY, Linear(), data, labels=labels)))
    return {"first": survey + found + curve}


def test_table_of_attacks(runs):
    table = report.suite_tables(runs, DECLARED)["Attacks"]
    assert table.titles == ["attack", "eps", "success %", "median norm", "queries", "gradients", "ms per image"]
    assert [line[:2] for line in table.lines] == [["PGD Linf", "0.05"], ["FAB L2", "–"], ["Square Linf", "0.4"]]
    assert "| PGD Linf | 0.05 |" in table.markdown()
    two = report.suite_tables({**runs, "second": runs["first"]}, DECLARED)["Attacks"]
    assert two.titles[1] == "run"
    assert len(two.lines) == 6


def test_table_of_autoattack(runs):
    table = report.suite_tables(runs, DECLARED)["Robust accuracy by AutoAttack, %"]
    stages = ("apgd-ce", "apgd-t", "fab-t", "square")
    assert table.titles == ["run", "eps Linf", "clean", *(f"after {stage}" for stage in stages)]
    assert [line[:3] for line in table.lines] == [["first", "0.03", "92.50"], ["first", "0.06", "92.50"]]
    last = [float(line[-1]) for line in table.lines]
    error = [row.value for row in runs["first"] if (row.case, row.metric) == ("AutoAttack Linf", "error")]
    np.testing.assert_allclose(last, 100 * (1 - np.array(error)))


def test_no_rows_no_tables(runs):
    others = {"first": [row for row in runs["first"] if row.suite == "clean"]}
    assert report.suite_tables(others, DECLARED) == {}
    assert report.suite_tables(runs, ()) == {}
    assert curve_figures(others, DECLARED) == []


def test_report_shows_them(runs, tmp_path):
    report.write_report(tmp_path / "report.html", runs["first"], DECLARED, config={}, versions={}, command="")
    page = (tmp_path / "report.html").read_text()
    for title in ("Error under attack", "Robust accuracy by AutoAttack", "<h2>Attacks</h2>", "FGSM Linf"):
        assert title in page
    ((figure, curves),) = curve_figures(runs, DECLARED)
    assert figure.title == "Error under attack"
    assert "FGSM Linf: " not in curves, "classes have no panels"


def test_several_radii_are_several_columns_and_accuracies_are_not_negated(runs):
    head, _, line = report.comparison_markdown(runs, DECLARED).splitlines()
    titles, cells = ([cell.strip() for cell in text.split("|")[2:-1]] for text in (head, line))
    shown = dict(zip(titles, cells, strict=True))
    for radius in RADII:
        (row,) = [r for r in runs["first"] if (r.case, r.metric, r.severity) == ("FGSM Linf", "error", radius)]
        assert shown[f"FGSM Linf error at {radius:.4g} %"].startswith(f"{100 * row.value:.2f} [")
    for radius in AUTOATTACK.radii:
        place = ("AutoAttack Linf", "robust_accuracy", radius)
        (row,) = [r for r in runs["first"] if (r.case, r.metric, r.severity) == place]
        assert shown[f"AutoAttack Linf accuracy at {radius} % ↑"].startswith(f"{100 * row.value:.2f} [")
    assert jax.process_count() == 1
