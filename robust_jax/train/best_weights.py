"""The best weights of a run, on disk or in memory."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from robust_jax.train.checkpoint import Checkpoints
from robust_jax.train.selection import Best
from robust_jax.train.state import Variables

BEST = "best"


class BestWeights:
    """The best weights of one network so far, in the folder ``best/`` of its run or in memory.

    The best of all epochs is the same if some epochs are repeated after a resume: a repeated epoch has the same value
    and replaces nothing.

    Args:
        selection: which weights are best.
        workdir: folder of the run; None keeps the weights in memory.
        like: variables, of which the structure is read.
    """

    def __init__(self, selection: Best, workdir: Path | None, like: Variables):
        self._selection = selection
        self._like = {"variables": like, "value": np.zeros((), np.float32)}
        self._checkpoints = None if workdir is None else Checkpoints(workdir / BEST, keep=1)
        self._found: dict | None = None
        # Read with the first new measure: who only wants the weights reads them once.
        self._value: float | None = None

    def add(self, step: int, measures: dict[str, float], variables: Variables) -> None:
        """Keep the variables if their measure is better than those before."""
        value = measures[self._selection.logged_name]
        if self._value is None:
            self._value = self._stored_value()
        if not self._selection.better(value, self._value):
            return
        self._value = value
        found = {"variables": variables, "value": np.asarray(value, np.float32)}
        if self._checkpoints is not None:
            self._checkpoints.save(step, found)
            # On disk before the run saves a later step, so that a killed run does not lose it.
            self._checkpoints.wait()
        else:
            # The training step donates its buffers.
            self._found = jax.tree.map(jnp.copy, found)

    def variables(self) -> Variables | None:
        """Return the best variables; None if there was no epoch with a finite measure."""
        found = self._stored()
        return None if found is None else found["variables"]

    def _stored(self) -> dict | None:
        return self._found if self._checkpoints is None else self._checkpoints.restore(self._like)

    def _stored_value(self) -> float:
        found = self._stored()
        return math.nan if found is None else float(found["value"])

    def close(self) -> None:
        """Release the folder."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    def __enter__(self) -> BestWeights:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()
