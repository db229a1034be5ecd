"""Finished cases, example by example, kept so that an interrupted evaluation goes on where it was."""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from robust_jax.core.files import write_atomically

logger = logging.getLogger(__name__)

Table = dict[str, np.ndarray]


class CaseStore:
    """Arrays by suite and case, in a folder, or in memory where there is none. One store serves one predictor.

    Only the first process writes. All of them read, and what one of them cannot read all compute again, so the folder
    should be one that every host sees.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = None if folder is None else Path(folder)
        self._memory: dict[tuple[str, str], Table] = {}
        self._others: dict[str, CaseStore] = {}

    def other(self, name: str) -> CaseStore:
        """That of another predictor made of this one, by its name."""
        if self.folder is None:
            return self._others.setdefault(name, CaseStore())
        return CaseStore(self.folder / name)

    def get(self, suite: str, case: str) -> Table | None:
        """The arrays of a case; None if it is not there, or, with a warning, if its file cannot be read."""
        if self.folder is None:
            return self._memory.get((suite, case))
        table = _read(_path(self.folder, suite, case))
        # If one process went on to compute what another has read, it would wait for that one for ever.
        if jax.process_count() > 1 and not multihost_utils.process_allgather(np.array(table is not None)).all():
            return None
        return table

    def put(self, suite: str, case: str, table: Table) -> None:
        """Keeps the arrays of a case."""
        if self.folder is None:
            self._memory[suite, case] = table
        elif jax.process_index() == 0:
            buffer = io.BytesIO()
            np.savez(buffer, **table)  # pyright: ignore[reportArgumentType]  # no measure is called allow_pickle
            write_atomically(_path(self.folder, suite, case), buffer.getvalue())

    def table(self, suite: str, case: str, compute: Callable[[], Table]) -> Table:
        """Return the arrays of a case, computed and kept if they are not there."""
        table = self.get(suite, case)
        if table is None:
            table = compute()
            self.put(suite, case, table)
        return table


def _path(folder: Path, suite: str, case: str) -> Path:
    return folder / suite / (re.sub(r"[^\w.=-]+", "_", case) + ".npz")


def _read(path: Path) -> Table | None:
    if not path.exists():
        return None
    try:
        # NumPy does not close a damaged file that it opened itself.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read and is computed again: %s", path, error)
        return None
