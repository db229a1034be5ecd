"""What is written of training as it goes on, and where it goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import PyTree

from robust_jax.train.checkpoint import Checkpoints
from robust_jax.train.experiment import Experiment
from robust_jax.train.members import Members
from robust_jax.train.scalars import ScalarWriter


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient overflowed or became NaN."""


class Log:
    """Collects the scalars of each step on the device and writes their means now and then.

    Args:
        experiment: of the members.
        members: who takes the steps.
        scalars: where the means go, one writer for each member.
        show: ``show(step, means)``, of all members together.
        checkpoints: of each member; none where nothing is saved.
    """

    def __init__(
        self,
        experiment: Experiment,
        members: Members,
        scalars: list[ScalarWriter],
        show: Callable,
        checkpoints: list[Checkpoints],
    ):
        self._batch_size = experiment.batch_size
        self._members = members
        self._scalars = scalars
        self._show = show
        self._checkpoints = checkpoints
        self._pending: list[tuple[int, PyTree]] = []
        self._since = time.perf_counter()

    def add(self, step: int, values: PyTree) -> None:
        """What a call gave that ended with this step."""
        self._pending.append((step, values))

    def flush(self, states: PyTree) -> None:
        """Writes the means since the last flush; raises if a step in between was not finite."""
        if not self._pending:
            return
        last = self._pending[-1][0]
        values = jax.device_get([values for _, values in self._pending])
        self._pending.clear()
        of_members = [[self._members.scalars(v, i) for v in values] for i in range(len(self._scalars))]
        means = [
            {name: float(np.mean(np.concatenate([v[name] for v in own]))) for name in own[0]} for own in of_members
        ]
        for i, bad_step in enumerate(self._members.bad_steps(states)):
            if bad_step >= 0:
                raise NonFiniteLossError(self._explain(bad_step, i))
        now = time.perf_counter()
        num_images = sum(len(v["loss"]) for v in of_members[0]) * self._batch_size
        rate = {"images_per_second": num_images / (now - self._since)}
        self._since = now
        for writer, own in zip(self._scalars, means, strict=True):
            writer.write(last, own | rate)
        shown = {name: float(np.mean([own[name] for own in means])) for name in means[0]}
        self._show(last, shown | {"images_per_second": len(means) * rate["images_per_second"]})

    def _explain(self, step: int, i: int) -> str:
        which = f" of member {i}" if len(self._scalars) > 1 else ""
        text = f"The loss{which} or its gradient is not finite at step {step}; "
        text += "lower the learning rate or clip the gradient."
        if self._checkpoints:
            saved = self._checkpoints[i]
            saved.wait()
            last = saved.latest_step()
            text += f" Last good checkpoint: {'none' if last is None else saved.folder / str(last)}."
        return text
