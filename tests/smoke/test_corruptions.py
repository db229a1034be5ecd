"""The experiments on corruptions at smoke scale, and the tables made of them."""

import pytest

from robust_jax import report, suites
from robust_jax.commands.experiment_file import load_experiment_file
from robust_jax.commands.run import run_experiment

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]


@pytest.mark.parametrize(
    ("file", "runs", "columns"),
    [
        ("imagenet_c", ("equalised",), {"mean error %", "mean flips %"}),
        ("c_bar", ("gaussian",), {"mean error %", "C-bar error %"}),
        ("mscr", ("standard", "linf"), {"MSCR Linf % ↑", "MSCR L2 % ↑", "MSCR L1 % ↑"}),
        ("natural_shift", ("standard", "c2"), {"shifted error %", "accuracy drop %"}),
        ("robustness_review", ("augmentation",), {"error C and C-bar %", "weather %", "sensor %"}),
    ],
)
def test_smoke_reaches_the_table(repository, on_two_devices, tmp_path, file, runs, columns):
    experiments = load_experiment_file(repository / "experiments" / f"{file}.py").runs("smoke")
    assert next(iter(experiments)) == "standard"
    rows = {name: run_experiment(name, on_two_devices(experiments[name]), tmp_path / name) for name in runs}
    for name in runs:
        assert (tmp_path / name / "report.html").exists()
    declared = suites.declarations(*(each.suites for each in experiments.values()))
    text = report.comparison_markdown(rows, declared)
    assert columns <= {title.strip() for title in text.splitlines()[0].split("|")}
    if file == "mscr":
        values = [next(r.value for r in rows[name] if (r.case, r.metric) == ("Linf", "MSCR")) for name in runs]
        assert values[0] < values[1] <= 0.01, "training with noise helps against it"
        (line,) = [line for line in text.splitlines() if line.startswith("| linf ")]
        assert f"**{100 * values[1] + 0.0:.2f}**" in line
