"""The command ``robust-jax``. Heavy imports wait until a command needs them, so that ``--help`` is quick."""

from __future__ import annotations

import functools
import operator
import os
import shlex
import sys
from typing import Annotated

import tyro

from robust_jax.commands.options import Compare, Corrupt, Eval, Run, Systems, UsageError

DESCRIPTION = "Train robust image classifiers, and measure how far they can be trusted beyond their training set."
COMMANDS = {"run": Run, "eval": Eval, "compare": Compare, "corrupt": Corrupt, "systems": Systems}
Command = Run | Eval | Compare | Corrupt | Systems


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 1 failed, 2 wrong usage, 143 stopped by SIGTERM."""
    argv = sys.argv[1:] if argv is None else argv
    command, overrides = _parse(argv)
    try:
        return _dispatch(command, overrides, shlex.join(["robust-jax", *argv]))
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on where it can.", status=130)
    except UsageError as error:
        return _fail(str(error), status=2)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("ROBUST_JAX_TRACEBACK"):
            raise
        return _fail(str(error))


def _parse(argv: list[str]) -> tuple[Command, list[str]]:
    subcommands = []
    for name, cls in COMMANDS.items():
        # In the list of commands the first line of each will do.
        summary = None if argv[:1] == [name] else cls.__doc__.split("\n\n")[0]
        subcommands.append(Annotated[cls, tyro.conf.subcommand(name, prefix_name=False, description=summary)])
    union = functools.reduce(operator.or_, subcommands)
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

    from robust_jax.core.compilation import compile_deterministically, use_compilation_cache

    use_compilation_cache()
    if isinstance(command, Corrupt):
        from robust_jax.commands.corrupt import corrupt

        return corrupt(command)

    from robust_jax.train import start_distributed

    if command.deterministic:
        compile_deterministically()
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
