"""An experiment: everything that decides the result of a run, as one plain value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from robust_jax import config
from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.core.fields import check_fields
from robust_jax.core.keys import derived_seed
from robust_jax.data import DataSet
from robust_jax.objectives import CrossEntropy
from robust_jax.posteriors import Posterior
from robust_jax.train.averaging import Averaging
from robust_jax.train.gradients import Gradient, Mean
from robust_jax.train.initial import FromRun
from robust_jax.train.optimisers import Optimiser, Sgd
from robust_jax.train.schedules import Cosine, Schedule
from robust_jax.train.selection import Best
from robust_jax.train.stage import Stage, Stream
from robust_jax.types import Augmentation, Mixer, Module, Objective, Task

MEMBER_MAPS = ("auto", "turn", "map", "vmap", "devices")


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a run is carried out. None of this changes its results, so a run may be resumed with other values.

    Results are the same but for rounding: programs of other shapes add in another order.
    """

    steps_per_call: int = 1
    """Training steps per compiled call; more hide dispatch on fast accelerators and compile longer on a CPU."""
    resident: Literal["auto", "yes", "no"] = "auto"
    """Keep the decoded training set on the device; auto does where it is small."""
    num_workers: int = 0
    """Worker processes that decode a streamed training set; 0 decodes in this process."""
    prefetch: int = 2
    """Batches prepared ahead by each worker."""
    eval_batch_size: int = 500
    """Examples per compiled call in evaluation."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None saves after every epoch."""
    keep_checkpoints: int = 2
    """Checkpoints kept; older ones are deleted."""
    num_devices: int | None = None
    """Use only the first so many devices; None takes all."""
    member_map: Literal["auto", "turn", "map", "vmap", "devices"] = "auto"
    """How the members of an ensemble are trained: each to its end before the next (turn); or all at once, in every step
    one after the other (map), together as one larger network (vmap), or divided over the devices, each of which has
    members of its own in place of a part of every batch (devices). Auto does map on a CPU, where one program of all is
    no faster; elsewhere devices if members divide over several, vmap for small networks, and else map; and turn where
    that does not fit in memory."""
    member_memory: float | None = None
    """Gigabytes (1e9 bytes) on each device that members trained at once may need by the estimate; None takes what the
    device says it has, and does not limit where it says nothing."""

    def __post_init__(self):
        check_choice("member_map", self.member_map, MEMBER_MAPS)
        for name in ("steps_per_call", "prefetch", "eval_batch_size", "log_every", "keep_checkpoints"):
            check_positive(name, getattr(self, name))
        for name in ("checkpoint_every", "num_devices", "member_memory"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One training run and its evaluation.

    Equal experiments give equal numbers. ``execution`` stands apart: it takes no part in comparison.
    """

    data: DataSet
    """Where the images come from."""
    model: Module
    """The network."""
    initial: str | FromRun | None = None
    """Weights to start from: a file that :func:`~robust_jax.weights.load_weights` reads, or another run of the
    experiment file; None starts at random."""
    reset: tuple[str, ...] = ()
    """Patterns of parameters, such as ``"head/*"``, that are drawn anew where another run gives the weights."""
    trainable: tuple[str, ...] | None = None
    """Patterns of the parameters that move, such as ``("head/*",)``; batch norms that do not move use their running
    statistics. None moves all."""
    extra: dict[str, Stream] = dataclasses.field(default_factory=dict)
    """Data streams beside the training set, by the name that the objective reads."""
    augmentation: Augmentation | None = None
    """Random transform of each training image, inside the compiled step."""
    mixers: tuple[Mixer, ...] = ()
    """Random transforms that couple the examples of a batch, applied in turn."""
    objective: Objective = CrossEntropy()
    """The training loss."""
    task: Task | None = None
    """Meaning of predictions and labels; None takes classification, or regression where the data has real targets,
    with variances if the network has twice as many outputs."""
    gradient: Gradient = Mean()
    """Differentiation of the loss."""
    optimiser: Optimiser = Sgd()
    """The gradient transformation."""
    schedule: Schedule = Cosine()
    """Factor of the learning rate over time."""
    averaging: Averaging | None = None
    """Average of the weights that is evaluated in place of the last ones; or snapshots, which are members."""
    selection: Best | None = None
    """Epoch whose weights are evaluated, by a measure on held-out examples; None takes the last."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Computation type of the network; None leaves the model's own dtype. Parameters are float32, and products of
    float32 are so on every device, see :func:`~robust_jax.predictors.apply_network`."""
    epochs: int = 10
    """Passes over the training set."""
    members: int = 1
    """Networks, each with a seed of its own, whose probabilities are averaged: a deep ensemble."""
    posterior: Posterior | None = None
    """What is fitted about the weights of each network, such as a Laplace approximation, and predicts in its place.

    It sees the training images as they are, or those that ``data`` holds out, or both, as its ``fit_splits`` say."""
    batch_size: int = 128
    """Examples per step, over all devices."""
    stages: tuple[Stage, ...] = ()
    """Parts of the run, each of which starts from the weights of the one before; none make one stage of the fields
    above."""
    suites: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What is measured afterwards, by name."""
    seed: int = 0
    """Of initialisation, order, augmentation and evaluation noise."""
    execution: Execution = dataclasses.field(default=Execution(), compare=False)
    """How it is carried out; cannot change results."""

    def __post_init__(self):
        check_fields(self)
        for name in ("batch_size", "members"):
            check_positive(name, getattr(self, name))
        check_non_negative("epochs", self.epochs)
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected stages of different names, got {names}.")
        if self.stages:
            # Each is an experiment, which checks itself.
            stage_experiments(self)
        else:
            self._check_streams()

    def _check_streams(self) -> None:
        """Raise ``ValueError`` unless the objective reads just the streams that there are."""
        wanted = set(self.objective.streams)
        for name in sorted(set(self.extra) - wanted):
            reads = f"reads {sorted(wanted)}" if wanted else "reads none"
            raise ValueError(f"Expected extra streams that the objective uses, got {name!r}; it {reads}.")
        for name in sorted(wanted - set(self.extra)):
            objective = type(self.objective).__name__
            raise ValueError(f"Expected extra={{{name!r}: Stream(...)}} for the objective {objective}, got none.")

    def __hash__(self):
        # A dict of suites has no hash of its own; the text is canonical.
        return hash(config.to_json(dataclasses.replace(self, execution=Execution())))

    def network(self) -> Module:
        """The model at the experiment's precision."""
        return self.model if self.precision is None else self.model.clone(dtype=self.precision)


def stage_experiments(experiment: Experiment) -> tuple[Experiment, ...]:
    """Return the stages of a run as experiments without stages; the experiment itself where it has none.

    The first stage has the experiment's seed, later ones seeds derived from it and their names.
    """
    if not experiment.stages:
        return (experiment,)
    flat = dataclasses.replace(experiment, stages=(), extra={}, objective=CrossEntropy())
    found = []
    for number, stage in enumerate(experiment.stages):
        own = {"extra": experiment.extra, "objective": experiment.objective}
        for field in dataclasses.fields(Stage):
            value = getattr(stage, field.name)
            if field.name != "name" and value is not None:
                own[field.name] = value
        if number > 0:
            own |= {"seed": derived_seed(experiment.seed, f"stage.{stage.name}"), "initial": None}
        found.append(dataclasses.replace(flat, **own))
    return tuple(found)


def over_seeds(runs: Mapping[str, Experiment], num_seeds: int) -> dict[str, Experiment]:
    """Every run with each of the seeds 0, 1, …, called ``NAME_seed0``, ``NAME_seed1``, …

    Tables and pages show them as one, with an interval over the seeds (:func:`~robust_jax.report.pool_seeds`).

    Raises:
        ValueError: if ``num_seeds`` is not positive.
    """
    check_positive("num_seeds", num_seeds)
    return {
        f"{name}_seed{seed}": dataclasses.replace(experiment, seed=seed)
        for name, experiment in runs.items()
        for seed in range(num_seeds)
    }
