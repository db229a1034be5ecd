"""Command-line overrides of an experiment, parsed together with the command's own options."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import tyro

from robust_jax.train import Experiment


def override_experiment(options: Any, experiment: Experiment, overrides: list[str], *, prog: str) -> Experiment:
    """The experiment with ``["--model.depth", "16", ...]`` applied.

    The options of the command are parsed along with the experiment's, so that ``--help`` shows all there is, and a
    misspelled one of either kind is answered with the nearest.

    Raises:
        SystemExit: with that answer, or after ``--help``.
    """
    if not overrides:
        return experiment
    field = ("experiment", Annotated[Any, tyro.conf.arg(name="")], dataclasses.field(default=None))
    combined = dataclasses.make_dataclass(type(options).__name__, [field], bases=(type(options),), frozen=True)
    default = combined(**vars(options), experiment=experiment)
    return tyro.cli(combined, default=default, args=overrides, prog=prog, description=type(options).__doc__).experiment
