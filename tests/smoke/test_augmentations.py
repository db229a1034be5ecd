"""The experiments on augmentations at smoke scale, and the tables made of them."""

import dataclasses

import pytest

from robust_jax import data, report, suites
from robust_jax.commands.experiment_file import load_experiment_file
from robust_jax.commands.run import run_experiment

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("file", "run", "columns"),
    [
        ("augmix", "augmix_jsd", {"mean error %"}),
        ("augnet", "turned_augnet", {"range of rotate"}),
        ("deepaugment", "deepaugment", {"mean error %"}),
        ("dign", "dign", {"mean error %"}),
        ("frequency_dropout", "frequency_dropout", {"mean error %"}),
        ("mixing", "cutmix", {"mean error %"}),
        ("prime", "prime", {"mean error %"}),
        ("pure_noise", "noise_dar_bn", {"clean error %"}),
        ("translation_eval", "mixer_crop1", {"translation error %", "consistency % ↑"}),
        ("yoco", "erasing_yoco", {"mean error %"}),
    ],
)
def test_smoke_reaches_the_table(repository, on_two_devices, tmp_path, file, run, columns):
    experiments = load_experiment_file(repository / "experiments" / f"{file}.py").runs("smoke")
    experiment = dataclasses.replace(on_two_devices(experiments[run]), epochs=1)
    if isinstance(experiment.data, data.Digits):
        experiment = dataclasses.replace(experiment, data=data.Digits(validation=1200))
    rows = run_experiment(run, experiment, tmp_path)
    assert (tmp_path / "report.html").exists()
    error = next(row.value for row in rows if (row.suite, row.metric) == ("clean", "error"))
    assert 0 <= error < 0.95
    declared = suites.declarations(*(each.suites for each in experiments.values()))
    text = report.comparison_markdown({run: rows}, declared)
    assert columns <= {title.strip() for title in text.splitlines()[0].split("|")}
