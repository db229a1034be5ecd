"""``robust-jax compare``: finished runs side by side."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from robust_jax import report
from robust_jax.commands.workdir import RESULTS, read_config, read_declarations
from robust_jax.types import Row


def compare(workdirs: tuple[str, ...], *, out: str) -> int:
    """Prints one table of all runs and writes one page; the first run is the baseline, runs of several seeds are one.

    Raises:
        FileNotFoundError: naming the first folder without finished runs.
    """
    folders = [run for workdir in workdirs for run in _finished(Path(workdir))]
    if not folders:
        raise FileNotFoundError("Name at least one work folder with finished runs.")
    names = _distinct_names(folders)
    rows: dict[str, list[Row]] = {name: report.read_rows(path / RESULTS) for name, path in names.items()}
    configs = {name: read_config(path) for name, path in names.items()}
    declared = [each for path in names.values() for each in read_declarations(path)]
    console = Console()
    pooled = report.pool_seeds(rows)
    console.print(report.comparison_table(pooled, declared))
    for title, table in report.suite_tables(pooled, declared).items():
        console.print(table.terminal(title))
    report.write_comparison(Path(out), rows, declared, configs=configs)
    console.print(out, soft_wrap=True)
    return 0


def _finished(folder: Path) -> list[Path]:
    if (folder / RESULTS).is_file():
        return [folder]
    runs = sorted((path.parent for path in folder.glob(f"*/{RESULTS}")), key=lambda p: (p / RESULTS).stat().st_mtime)
    if not runs:
        raise FileNotFoundError(f"No finished run in {folder}: neither it nor a subfolder has {RESULTS}.")
    return runs


def _distinct_names(folders: list[Path]) -> dict[str, Path]:
    """Folder names, with as many parents as it takes to tell them apart."""
    folders = [folder.resolve() for folder in folders]
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(set(folders)):
        depth += 1
    return {"/".join(folder.parts[-depth:]): folder for folder in folders}
