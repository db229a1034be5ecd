"""The experiments on attacks at smoke scale, and the tables made of them."""

import pytest

from robust_jax import report, suites
from robust_jax.commands.experiment_file import load_experiment_file
from robust_jax.commands.run import run_experiment

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("file", "runs", "columns"),
    [
        ("spatial", ("standard",), {"random error %", "worst of 10 error %", "first order error %", "grid error %"}),
        (
            "uap",
            ("per_image", "universal"),
            {"success rate %", "transfer rate %", "locality %", "translation invariance %"},
        ),
    ],
)
def test_smoke_reaches_the_table(repository, on_two_devices, tmp_path, file, runs, columns):
    experiments = load_experiment_file(repository / "experiments" / f"{file}.py").runs("smoke")
    assert next(iter(experiments)) == runs[0]
    rows = {name: run_experiment(name, on_two_devices(experiments[name]), tmp_path / name) for name in runs}
    for name in runs:
        assert (tmp_path / name / "report.html").exists()
    declared = suites.declarations(*(each.suites for each in experiments.values()))
    text = report.comparison_markdown(rows, declared)
    assert columns <= {title.strip() for title in text.splitlines()[0].split("|")}
    if file == "spatial":
        errors = {row.case: row.value for row in rows["standard"] if (row.suite, row.metric) == ("spatial", "error")}
        assert errors["random"] <= errors["worst of 10"] <= 1
        assert errors["grid"] > errors["random"]
    else:
        single, universal = ({row.metric: row.value for row in rows[name] if row.suite == "universal"} for name in runs)
        assert single["transfer_rate"] < single["success_rate"]
        assert universal["transfer_rate"] == universal["success_rate"] > 0
