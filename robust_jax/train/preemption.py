"""SIGTERM: save, exit, and go on when the same command is given again."""

from __future__ import annotations

import signal
import threading

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 128 + signal.SIGTERM


class Preempted(SystemExit):
    """The run was asked to stop, has saved, and can be resumed."""

    def __init__(self, step: int):
        super().__init__(EXIT_CODE)
        self.step = step


class Preemption:
    """Notices SIGTERM. With several processes all of them agree on the step to stop at, whoever got the signal.

    Use as a context manager; outside the main thread of a single process, signals cannot be caught and none is.
    """

    def __init__(self):
        self._asked = False
        self._previous = None

    def __enter__(self) -> Preemption:
        # With several processes JAX's coordination service listens to the signal itself.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *exc_info) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def reached(self, step: int) -> bool:
        """Whether to save and stop at ``step``; with several processes every one must ask at every step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked

    def _ask(self, signum, frame) -> None:
        self._asked = True
