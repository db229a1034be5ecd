"""The experiments on posteriors at smoke scale, and the tables made of them."""

import dataclasses

import pytest

from robust_jax import data, report, suites
from robust_jax.commands.experiment_file import load_experiment_file
from robust_jax.commands.run import run_experiment

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("file", "run", "members"),
    [
        ("deep_ensembles", "adversarial_ensemble", 2),
        ("mola", "mixture", 2),
        ("subnetwork_laplace", "by_swag", 1),
        ("spatial_smoothing", "smoothed", 1),
        ("film_ensemble", "film_2", 1),
        ("empcov", "hmc_emp_cov", 1),
    ],
)
def test_smoke_reaches_the_table(repository, on_two_devices, tmp_path, file, run, members):
    experiments = load_experiment_file(repository / "experiments" / f"{file}.py").runs("smoke")
    experiment = dataclasses.replace(on_two_devices(experiments[run]), epochs=1, data=data.Digits(validation=1200))
    assert experiment.members == members
    rows = run_experiment(run, experiment, tmp_path)
    assert (tmp_path / "report.html").exists()
    error = next(row.value for row in rows if (row.suite, row.metric) == ("clean", "error"))
    assert 0 <= error < 0.95
    declared = suites.declarations(*(each.suites for each in experiments.values()))
    text = report.comparison_markdown({run: rows}, declared)
    assert {"NLL", "mean error %", "corrupted NLL"} <= {title.strip() for title in text.splitlines()[0].split("|")}


def test_smoke_of_uncertainty_under_shift(repository, on_two_devices, tmp_path):
    """A posterior that is drawn from, and the ensemble; of both members are looked at."""
    experiments = load_experiment_file(repository / "experiments" / "shift_uncertainty.py").runs("smoke")
    assert len(experiments) == 8
    runs = {}
    for run in ("last_layer_svi", "ensemble"):
        experiment = dataclasses.replace(on_two_devices(experiments[run]), epochs=1, data=data.Digits(validation=1200))
        runs[run] = run_experiment(run, experiment, tmp_path / run)
    declared = suites.declarations(*(each.suites for each in experiments.values()))
    text = report.comparison_markdown(runs, declared)
    assert {"NLL, rotated", "ECE %, corrupted"} <= {title.strip() for title in text.splitlines()[0].split("|")}
    page = (tmp_path / "ensemble" / "report.html").read_text()
    for title in ("Calibration of rotated and translated images", "Risk and coverage", "Disagreement of members"):
        assert title in page


def test_smoke_of_regression(repository, on_two_devices, tmp_path):
    """Ensembles of networks that predict normal distributions reach the same table."""
    experiments = load_experiment_file(repository / "experiments" / "deep_ensembles.py").runs("smoke")
    runs = {}
    for run in ("diabetes_single_seed0", "diabetes_adversarial_ensemble_seed0"):
        runs[run] = run_experiment(run, on_two_devices(experiments[run]), tmp_path / run)
    rmse = {run: next(row.value for row in rows if row.metric == "rmse") for run, rows in runs.items()}
    # The standard deviation of the targets is 77.
    assert all(40 < value < 77 for value in rmse.values())
    declared = suites.declarations(*(each.suites for each in experiments.values()))
    text = report.comparison_markdown(runs, declared)
    assert {"RMSE", "Gaussian NLL", "mixture NLL"} <= {title.strip() for title in text.splitlines()[0].split("|")}
