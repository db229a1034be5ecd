"""How suites show their rows is saved beside the rows, so that finished runs are compared without their suites."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np
import pytest

from robust_jax import config, data, metrics, models, report, suites, train
from robust_jax.commands.compare import compare
from robust_jax.commands.workdir import CONFIG, DECLARATIONS, RESULTS, read_declarations
from robust_jax.config import ConfigError
from robust_jax.core.mesh import data_mesh
from robust_jax.declarations import Column, Curves, Panel
from robust_jax.suites.case import make_row


@dataclasses.dataclass(frozen=True)
class Brightness(suites.Suite):
    """A suite of somebody's own, which no file can rebuild."""

    factors: tuple[float, ...] = (0.5, 0.9)
    """Factors of the images."""

    name: ClassVar[str] = "brightness"

    @property
    def columns(self):
        dim = min(self.factors)
        return (Column(f"accuracy at {dim:g} %", "dimmed", "accuracy", dim, 100, digits=1, direction="higher"),)

    @property
    def figures(self):
        panel = Panel("dimmed", ("dimmed",), "accuracy", "factor", "accuracy %")
        return (Curves("Accuracy in the dark", "Accuracy against the factor of the images.", (panel,)),)

    def rows(self, context):
        predictor, fields = context.classifier(), context.fields(self.name)
        for factor in self.factors:
            correct = [predictor(factor * b.image).argmax(axis=1) == b.label for b in context.data.batches()]
            accuracy = metrics.proportion_interval(np.concatenate(correct).sum(), context.data.num_examples)
            yield make_row("accuracy", accuracy, context.data.num_examples, **fields, case="dimmed", severity=factor)
            context.advance()


def experiment(**chosen):
    return train.Experiment(data=data.Digits(), model=models.ResNet(stage_sizes=(1,), width=8), suites=chosen)


def finished(folder, run, **chosen):
    """A work folder with rows of a linear classifier, as ``robust-jax run`` leaves it, but for the declarations."""
    weights = jax.random.normal(jax.random.key(len(run)), (64, 10))
    digits = data.evaluation(data.Digits().load("test"), batch_size=360, mesh=data_mesh(jax.devices()[:1]))
    labels = suites.RowLabels(run=run, model="linear")
    context = suites.Context(jax.random.key(0), lambda x: x.reshape(len(x), -1) @ weights, digits, labels=labels)
    rows = suites.evaluate(chosen, context)
    (folder / CONFIG).parent.mkdir(parents=True)
    (folder / CONFIG).write_text(config.to_json(experiment(**chosen)))
    report.write_rows(folder / RESULTS, rows)
    return rows


def test_a_suite_of_ones_own_has_columns_and_figures(tmp_path):
    chosen = {"clean": suites.Clean(), "brightness": Brightness()}
    runs = {run: finished(tmp_path / run, run, **chosen) for run in ("a", "second")}
    for run in runs:
        (tmp_path / run / DECLARATIONS).write_text(config.to_json(suites.declarations(chosen)))
    assert read_declarations(tmp_path / "a") == suites.declarations(chosen)
    compare((str(tmp_path / "a"), str(tmp_path / "second")), out=str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "accuracy at 0.5 % ↑" in page
    assert "Accuracy in the dark" in page
    text = report.comparison_markdown(runs, suites.declarations(chosen))
    column = text.splitlines()[0].split("|").index(" accuracy at 0.5 % ↑ ")
    cells = [line.split("|")[column] for line in text.splitlines()[2:]]
    values = [next(r.value for r in rows if r.metric == "accuracy" and r.severity == 0.5) for rows in runs.values()]
    for cell, value in zip(cells, values, strict=True):
        assert f"{100 * value:.1f}" in cell
        assert ("**" in cell) == (value == max(values)), "higher is better"


def test_folders_without_declarations_take_those_of_their_suites(tmp_path):
    chosen = {"clean": suites.Clean()}
    finished(tmp_path / "old", "old", **chosen)
    assert read_declarations(tmp_path / "old") == suites.declarations(chosen)
    compare((str(tmp_path / "old"),), out=str(tmp_path / "page.html"))
    assert "clean error %" in (tmp_path / "page.html").read_text()


def test_suites_that_cannot_be_rebuilt_are_named(tmp_path):
    finished(tmp_path / "old", "old", brightness=Brightness())
    with pytest.raises(ConfigError, match=r"has no declarations.json, and its suites .*Brightness.* robust-jax eval"):
        read_declarations(tmp_path / "old")


def test_a_column_says_which_values_are_better():
    with pytest.raises(ValueError, match="direction 'lower', 'higher' or None, got 'up'"):
        Column("accuracy", "clean", "accuracy", direction="up")
    with pytest.raises(ValueError, match="scale > 0, got -100"):
        Column("−accuracy", "clean", "accuracy", scale=-100)
    assert Column("x", "a", "b").text(-0.001) == "0.00"
    assert Column("x", "a", "b", scale=1000, format=",.0f").text(1234.5) == "1,234,500"
