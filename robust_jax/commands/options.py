"""The options of every command. Light to import, so that ``--help`` is quick."""

from __future__ import annotations

import dataclasses
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Run:
    """Train, evaluate and report the runs of an experiment file; the same command resumes, or repeats nothing.

    Every field of the experiment can be overridden, as in --model.depth 16 --optimiser.learning-rate 0.05;
    `robust-jax run FILE --help` lists them.
    """

    file: tyro.conf.Positional[str]
    """Experiment file, such as experiments/random_lp.py."""
    scale: Literal["smoke", "small", "paper"] = "smoke"
    """Seconds on embedded data, minutes on real data, or as published."""
    only: str | None = None
    """Name of the one run to do; all of the table by default."""
    workdir: str | None = None
    """Folder of the results, one subfolder a run; by default runs/FILE/SCALE."""
    distributed: str = "off"
    """auto on a cluster, or host:port,count,index for the processes of one run."""


@dataclasses.dataclass(frozen=True)
class Eval:
    """Evaluate a trained run again, perhaps with other suites, as in --suites.random-lp.repeats 5."""

    workdir: tyro.conf.Positional[str]
    """Work folder of one run."""
    distributed: str = "off"
    """auto on a cluster, or host:port,count,index for the processes of one run."""


@dataclasses.dataclass(frozen=True)
class Compare:
    """Put finished runs side by side, here and in one HTML page; the first is the baseline."""

    workdirs: tyro.conf.Positional[tuple[str, ...]]
    """Work folders of runs, or folders of them."""
    out: str = "compare.html"
    """The page to write."""


@dataclasses.dataclass(frozen=True)
class Systems:
    """List every experiment file with its paper, claim and last result, and write the folder's README.md."""

    folder: tyro.conf.Positional[str] = "experiments"
    """Folder of experiment files."""
    record: str | None = None
    """Folder of finished runs, such as runs/random_lp/small, whose rows are kept under FOLDER/results first."""
