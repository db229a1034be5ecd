"""Whole runs at smoke scale: every architecture, both precisions, and the experiment file on random corruptions."""

import jax
import jax.numpy as jnp
import pytest

from robust_jax.commands.experiment_file import load_experiment_file
from robust_jax.commands.run import run_experiment

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]

ARCHITECTURES = "tests/experiments/architectures.py"


@pytest.fixture(scope="module")
def architectures(repository):
    return load_experiment_file(repository / ARCHITECTURES).runs("smoke")


@pytest.mark.parametrize(
    ("network", "precision"),
    [
        ("resnet", "float32"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("wide_resnet", "float32"), ("vit", "float32"), ("ode_net", "float32"), ("resnet", "bfloat16"))
        ),
    ],
)
def test_every_architecture_learns(architectures, network, precision, tmp_path):
    experiment = architectures[f"{network}_{precision}"]
    assert experiment.network().dtype == precision
    rows = run_experiment(network, experiment, tmp_path)
    error = next(row for row in rows if row.metric == "error")
    assert error.count == 360
    assert error.value < 0.25, "chance is 0.9"


def test_random_lp_smoke_reaches_the_table(repository, on_two_devices, tmp_path):
    runs = load_experiment_file(repository / "experiments" / "random_lp.py").runs("smoke")
    assert next(iter(runs)) == "standard"
    rows = run_experiment("standard", on_two_devices(runs["standard"]), tmp_path)
    summaries = {row.metric: row.value for row in rows if row.case in ("all", "imperceptible")}
    assert 0 < summaries["mCE_Lp"] < 0.5
    assert "iCE" in summaries
    assert len({row.case for row in rows if row.suite == "random_lp" and row.severity is not None}) >= 90
    assert (tmp_path / "report.html").exists()


def test_parameters_stay_float32_in_bfloat16(architectures):
    from robust_jax import models

    experiment = architectures["wide_resnet_bfloat16"]
    params, _ = models.init(experiment.network(), jax.random.key(0), (8, 8, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
