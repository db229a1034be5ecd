"""The training loop: feeds the compiled step, logs, saves, resumes, stops."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robust_jax import data, models
from robust_jax.core.mesh import data_mesh, replicate
from robust_jax.train.averaging import Snapshots
from robust_jax.train.checkpoint import Checkpoints
from robust_jax.train.experiment import Experiment, stage_experiments
from robust_jax.train.initial import FromRun, matches, only_trainable
from robust_jax.train.log import Log
from robust_jax.train.members import choose_member_map, example_batch, make_members
from robust_jax.train.preemption import Preempted, Preemption
from robust_jax.train.scalars import ScalarWriter
from robust_jax.train.state import TrainState, Variables, init_state
from robust_jax.train.task import check_transforms, fitting_task
from robust_jax.train.validation import make_validation
from robust_jax.types import Model, Task

CHECKPOINTS = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Trained:
    """The outcome of training: the network, the variables to evaluate, and the steps taken of all there are.

    Where :class:`~robust_jax.train.Snapshots` were taken along the way, they are here as well. ``task`` is the meaning
    of the predictions; None where neither the experiment nor the data says it.
    """

    model: Model
    variables: PyTree
    step: int
    total_steps: int
    snapshots: tuple[PyTree, ...] = ()
    task: Task | None = None

    @property
    def predictor(self):
        """The network with its variables, in evaluation mode."""
        return models.predictor(self.model, self.variables)


def fit(
    experiment: Experiment,
    workdir: Path | None = None,
    *,
    initial: Variables | None = None,
    console: Console | None = None,
) -> Trained:
    """Train to the end, or resume.

    Args:
        experiment: what to train.
        workdir: where checkpoints, ``metrics.jsonl`` and TensorBoard files go; a run found there is resumed to the
            same bits. Stages have folders of their own in it. None keeps everything in memory.
        initial: variables to start from, in place of ``experiment.initial``.
        console: where progress is shown; None shows none.

    Raises:
        ValueError: if model and data do not fit, or the batch size does not divide over the devices.
        NonFiniteLossError: with the step, and the last checkpoint, from before it.
        Preempted: after SIGTERM, when the state is saved.
    """
    (trained,) = fit_members([experiment], [workdir], initial=None if initial is None else [initial], console=console)
    return trained


def fit_members(
    experiments: Sequence[Experiment],
    workdirs: Sequence[Path | None],
    *,
    initial: Sequence[Variables] | None = None,
    console: Console | None = None,
) -> tuple[Trained, ...]:
    """Trains networks that differ in their seeds alone, together or in turn, as ``execution.member_map`` says.

    Each ends as it would alone, but for rounding, and has its own folder, as it would alone. A run that was killed goes
    on from the last step that all have saved, to the same bits; members that are further apart than from one save to
    the next, as when training in turn was interrupted, go on in turn.

    Args:
        experiments: one for each network.
        workdirs: of each; or None for all.
        initial: variables that each starts from.
        console: where progress is shown; None shows none.

    Raises:
        ValueError: as :func:`fit`; or if members do not divide over devices as is asked, or need too much memory.
        NonFiniteLossError: as :func:`fit`, of whichever network is first.
        Preempted: as :func:`fit`.
    """
    stages = list(zip(*map(stage_experiments, experiments), strict=True))
    # Faults of later stages are found before the first is trained.
    for stage in stages:
        _prepare(stage[0])
    trained: tuple[Trained, ...] = ()
    for number, stage in enumerate(stages):
        folders = [stage_folder(experiments[0], workdir, number) for workdir in workdirs]
        if trained:
            initial = [one.variables for one in trained]
        trained = _fit_stage(stage, folders, initial, console)
    return trained


def stage_folder(experiment: Experiment, workdir: Path | None, number: int) -> Path | None:
    """Return the folder of a stage, ``stageI_NAME``; a run without stages has its folder to itself."""
    return None if workdir is None else _folder_of_stage(experiment, workdir, number)


def _folder_of_stage(experiment: Experiment, workdir: Path, number: int) -> Path:
    if not experiment.stages:
        return workdir
    return workdir / f"stage{number}_{experiment.stages[number].name}"


def _fit_stage(
    experiments: Sequence[Experiment],
    workdirs: Sequence[Path | None],
    initial: Sequence[Variables] | None,
    console: Console | None,
) -> tuple[Trained, ...]:
    starts = initial or [None] * len(experiments)
    prepared = _prepare(experiments[0])
    state = _initial_state(experiments[0], prepared, starts[0])
    sizes = {
        "image_shape": prepared.source.image_shape,
        "num_classes": prepared.source.num_classes,
        "label_shape": prepared.source.label_shape,
    }
    member_map = choose_member_map(experiments[0], len(experiments), state, mesh=prepared.mesh, **sizes)
    if member_map != "turn" or len(experiments) == 1:
        others = zip(experiments[1:], starts[1:], strict=True)
        states = [state, *(_initial_state(experiment, prepared, start) for experiment, start in others)]
        del state
        with contextlib.ExitStack() as stack:
            checkpoints = [
                stack.enter_context(Checkpoints(workdir / CHECKPOINTS, keep=experiment.execution.keep_checkpoints))
                for experiment, workdir in zip(experiments, workdirs, strict=True)
                if workdir is not None
            ]
            save_every = experiments[0].execution.checkpoint_every or prepared.steps_per_epoch
            states = _resume(checkpoints, states, furthest_apart=save_every)
            if states is not None:
                return _train(experiments, workdirs, prepared, member_map, states, checkpoints, console)
    return tuple(
        fit(experiment, workdir, initial=start, console=console)
        for experiment, workdir, start in zip(experiments, workdirs, starts, strict=True)
    )


def _resume(
    checkpoints: list[Checkpoints], states: list[TrainState], *, furthest_apart: int
) -> list[TrainState] | None:
    """The newest states that are saved of the same step; None where members are too far apart for that."""
    if not checkpoints:
        return states
    found = [saved.restore(state) or state for saved, state in zip(checkpoints, states, strict=True)]
    steps = [int(state.step) for state in found]
    step = min(steps)
    if max(steps) - step > furthest_apart:
        return None
    for i, saved in enumerate(checkpoints):
        if steps[i] > step:
            found[i] = (saved.restore(states[i], at_most=step) if step > 0 else None) or states[i]
    if any(int(state.step) != step for state in found):
        return None
    for saved in checkpoints:
        saved.drop_after(step)
    return found


def _train(
    experiments: Sequence[Experiment],
    workdirs: Sequence[Path | None],
    prepared: _Prepared,
    member_map: str,
    states: list[TrainState],
    checkpoints: list[Checkpoints],
    console: Console | None,
) -> tuple[Trained, ...]:
    first, execution = experiments[0], experiments[0].execution
    mesh, source, _, steps_per_epoch, total_steps, optimiser, task = prepared
    network = first.network()
    save_every = execution.checkpoint_every or steps_per_epoch
    start_step = int(states[0].step)
    if start_step >= total_steps:
        return tuple(_trained(network, state, total_steps, task) for state in states)

    with contextlib.ExitStack() as stack:
        feed = _feed(first, prepared)
        stack.callback(feed.close)
        feeds = [feed.with_seed(experiment.seed) for experiment in experiments]
        sizes = {"steps_per_epoch": steps_per_epoch, "num_classes": source.num_classes}
        members = make_members(experiments, member_map, optimiser, feed.fetch, mesh, **sizes)
        validate = make_validation(first, mesh, task)
        scalars = [stack.enter_context(ScalarWriter(workdir, step=start_step)) for workdir in workdirs]
        preemption = stack.enter_context(Preemption())
        show = stack.enter_context(_progress(console, start_step, total_steps))
        log = Log(first, members, scalars, show, checkpoints)

        step = start_step
        together = members.gather(states)
        # The caller's list as well, so that they are not held twice.
        states.clear()
        for epoch in range(start_step // steps_per_epoch, first.epochs):
            epochs = [one.epoch(epoch, start_step=step - epoch * steps_per_epoch) for one in feeds]
            for group in _grouped(zip(*epochs, strict=True), execution.steps_per_call):
                together, values = members.step(together, feed.resident, group)
                before, step = step, step + len(group)
                log.add(step, values)
                if _crosses(before, step, execution.log_every):
                    log.flush(together)
                stop = preemption.reached(step)
                if checkpoints and (stop or _crosses(before, step, save_every) or step == total_steps):
                    log.flush(together)
                    for i, saved in enumerate(checkpoints):
                        saved.save(step, members.member(together, i))
                if stop:
                    for saved in checkpoints:
                        saved.wait()
                    raise Preempted(step)
            log.flush(together)
            if validate is not None:
                for i, writer in enumerate(scalars):
                    writer.write(step, validate(members.member(together, i)))
        for saved in checkpoints:
            saved.wait()
    ended = [members.member(together, i) for i in range(len(experiments))]
    return tuple(_trained(network, state, total_steps, task) for state in ended)


def _trained(network: Model, state: TrainState, total_steps: int, task: Task | None) -> Trained:
    return Trained(network, state.variables(), int(state.step), total_steps, state.snapshots(), task)


def restore(experiment: Experiment, workdir: Path) -> Trained:
    """The newest readable checkpoint of a run, without training.

    Raises:
        FileNotFoundError: where there is none.
    """
    last = stage_experiments(experiment)[-1]
    folder = _folder_of_stage(experiment, workdir, len(experiment.stages) - 1)
    prepared = _prepare(last)
    # The weights it began with are in the checkpoint.
    state = _initial_state(dataclasses.replace(last, initial=None), prepared, None)
    with Checkpoints(folder / CHECKPOINTS, keep=last.execution.keep_checkpoints) as checkpoints:
        state = checkpoints.restore(state)
    if state is None:
        raise FileNotFoundError(f"No readable checkpoint in {folder / CHECKPOINTS}.")
    return _trained(last.network(), state, prepared.total_steps, prepared.task)


class _Prepared(NamedTuple):
    """What a run needs before its first step."""

    mesh: Mesh
    source: data.Source
    extra: dict[str, data.Source]
    steps_per_epoch: int
    total_steps: int
    optimiser: optax.GradientTransformation
    task: Task | None


def _prepare(experiment: Experiment) -> _Prepared:
    """Checks that data, model and devices fit together."""
    mesh = data_mesh(jax.devices()[: experiment.execution.num_devices])
    if experiment.batch_size % mesh.size:
        raise ValueError(f"Expected batch_size to divide by the {mesh.size} devices, got {experiment.batch_size}.")
    source = experiment.data.load("train")
    steps_per_epoch = len(source) // experiment.batch_size
    if steps_per_epoch == 0:
        raise ValueError(f"Expected batch_size <= {len(source)} training examples, got {experiment.batch_size}.")
    params, model_state, output = models.output_shapes(experiment.network(), source.image_shape)
    task = fitting_task(experiment, source, output.prediction)
    check_transforms(experiment, source)
    extra = {name: stream.data.load("train") for name, stream in experiment.extra.items()}
    for name, stream in extra.items():
        if stream.image_shape != source.image_shape:
            raise ValueError(
                f"Expected images of the extra stream {name!r} of shape {source.image_shape}, got {stream.image_shape}."
            )
    total_steps = experiment.epochs * steps_per_epoch
    kept = experiment.averaging
    if isinstance(kept, Snapshots) and kept.keep * kept.period_steps(steps_per_epoch) > total_steps:
        raise ValueError(
            f"Expected epochs for {kept.keep} cycles of {kept.period_epochs:g} epochs to take snapshots of, "
            f"got epochs={experiment.epochs}."
        )
    optimiser = experiment.optimiser(experiment.schedule(total_steps, steps_per_epoch))
    experiment.gradient.check(model_state)
    if experiment.trainable is not None:
        optimiser = only_trainable(optimiser, matches(params, experiment.trainable, argument="trainable"))
    return _Prepared(mesh, source, extra, steps_per_epoch, total_steps, optimiser, task)


def _feed(experiment: Experiment, prepared: _Prepared) -> data.Feed:
    execution = experiment.execution
    settings = {
        "mesh": prepared.mesh,
        "resident": {"auto": "auto", "yes": True, "no": False}[execution.resident],
        "num_workers": execution.num_workers,
        "prefetch": execution.prefetch,
    }
    feed = data.train_feed(prepared.source, batch_size=experiment.batch_size, seed=experiment.seed, **settings)
    if not experiment.extra:
        return feed
    extra = {
        name: data.train_feed(prepared.extra[name], batch_size=stream.batch_size, seed=experiment.seed, **settings)
        for name, stream in experiment.extra.items()
    }
    return data.MultiFeed(feed, extra).with_seed(experiment.seed)


def _initial_state(experiment: Experiment, prepared: _Prepared, initial: Variables | None) -> TrainState:
    if isinstance(experiment.initial, FromRun) and initial is None:
        raise ValueError(
            f"Expected the weights of run {experiment.initial.name!r} as initial=, got none; robust-jax run trains it."
        )
    source = prepared.source
    label_shape = source.label_shape
    example = example_batch(experiment, source.image_shape, source.num_classes, label_shape=label_shape)
    state = init_state(experiment, prepared.optimiser, example, initial=initial)
    return replicate(state, prepared.mesh)


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
