"""Runs that start from the weights of others."""

import dataclasses

import numpy as np
import pytest

from robust_jax import data, models, train
from robust_jax.commands.run import run
from robust_jax.commands.sources import with_sources
from robust_jax.config import ConfigError

BASE = train.Experiment(data=data.Digits(), model=models.Mlp(widths=(4,)), epochs=1, batch_size=512)


def starting_from(name):
    return dataclasses.replace(BASE, initial=train.FromRun(name))


def test_sources_come_first():
    runs = {"c": starting_from("b"), "b": starting_from("a"), "a": BASE, "d": BASE}
    assert list(with_sources(runs, {"c": runs["c"]})) == ["a", "b", "c"]


def test_unknown_runs_and_cycles_are_named():
    with pytest.raises(ConfigError, match=r"'x' starts from the unknown run 'bse'. Did you mean 'base'"):
        with_sources({"base": BASE, "x": starting_from("bse")}, {"x": BASE})
    with pytest.raises(ConfigError, match="a cycle: a -> b -> a"):
        with_sources({"a": starting_from("b"), "b": starting_from("a")}, {"a": BASE})


FILE = '''
"""A probe on a base."""
from robust_jax import data, models, suites, train
from robust_jax.types import Paper

PAPER = Paper(title="t", claim="c")


def get_runs(scale):
    settings = {"data": data.Digits(), "model": models.Mlp(widths=(4,)), "epochs": 1, "batch_size": 512}
    return {
        "base": train.Experiment(**settings),
        "probe": train.Experiment(
            initial=train.FromRun("base"), trainable=("head/*",), suites={"clean": suites.Clean()}, **settings
        ),
    }
'''


def test_a_source_is_trained_once_and_found_again(tmp_path, capsys):
    from robust_jax.commands.options import Run

    path = tmp_path / "file.py"
    path.write_text(FILE)
    options = Run(file=str(path), scale="smoke", only="probe", workdir=str(tmp_path / "runs"))
    assert run(options, [], command="robust-jax run file.py") == 0
    base = {name: (tmp_path / "runs" / "base" / name).exists() for name in ("config.json", "results.jsonl")}
    assert base == {"config.json": True, "results.jsonl": False}
    namespace = {}
    exec(FILE, namespace)
    runs = namespace["get_runs"]("smoke")
    source = train.restore(runs["base"], tmp_path / "runs" / "base")
    probe = train.restore(runs["probe"], tmp_path / "runs" / "probe")
    np.testing.assert_array_equal(
        source.variables["params"]["dense1"]["kernel"], probe.variables["params"]["dense1"]["kernel"]
    )
    assert (source.variables["params"]["head"]["kernel"] != probe.variables["params"]["head"]["kernel"]).any()
