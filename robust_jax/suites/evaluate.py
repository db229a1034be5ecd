"""All suites of an experiment, with a progress bar."""

from __future__ import annotations

from collections.abc import Mapping

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robust_jax.suites.case import RowLabels
from robust_jax.suites.store import CaseStore
from robust_jax.types import Evaluation, LogitsFn, PRNGKey, Row, Suite


def evaluate(
    suites: Mapping[str, Suite],
    key: PRNGKey,
    predictor: LogitsFn,
    data: Evaluation,
    *,
    store: CaseStore | None = None,
    labels: RowLabels = RowLabels(),
    console: Console | None = None,
) -> list[Row]:
    """The rows of every suite.

    Args:
        suites: by the name the experiment gives them.
        key: of all randomness.
        predictor: any callable from images to logits.
        data: the examples.
        store: where finished cases are kept, so that an interrupted evaluation goes on.
        labels: of the rows.
        console: where progress is shown; None shows none.
    """
    store = store or CaseStore()
    rows: list[Row] = []
    hidden = console is None or jax.process_index() != 0
    columns = (TextColumn("evaluating {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        for name, suite in suites.items():
            task = bar.add_task(name, total=getattr(suite, "num_cases", None))
            advance = lambda share=1.0, task=task: bar.advance(task, share)  # noqa: E731
            rows.extend(suite.rows(key, predictor, data, store=store, labels=labels, advance=advance))
    return rows
