"""All suites of an experiment, with a progress bar."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from robust_jax.suites.base import Context, Suite
from robust_jax.types import Row


def evaluate(suites: Mapping[str, Suite], context: Context, *, console: Console | None = None) -> list[Row]:
    """Return the rows of every suite.

    Args:
        suites: by the name the experiment gives them.
        context: what they evaluate; its store serves all of them, and its ``advance`` is called beside the bar.
        console: where progress is shown; None shows none.
    """
    rows: list[Row] = []
    hidden = console is None or jax.process_index() != 0
    columns = (TextColumn("evaluating {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        for name, suite in suites.items():
            task = bar.add_task(name, total=suite.num_cases)

            def advance(fraction: float = 1.0, task: TaskID = task) -> None:
                bar.advance(task, fraction)
                context.advance(fraction)

            rows.extend(suite.rows(dataclasses.replace(context, advance=advance)))
    return rows
