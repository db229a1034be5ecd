"""Training curves: ``metrics.jsonl`` and TensorBoard event files."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import jax

METRICS = "metrics.jsonl"


class ScalarWriter:
    """Appends scalars by step; only the first process writes, and only where there is a folder.

    Args:
        workdir: the run's folder, or None to write nothing.
        step: the step the run starts or resumes at; later lines of an interrupted run are dropped.
    """

    def __init__(self, workdir: Path | None, *, step: int):
        self._file = self._events = None
        if workdir is None or jax.process_index() != 0:
            return
        from tensorboardX import SummaryWriter

        _drop_lines_after(workdir / METRICS, step)
        self._file = (workdir / METRICS).open("a")
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step, write_to_disk=True)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """One line; a value that is not finite is written as null, which JSON has."""
        if self._file is None or self._events is None:
            return
        values = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        for written in (self._file, self._events):
            if written is not None:
                written.close()

    def __enter__(self) -> ScalarWriter:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _drop_lines_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            break  # A kill can cut the last line short.
    partial = path.with_suffix(".partial")
    partial.write_text("".join(line + "\n" for line in kept))
    os.replace(partial, path)
