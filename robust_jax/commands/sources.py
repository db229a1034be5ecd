"""Runs whose weights other runs of the experiment file start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from robust_jax.commands import workdir as folders
from robust_jax.config import ConfigError
from robust_jax.core.checks import nearest
from robust_jax.train import Experiment, FromRun, Variables, fit_predictor, restore_predictor


def with_sources(runs: Mapping[str, Experiment], chosen: Mapping[str, Experiment]) -> dict[str, Experiment]:
    """Return the chosen runs and those they start from, each after its source.

    Args:
        runs: all runs of the file.
        chosen: those to do.

    Raises:
        ConfigError: if a run starts from one that does not exist, or from itself by way of others.
    """
    ordered: dict[str, Experiment] = {}

    def add(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ConfigError(f"Expected runs that start from earlier ones, got a cycle: {' -> '.join((*path, name))}.")
        if name in ordered:
            return
        initial = runs[name].initial
        if isinstance(initial, FromRun):
            if initial.name not in runs:
                raise ConfigError(
                    f"Run {name!r} starts from the unknown run {initial.name!r}.{nearest(initial.name, runs)}"
                )
            add(initial.name, (*path, name))
        ordered[name] = runs[name]

    for name in chosen:
        add(name, ())
    return ordered


def train_source(
    name: str,
    experiment: Experiment,
    workdir: Path,
    *,
    command: str,
    initial: Sequence[Variables] | None,
    console: Console | None,
) -> None:
    """Train a run that is not evaluated, in its own folder; a finished one is restored.

    Raises:
        ConfigError: if the folder holds another experiment.
    """
    folders.claim(workdir, experiment, command)
    if console is not None:
        console.print(f"{name}: training the weights that others start from", soft_wrap=True)
    fit_predictor(experiment, workdir, initial=initial, console=console)


def source_variables(source: Experiment, workdir: Path, experiment: Experiment) -> list[Variables]:
    """Return what each member of a run starts from: the variables of the source's members, in turn.

    Args:
        source: the run that gives the weights, trained in its folder.
        workdir: folder of the source.
        experiment: the run that starts from it.
    """
    members = restore_predictor(source, workdir).members
    return [members[i % len(members)].variables for i in range(experiment.members)]
