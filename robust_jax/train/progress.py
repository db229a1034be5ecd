"""Progress bar of training."""

from __future__ import annotations

import contextlib

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def training_progress(console: Console | None, start_step: int, total_steps: int):
    """Yields ``show(step, scalars)``."""
    if console is None or jax.process_index() != 0:
        yield lambda step, scalars: None
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("compiling", total=total_steps, completed=start_step)

        def show(step: int, scalars: dict[str, float]) -> None:
            text = f"loss {scalars['loss']:.3f}  {scalars['images_per_second']:.0f} images/s"
            bar.update(task, completed=step, description=text)

        yield show
