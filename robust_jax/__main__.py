"""The command ``robust-jax``. Heavy imports wait until a command needs them, so that ``--help`` is quick."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from typing import Annotated, Literal

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


DESCRIPTION = "Train robust image classifiers, and measure how far they can be trusted beyond their training set."
COMMANDS = {"run": Run, "eval": Eval, "compare": Compare, "systems": Systems}
Command = Run | Eval | Compare | Systems


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 1 failed, 2 wrong usage, 143 stopped by SIGTERM."""
    argv = sys.argv[1:] if argv is None else argv
    command, overrides = _parse(argv)
    try:
        return _dispatch(command, overrides, shlex.join(["robust-jax", *argv]))
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from the last checkpoint.", status=130)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("ROBUST_JAX_TRACEBACK"):
            raise
        return _fail(str(error))


def _parse(argv: list[str]) -> tuple[Command, list[str]]:
    union = None
    for name, cls in COMMANDS.items():
        subcommand = Annotated[cls, tyro.conf.subcommand(name, prefix_name=False)]
        union = subcommand if union is None else union | subcommand
    takes_overrides = len(argv) > 1 and argv[0] in ("run", "eval") and not argv[1].startswith("-")
    if not takes_overrides:
        return tyro.cli(union, args=argv, prog="robust-jax", description=DESCRIPTION), []
    # Which overrides there are is known only once the experiment is; its own parser takes what is left, --help too.
    wants_help = any(arg in ("-h", "--help") for arg in argv)
    argv = [arg for arg in argv if arg not in ("-h", "--help")]
    command, overrides = tyro.cli(union, args=argv, prog="robust-jax", return_unknown_args=True)
    return command, [*overrides, *(["--help"] if wants_help else [])]


def _dispatch(command: Command, overrides: list[str], text: str) -> int:
    if isinstance(command, Systems):
        from robust_jax.commands.systems import systems

        return systems(command.folder, record=command.record)
    if isinstance(command, Compare):
        from robust_jax.commands.compare import compare

        return compare(command.workdirs, out=command.out)

    from robust_jax.core.compilation import use_compilation_cache
    from robust_jax.train import start_distributed

    use_compilation_cache()
    start_distributed(command.distributed)
    if isinstance(command, Run):
        from robust_jax.commands.run import run

        return run(command, overrides, command=text)
    from robust_jax.commands.eval import evaluate_again

    return evaluate_again(command, overrides, command=text)


def _fail(message: str, *, status: int = 1) -> int:
    print(f"robust-jax: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
