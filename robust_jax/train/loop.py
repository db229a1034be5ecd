"""The training loop: feeds the compiled step, logs, saves, resumes, stops."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robust_jax import data, models
from robust_jax.core.mesh import data_mesh, replicate
from robust_jax.train.checkpoint import Checkpoints
from robust_jax.train.experiment import Experiment
from robust_jax.train.preemption import Preempted, Preemption
from robust_jax.train.scalars import ScalarWriter
from robust_jax.train.state import TrainState, init_state
from robust_jax.train.step import make_train_step
from robust_jax.train.validation import make_validation

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient overflowed or became NaN."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """The outcome of training: the network, the variables to evaluate, and the steps taken of all there are."""

    model: Any
    variables: PyTree
    step: int
    total_steps: int

    @property
    def predictor(self):
        """The logits function."""
        return models.predictor(self.model, self.variables)


def fit(experiment: Experiment, workdir: Path | None = None, *, console: Console | None = None) -> Trained:
    """Trains, or goes on with training, to the end.

    Args:
        experiment: what to train.
        workdir: where checkpoints, ``metrics.jsonl`` and TensorBoard files go; a run found there is resumed to the
            same bits. None keeps everything in memory.
        console: where progress is shown; None shows none.

    Raises:
        ValueError: if model and data do not fit, or the batch size does not divide over the devices.
        NonFiniteLossError: with the step, and the last checkpoint, from before it.
        Preempted: after SIGTERM, when the state is saved.
    """
    execution = experiment.execution
    mesh, source, steps_per_epoch, total_steps, optimiser, state = _prepare(experiment)
    save_every = execution.checkpoint_every or steps_per_epoch

    with contextlib.ExitStack() as stack:
        checkpoints = None
        if workdir is not None:
            checkpoints = Checkpoints(workdir / CHECKPOINTS, keep=execution.keep_checkpoints)
            stack.enter_context(checkpoints)
            state = checkpoints.restore(state) or state
        start_step = int(state.step)
        if start_step >= total_steps:
            return Trained(experiment.network(), state.variables(), start_step, total_steps)

        feed = data.train_feed(
            source,
            batch_size=experiment.batch_size,
            seed=experiment.seed,
            mesh=mesh,
            resident={"auto": "auto", "yes": True, "no": False}[execution.resident],
            num_workers=execution.num_workers,
            prefetch=execution.prefetch,
        )
        stack.callback(feed.close)
        sizes = {"steps_per_epoch": steps_per_epoch, "num_classes": source.num_classes}
        train_steps = make_train_step(experiment, optimiser, feed.fetch, mesh, **sizes)
        validate = make_validation(experiment, mesh)
        scalars = stack.enter_context(ScalarWriter(workdir, step=start_step))
        preemption = stack.enter_context(Preemption())
        show = stack.enter_context(_progress(console, start_step, total_steps))
        log = _Log(experiment, scalars, show, checkpoints)

        step = start_step
        for epoch in range(start_step // steps_per_epoch, experiment.epochs):
            items = feed.epoch(epoch, start_step=step - epoch * steps_per_epoch)
            for group in _grouped(items, execution.steps_per_call):
                state, values = train_steps(state, feed.resident, group)
                before, step = step, step + len(group)
                log.add(step, values)
                if _crosses(before, step, execution.log_every):
                    log.flush(state)
                stop = preemption.reached(step)
                if checkpoints is not None and (stop or _crosses(before, step, save_every) or step == total_steps):
                    log.flush(state)
                    checkpoints.save(step, state)
                if stop:
                    if checkpoints is not None:
                        checkpoints.wait()
                    raise Preempted(step)
            log.flush(state)
            if validate is not None:
                scalars.write(step, validate(state))
        if checkpoints is not None:
            checkpoints.wait()
    return Trained(experiment.network(), state.variables(), step, total_steps)


def restore(experiment: Experiment, workdir: Path) -> Trained:
    """The newest readable checkpoint of a run, without training.

    Raises:
        FileNotFoundError: where there is none.
    """
    *_, total_steps, _, state = _prepare(experiment)
    with Checkpoints(workdir / CHECKPOINTS, keep=experiment.execution.keep_checkpoints) as checkpoints:
        state = checkpoints.restore(state)
    if state is None:
        raise FileNotFoundError(f"No readable checkpoint in {workdir / CHECKPOINTS}.")
    return Trained(experiment.network(), state.variables(), int(state.step), total_steps)


class _Log:
    """Collects the scalars of each step on the device and writes their means now and then."""

    def __init__(self, experiment: Experiment, scalars: ScalarWriter, show, checkpoints: Checkpoints | None):
        self._batch_size = experiment.batch_size
        self._scalars = scalars
        self._show = show
        self._checkpoints = checkpoints
        self._pending: list[tuple[int, dict]] = []
        self._since = time.perf_counter()

    def add(self, step: int, values: dict) -> None:
        self._pending.append((step, values))

    def flush(self, state: TrainState) -> None:
        """Writes the means since the last flush; raises if a step in between was not finite."""
        if not self._pending:
            return
        steps = [step for step, _ in self._pending]
        values = jax.device_get([values for _, values in self._pending])
        self._pending.clear()
        means = {name: float(np.mean(np.concatenate([v[name] for v in values]))) for name in values[0]}
        bad_step = int(state.bad_step)
        if bad_step >= 0:
            raise NonFiniteLossError(self._explain(bad_step))
        now = time.perf_counter()
        num_steps = sum(len(v["loss"]) for v in values)
        means["images_per_second"] = num_steps * self._batch_size / (now - self._since)
        self._since = now
        self._scalars.write(steps[-1], means)
        self._show(steps[-1], means)

    def _explain(self, step: int) -> str:
        text = f"The loss or its gradient is not finite at step {step}; lower the learning rate or clip the gradient."
        if self._checkpoints is not None:
            self._checkpoints.wait()
            last = self._checkpoints.latest_step()
            text += f" Last good checkpoint: {'none' if last is None else self._checkpoints.folder / str(last)}."
        return text


class _Prepared(NamedTuple):
    """What a run needs before its first step."""

    mesh: Mesh
    source: data.Source
    steps_per_epoch: int
    total_steps: int
    optimiser: optax.GradientTransformation
    state: TrainState


def _prepare(experiment: Experiment) -> _Prepared:
    """Checks that data, model and devices fit together, and makes the initial state."""
    mesh = data_mesh(jax.devices()[: experiment.execution.num_devices])
    if experiment.batch_size % mesh.size:
        raise ValueError(f"Expected batch_size to divide by the {mesh.size} devices, got {experiment.batch_size}.")
    source = experiment.data.load("train")
    steps_per_epoch = len(source) // experiment.batch_size
    if steps_per_epoch == 0:
        raise ValueError(f"Expected batch_size <= {len(source)} training examples, got {experiment.batch_size}.")
    num_outputs = getattr(experiment.model, "num_classes", source.num_classes)
    if num_outputs != source.num_classes:
        raise ValueError(f"model.num_classes is {num_outputs}, but {source.name} has {source.num_classes} classes.")
    total_steps = experiment.epochs * steps_per_epoch
    optimiser = experiment.optimiser(experiment.schedule(total_steps, steps_per_epoch))
    state = init_state(
        experiment.network(),
        optimiser,
        seed=experiment.seed,
        image_shape=source.image_shape,
        averaged=experiment.averaging is not None,
        weights=experiment.initial,
    )
    return _Prepared(mesh, source, steps_per_epoch, total_steps, optimiser, replicate(state, mesh))


def _grouped(items: Iterator[PyTree], size: int) -> Iterator[tuple[PyTree, ...]]:
    while group := tuple(itertools.islice(items, size)):
        yield group


def _crosses(before: int, after: int, every: int) -> bool:
    return before // every != after // every


@contextlib.contextmanager
def _progress(console: Console | None, start_step: int, total_steps: int):
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
