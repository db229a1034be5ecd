"""The training loop: feeds the compiled step, logs, saves, resumes, stops."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree
from rich.console import Console

from robust_jax import data, models
from robust_jax.core.keys import RunKeys
from robust_jax.core.mesh import replicate
from robust_jax.train.best_weights import BEST, BestWeights
from robust_jax.train.checkpoint import Checkpoints
from robust_jax.train.experiment import Experiment, stage_experiments
from robust_jax.train.log import Log
from robust_jax.train.members import choose_member_map, make_members
from robust_jax.train.preemption import Preempted, Preemption
from robust_jax.train.prepare import Prepared, initial_state, make_feed, prepare
from robust_jax.train.progress import training_progress
from robust_jax.train.scalars import ScalarWriter
from robust_jax.train.state import TrainState, Variables
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
        prepare(stage[0])
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
    prepared = prepare(experiments[0])
    state = initial_state(experiments[0], prepared, starts[0])
    sizes = {
        "image_shape": prepared.source.image_shape,
        "num_classes": prepared.source.num_classes,
        "label_shape": prepared.source.label_shape,
    }
    member_map = choose_member_map(experiments[0], len(experiments), state, mesh=prepared.mesh, **sizes)
    if member_map != "turn" or len(experiments) == 1:
        others = zip(experiments[1:], starts[1:], strict=True)
        states = [state, *(initial_state(experiment, prepared, start) for experiment, start in others)]
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
    prepared: Prepared,
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

    with contextlib.ExitStack() as stack:
        bests = _best_weights(experiments, workdirs, states, stack)
        validate = make_validation(first, mesh, task)
        at_boundary = start_step > 0 and start_step % steps_per_epoch == 0
        if bests and validate is not None and at_boundary:
            # A run that was killed after its last save of an epoch has not validated it.
            for best, state in zip(bests, states, strict=True):
                best.add(start_step, validate(state), state.variables())
        if start_step >= total_steps:
            return _ended(network, states, prepared, bests)
        feed = make_feed(first, prepared)
        stack.callback(feed.close)
        feeds = [feed.with_seed(experiment.seed) for experiment in experiments]
        sizes = {"steps_per_epoch": steps_per_epoch, "num_classes": source.num_classes}
        members = make_members(experiments, member_map, optimiser, feed.fetch, mesh, **sizes)
        scalars = [stack.enter_context(ScalarWriter(workdir, step=start_step)) for workdir in workdirs]
        preemption = stack.enter_context(Preemption())
        show = stack.enter_context(training_progress(console, start_step, total_steps))
        log = Log(first, members, scalars, show, checkpoints)

        # Decoded once for all epochs, where an objective reads it.
        resident = "auto" if first.objective.learns_from_passes else False
        examples = data.evaluation(source, batch_size=execution.eval_batch_size, mesh=mesh, resident=resident)
        step = start_step
        together = members.gather(states)
        # The caller's list as well, so that they are not held twice.
        states.clear()
        for epoch in range(start_step // steps_per_epoch, first.epochs):
            if first.objective.learns_from_passes and step == epoch * steps_per_epoch:
                before_epoch = [members.member(together, i) for i in range(len(experiments))]
                passed = [
                    _learned_from_pass(*each, examples, mesh, epoch)
                    for each in zip(experiments, before_epoch, strict=True)
                ]
                together = members.gather(passed)
                del before_epoch, passed
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
                    state = members.member(together, i)
                    measures = validate(state)
                    writer.write(step, measures)
                    if bests:
                        bests[i].add(step, measures, state.variables())
        for saved in checkpoints:
            saved.wait()
        ended = [members.member(together, i) for i in range(len(experiments))]
        return _ended(network, ended, prepared, bests)


def _ended(
    network: Model, states: Sequence[TrainState], prepared: Prepared, bests: Sequence[BestWeights]
) -> tuple[Trained, ...]:
    selected = [best.variables() for best in bests] or [None] * len(states)
    return tuple(_trained(network, *each, prepared) for each in zip(states, selected, strict=True))


def _trained(network: Model, state: TrainState, selected: Variables | None, prepared: Prepared) -> Trained:
    variables = state.variables() if selected is None else selected
    return Trained(network, variables, int(state.step), prepared.total_steps, state.snapshots(), prepared.task)


def _best_weights(
    experiments: Sequence[Experiment],
    workdirs: Sequence[Path | None],
    states: Sequence[TrainState],
    stack: contextlib.ExitStack,
) -> list[BestWeights]:
    """Return the best weights of each member; none where the last are evaluated."""
    selection = experiments[0].selection
    if selection is None:
        return []
    pairs = zip(workdirs, states, strict=True)
    return [stack.enter_context(BestWeights(selection, workdir, state.variables())) for workdir, state in pairs]


def _learned_from_pass(
    experiment: Experiment, state: TrainState, examples: data.Evaluation, mesh: Mesh, epoch: int
) -> TrainState:
    """Return the state with what the objective learns from all training examples."""
    network = models.predictor(experiment.network(), {"params": state.params.network, **state.model_state})
    key = RunKeys(jax.random.key(experiment.seed)).whole_pass(epoch)
    own = experiment.objective.before_epoch(key, network, examples.batches(), state.objective_state)
    return state._replace(objective_state=replicate(own, mesh))


def restore(experiment: Experiment, workdir: Path) -> Trained:
    """The newest readable checkpoint of a run, without training.

    Raises:
        FileNotFoundError: where there is none.
    """
    last = stage_experiments(experiment)[-1]
    folder = _folder_of_stage(experiment, workdir, len(experiment.stages) - 1)
    prepared = prepare(last)
    # The weights it began with are in the checkpoint.
    state = initial_state(dataclasses.replace(last, initial=None), prepared, None)
    with Checkpoints(folder / CHECKPOINTS, keep=last.execution.keep_checkpoints) as checkpoints:
        state = checkpoints.restore(state)
    if state is None:
        raise FileNotFoundError(f"No readable checkpoint in {folder / CHECKPOINTS}.")
    selected = None
    if last.selection is not None and state.step > 0:
        with BestWeights(last.selection, folder, state.variables()) as best:
            selected = best.variables()
        if selected is None:
            raise FileNotFoundError(f"No readable weights in {folder / BEST}.")
    return _trained(last.network(), state, selected, prepared)


def _grouped(items: Iterator[PyTree], size: int) -> Iterator[tuple[PyTree, ...]]:
    while group := tuple(itertools.islice(items, size)):
        yield group


def _crosses(before: int, after: int, every: int) -> bool:
    return before // every != after // every
