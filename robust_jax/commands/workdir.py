"""The work folder of one run::

config.json        the experiment, as a plain value
command.txt        the command that made it
checkpoints/       training states
metrics.jsonl      training curves, also under tensorboard/
evaluation/        finished cases, example by example
declarations.json  how the suites show their rows
results.jsonl      the rows; present when the run is complete
report.html        the rows, to look at
"""

from __future__ import annotations

import json
from pathlib import Path

import jax

from robust_jax import config, suites
from robust_jax.config import ConfigError
from robust_jax.core.files import write_atomically
from robust_jax.declarations import Declaration
from robust_jax.train import Experiment

CONFIG = "config.json"
COMMAND = "command.txt"
RESULTS = "results.jsonl"
DECLARATIONS = "declarations.json"
REPORT = "report.html"
COMPARISON = "compare.html"
EVALUATION = "evaluation"

MAX_DIFFERENCES = 10


def claim(workdir: Path, experiment: Experiment, command: str) -> None:
    """Makes the folder this experiment's, or checks that it is.

    Raises:
        ConfigError: if it belongs to another experiment; the differences are listed.
        OSError: if it cannot be written.
    """
    path = workdir / CONFIG
    tree = config.to_tree(experiment)
    if path.exists():
        differences = config.diff(without_execution(read_config(workdir)), without_execution(tree))
        if differences:
            lines = [f"  {name}: {before!r} there, {after!r} here" for name, before, after in differences]
            more = [f"  and {len(lines) - MAX_DIFFERENCES} more"] if len(lines) > MAX_DIFFERENCES else []
            lines = "\n".join([*lines[:MAX_DIFFERENCES], *more])
            raise ConfigError(f"{workdir} holds another experiment; choose another --workdir. Differences:\n{lines}")
    if jax.process_index() == 0:
        write_atomically(path, config.to_json(experiment) + "\n")
        write_atomically(workdir / COMMAND, command + "\n")


def read_config(workdir: Path) -> dict:
    """The experiment's tree as saved.

    Raises:
        FileNotFoundError: if this is no work folder.
        ConfigError: if its configuration is damaged.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{workdir} is not the work folder of a run: it has no {CONFIG}.")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error


def read_declarations(workdir: Path) -> tuple[Declaration, ...]:
    """How the suites of a finished run show their rows; of a folder without declarations, as its suites do today.

    Raises:
        ConfigError: if the declarations are damaged, or there are none and the suites cannot be rebuilt.
    """
    path = workdir / DECLARATIONS
    if path.is_file():
        return config.from_json(path.read_text())
    try:
        return suites.declarations(config.from_tree(read_config(workdir)["suites"]))
    except ConfigError as error:
        raise ConfigError(
            f"{workdir} has no {DECLARATIONS}, and its suites cannot be rebuilt ({error}); write it with "
            f"robust-jax run or robust-jax eval."
        ) from error


def without_execution(tree: dict) -> dict:
    """A configuration tree without the part that cannot change results."""
    return {name: value for name, value in tree.items() if name != "execution"}
