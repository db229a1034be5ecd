"""Experiment files: ``PAPER`` and ``get_runs(scale)``, the named runs of one table with the baseline first."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import typing
from collections.abc import Callable
from pathlib import Path

from robust_jax.config import ConfigError
from robust_jax.core.checks import nearest
from robust_jax.train import Experiment
from robust_jax.types import Paper, Scale

SCALES = typing.get_args(Scale)


@dataclasses.dataclass(frozen=True)
class ExperimentFile:
    """One experiment file, loaded."""

    path: Path
    paper: Paper
    get_runs: Callable[[Scale], dict[str, Experiment]]
    description: str

    @property
    def slug(self) -> str:
        return self.path.stem

    def runs(self, scale: Scale, only: str | None = None) -> dict[str, Experiment]:
        """The runs at a scale, or one of them.

        Raises:
            ConfigError: if the scale or the name is unknown, or the file does not return experiments.
        """
        if scale not in SCALES:
            raise ConfigError(f"Unknown scale {scale!r}.{nearest(scale, SCALES)}")
        runs = self.get_runs(scale)
        if not isinstance(runs, dict) or not all(isinstance(run, Experiment) for run in runs.values()):
            raise ConfigError(f"{self.path}: get_runs must return a dict of names to Experiment, got {runs!r}.")
        if only is None:
            return runs
        if only not in runs:
            raise ConfigError(f"{self.path} has no run {only!r} at scale {scale!r}.{nearest(only, runs)}")
        return {only: runs[only]}


def load_experiment_file(path: str | Path) -> ExperimentFile:
    """Executes an experiment file, which the user names and trusts as any script of theirs.

    Raises:
        FileNotFoundError: with the nearest file beside it.
        ConfigError: if it defines no ``PAPER`` or no ``get_runs``.
    """
    path = Path(path)
    if not path.is_file():
        neighbours = [str(other) for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise FileNotFoundError(f"No experiment file {path}.{nearest(str(path), neighbours) if neighbours else ''}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    defined = {
        "PAPER of type Paper": isinstance(getattr(module, "PAPER", None), Paper),
        "get_runs of type Callable": callable(getattr(module, "get_runs", None)),
    }
    for what, is_defined in defined.items():
        if not is_defined:
            raise ConfigError(f"{path} is not an experiment file: it defines no {what}.")
    return ExperimentFile(path, module.PAPER, module.get_runs, inspect.cleandoc(module.__doc__ or ""))
