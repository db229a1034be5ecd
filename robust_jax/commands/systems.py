"""``robust-jax systems``: every experiment file with its paper, claim and last measured result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from robust_jax.commands.experiment_file import SCALES, ExperimentFile, load_experiment_file
from robust_jax.commands.workdir import RESULTS
from robust_jax.core.files import write_atomically
from robust_jax.declarations import Declaration
from robust_jax.report import comparison_markdown, headline, pool_seeds, read_rows, suite_tables, write_rows
from robust_jax.suites import declarations
from robust_jax.types import Row, Scale

HEADER = """# Experiments

One file reproduces one published system: its `PAPER`, and `get_runs(scale)`, the named runs of one table with the
baseline first. `robust-jax run FILE --scale small` trains, evaluates and compares them. Scales: `smoke` takes seconds
on embedded data and only shows that everything works; `small` takes minutes on two cores and shows the claimed effect
on real data; `paper` is the published recipe, for accelerators.

This page is written by `robust-jax systems` from the experiment files and the rows under `results/`.
"""


def systems(folder: str, *, record: str | None = None) -> int:
    """Prints the list and writes ``README.md`` beside the experiment files.

    Args:
        folder: where the experiment files are.
        record: a folder of finished runs, ``…/FILE/SCALE``, whose rows are copied to ``results/FILE_SCALE.jsonl``
            first.

    Raises:
        FileNotFoundError: if a folder is missing or holds no results.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root} of experiment files.")
    if record is not None:
        _record(Path(record), root)
    files = [load_experiment_file(path) for path in sorted(root.glob("*.py"))]
    table = Table(title="systems", show_lines=True)
    for column in ("file", "paper", "claim", "last result"):
        table.add_column(column, overflow="fold")
    sections = []
    for file in files:
        results = _results(file)
        declared: dict[Scale, tuple[Declaration, ...]] = {scale: _declared(file, scale) for scale in results}
        last = "; ".join(f"{scale}: {headline(runs, declared[scale])}" for scale, runs in results.items())
        table.add_row(file.slug, _paper(file), file.paper.claim, last or "not yet run")
        sections.append(_section(file, results, declared))
    Console().print(table)
    write_atomically(root / "README.md", "\n".join([HEADER, *sections]))
    print(root / "README.md")
    return 0


def _record(finished: Path, root: Path) -> None:
    paths = sorted(finished.glob(f"*/{RESULTS}"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise FileNotFoundError(f"No finished runs in {finished}: none of its subfolders has {RESULTS}.")
    rows = [row for path in paths for row in read_rows(path)]
    write_rows(root / "results" / f"{finished.resolve().parent.name}_{finished.resolve().name}.jsonl", rows)


def _results(file: ExperimentFile) -> dict[Scale, dict[str, Sequence[Row]]]:
    """The runs of every scale that was recorded, those of several seeds as one."""
    found = {}
    for scale in SCALES:
        path = file.path.parent / "results" / f"{file.slug}_{scale}.jsonl"
        if not path.is_file():
            continue
        runs: dict[str, list[Row]] = {}
        for row in read_rows(path):
            runs.setdefault(row.run, []).append(row)
        found[scale] = pool_seeds(runs)
    return found


def _declared(file: ExperimentFile, scale: Scale) -> tuple[Declaration, ...]:
    """How the file's suites show their rows at a scale."""
    return declarations(*(experiment.suites for experiment in file.runs(scale).values()))


def _paper(file: ExperimentFile) -> str:
    paper = file.paper
    return paper.title if paper.arxiv is None else f"{paper.title} (arXiv {paper.arxiv})"


def _section(
    file: ExperimentFile, results: dict[Scale, dict[str, Sequence[Row]]], declared: dict[Scale, tuple[Declaration, ...]]
) -> str:
    lines = [f"## [{file.slug}]({file.path.name})", "", f"{_paper(file)}. Claim: {file.paper.claim}.", ""]
    lines += [file.description, ""] if file.description else []
    if not results:
        lines += ["Not yet run.", ""]
    for scale, runs in results.items():
        dataset = ", ".join(sorted({row.dataset for rows in runs.values() for row in rows}))
        lines += [f"Measured at `--scale {scale}` on {dataset}:", "", comparison_markdown(runs, declared[scale]), ""]
        for table in suite_tables(runs, declared[scale]).values():
            lines += [table.markdown(), ""]
    return "\n".join(lines)
