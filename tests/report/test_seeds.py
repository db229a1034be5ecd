"""Runs of several seeds as one."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from robust_jax import data, models, report, train
from robust_jax.types import Row

BASE = Row("base", "ResNet", "digits", "clean", "clean", None, "error", 0.12, 0.11, 0.14, 500, 0)
ERRORS = (0.10, 0.14, 0.15)


def runs_of(name, errors=ERRORS):
    return {
        f"{name}_seed{seed}": [
            dataclasses.replace(BASE, run=f"{name}_seed{seed}", value=error, seed=seed),
            dataclasses.replace(BASE, run=f"{name}_seed{seed}", metric="nll", value=2 * error, seed=seed),
        ]
        for seed, error in enumerate(errors)
    }


def test_mean_and_interval_are_students():
    pooled = report.pool_seeds(runs_of("base"))
    assert list(pooled) == ["base (3 seeds)"]
    error, nll = pooled["base (3 seeds)"]
    low, high = stats.t.interval(0.95, 2, np.mean(ERRORS), stats.sem(ERRORS))
    assert (error.metric, nll.metric) == ("error", "nll")
    assert error.value == pytest.approx(0.13)
    assert (error.low, error.high) == pytest.approx((low, high))
    assert nll.value == pytest.approx(0.26)
    assert error.count == 1500
    assert error.run == "base (3 seeds)"


def test_runs_that_are_alone_stay_as_they_are():
    other = [dataclasses.replace(BASE, run="other_seed4", seed=4)]
    unlike = [dataclasses.replace(BASE, run="unlike_seed4", seed=0)]
    runs = {"first": [BASE], **runs_of("base"), "other_seed4": other, "unlike_seed4": unlike, "unlike_seed5": unlike}
    pooled = report.pool_seeds(runs)
    assert list(pooled) == ["first", "base (3 seeds)", "other_seed4", "unlike_seed4", "unlike_seed5"]
    assert pooled["first"] == [BASE]
    assert pooled["other_seed4"] is other


def test_rows_that_a_seed_lacks_are_left_out():
    runs = runs_of("base")
    del runs["base_seed2"][1]
    (row,) = report.pool_seeds(runs)["base (3 seeds)"]
    assert row.metric == "error"


def test_no_interval_of_what_is_not_a_number():
    error = report.pool_seeds(runs_of("base", (0.1, float("nan"))))["base (2 seeds)"][0]
    assert np.isnan(error.value)
    assert error.low is None
    assert error.high is None


def test_a_page_has_the_mean_and_every_seed(tmp_path):
    runs = {"alone": [BASE], **runs_of("base")}
    report.write_comparison(tmp_path / "page.html", runs, (), configs={name: {} for name in runs})
    page = (tmp_path / "page.html").read_text()
    assert "base (3 seeds)" in page
    assert "Every seed" in page
    assert "base_seed2" in page
    report.write_comparison(tmp_path / "page.html", {"alone": [BASE]}, (), configs={"alone": {}})
    assert "Every seed" not in (tmp_path / "page.html").read_text()


def test_over_seeds_names_them_as_tables_expect():
    experiment = train.Experiment(data=data.Digits(), model=models.ResNet(stage_sizes=(1,), width=8))
    runs = train.over_seeds({"base": experiment, "other": dataclasses.replace(experiment, epochs=3)}, 2)
    assert list(runs) == ["base_seed0", "base_seed1", "other_seed0", "other_seed1"]
    assert [run.seed for run in runs.values()] == [0, 1, 0, 1]
    assert [run.epochs for run in runs.values()] == [10, 10, 3, 3]
    rows = {name: [dataclasses.replace(BASE, seed=run.seed)] for name, run in runs.items()}
    assert list(report.pool_seeds(rows)) == ["base (2 seeds)", "other (2 seeds)"]
    with pytest.raises(ValueError, match="num_seeds"):
        train.over_seeds({"base": experiment}, 0)
