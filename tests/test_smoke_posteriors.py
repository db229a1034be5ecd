"""The experiments on posteriors at smoke scale, and the tables made of them."""

import dataclasses

import pytest

from robust_jax import data, report
from robust_jax.commands.experiment_file import load_experiment_file
from robust_jax.commands.run import run_experiment


@pytest.mark.parametrize(("file", "run"), [("deep_ensembles", "adversarial_ensemble"), ("mola", "mixture")])
def test_smoke_reaches_the_table(repository, on_two_devices, tmp_path, file, run):
    experiments = load_experiment_file(repository / "experiments" / f"{file}.py").runs("smoke")
    experiment = dataclasses.replace(on_two_devices(experiments[run]), epochs=1, data=data.Digits(validation=1200))
    assert experiment.members == 2
    rows = run_experiment(run, experiment, tmp_path)
    assert (tmp_path / "report.html").exists()
    error = next(row.value for row in rows if (row.suite, row.metric) == ("clean", "error"))
    assert 0 <= error < 0.95
    text = report.comparison_markdown({run: rows})
    assert {"NLL", "mean error %", "corrupted NLL"} <= {title.strip() for title in text.splitlines()[0].split("|")}
