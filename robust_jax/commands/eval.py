"""``robust-jax eval``: the suites of a trained run once more, perhaps with other settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
from rich.console import Console

from robust_jax import config, report, suites
from robust_jax.commands import workdir as folders
from robust_jax.commands.options import Eval
from robust_jax.commands.overrides import override_experiment
from robust_jax.commands.run import evaluate_and_report
from robust_jax.config import ConfigError
from robust_jax.core.files import write_atomically
from robust_jax.train import Experiment, restore_predictor


def evaluate_again(options: Eval, overrides: list[str], *, command: str) -> int:
    """Evaluates a trained run; only the suites and the execution may be overridden.

    Raises:
        ConfigError: if an override would change what was trained, or training is not finished.
    """
    workdir = Path(options.workdir)
    trained_as: Experiment = config.from_tree(folders.read_config(workdir))
    experiment = override_experiment(options, trained_as, overrides, prog=f"robust-jax eval {workdir}")
    _check_same_training(trained_as, experiment)
    trained = restore_predictor(experiment, workdir)
    if trained.step < trained.total_steps:
        progress = f"{trained.step} of {trained.total_steps}"
        raise ConfigError(f"{workdir} is trained to step {progress}; finish it with robust-jax run first.")
    console = Console()
    name = workdir.resolve().name
    rows = evaluate_and_report(name, experiment, trained, workdir, command=command, console=console)
    if jax.process_index() == 0:
        write_atomically(workdir / folders.CONFIG, config.to_json(experiment) + "\n")
        declared = suites.declarations(experiment.suites)
        console.print(report.comparison_table({name: rows}, declared, title=f"step {trained.step}"))
        for title, table in report.suite_tables({name: rows}, declared).items():
            console.print(table.terminal(title))
        console.print(str(workdir / folders.REPORT), soft_wrap=True)
    return 0


def _check_same_training(before: Experiment, after: Experiment) -> None:
    trees = [config.to_tree(dataclasses.replace(e, suites={}, execution=before.execution)) for e in (before, after)]
    differences = config.diff(*trees)
    if differences:
        names = ", ".join(f"--{name}" for name, _, _ in differences)
        raise ConfigError(f"Only suites and execution can change after training, got {names}.")
