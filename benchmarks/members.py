"""Members of an ensemble trained in one program, beside as many runs in turn.

    python benchmarks/members.py
    python benchmarks/members.py --maps map vmap --num-members 5 --steps 20 --out FILE
    python benchmarks/members.py --model.stage-sizes 2 2 2 --model.width 32 --batch-size 256

Two figures of each way, all of which take turns: the time of one step of all members, compiled before; and of a whole
run from nothing, compilation included, with nothing compiled before.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from robust_jax import data, models, train
from robust_jax.core.checks import check_choice
from robust_jax.core.files import write_atomically
from robust_jax.core.mesh import data_mesh, replicate
from robust_jax.train.members import example_batch, make_members
from robust_jax.train.state import init_state

TURN = "turn"
MAPS = (TURN, "map", "vmap", "devices")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Network, members, and repetitions."""

    model: models.ResNet = dataclasses.field(
        default_factory=lambda: models.ResNet(stage_sizes=(1, 1, 1), width=16, stem="patch")
    )
    """The network."""
    num_members: int = 5
    """Members."""
    batch_size: int = 64
    """Images per step of each."""
    image_size: int = 32
    """Pixels of a side."""
    maps: tuple[str, ...] = ("map", "vmap")
    """Ways to time beside in turn: map, vmap, devices."""
    repeats: int = 15
    """Timings of a step."""
    steps: int = 20
    """Steps of the whole run; 0 leaves it out."""
    run_repeats: int = 3
    """Whole runs of each way."""
    devices: int = 1
    """Virtual devices of a CPU."""
    out: str | None = None
    """Where to write the figures as JSON."""


def main(settings: Settings) -> None:
    jax.config.update("jax_num_cpu_devices", settings.devices)
    for name in settings.maps:
        check_choice("maps", name, MAPS)
    names = (TURN, *(name for name in settings.maps if name != TURN))
    steps = time_in_turn({name: make_step(settings, name) for name in names}, settings.repeats)
    runs = time_in_turn({name: make_run(settings, name) for name in names}, settings.run_repeats, warm_up=False)
    figures = {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "model": f"ResNet {settings.model.stage_sizes}, width {settings.model.width}",
        "num_members": settings.num_members,
        "batch_size": settings.batch_size,
        "image_size": settings.image_size,
        "step": summarise(steps),
        "run_steps": settings.steps,
        "run": summarise(runs) if settings.steps else {},
    }
    show(figures)
    if settings.out is not None:
        write_atomically(Path(settings.out), json.dumps(figures, indent=2) + "\n")


def time_in_turn(
    functions: dict[str, Callable[[], None]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds, all of them in every round, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values() if warm_up else ():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return times


def make_experiments(settings: Settings, member_map: str, num_steps: int) -> list[train.Experiment]:
    """What each member is alone, for so many steps in one epoch."""
    generator = np.random.default_rng(0)
    shape = (num_steps * settings.batch_size, settings.image_size, settings.image_size, 3)
    images = generator.integers(0, 256, shape, np.uint8)
    labels = np.arange(len(images)) % settings.model.num_classes
    experiment = train.Experiment(
        data=data.Arrays(train=(images, labels)),
        model=settings.model,
        batch_size=settings.batch_size,
        epochs=1,
        members=settings.num_members,
        execution=train.Execution(member_map=member_map),
    )
    return train.member_experiments(experiment)


def make_step(settings: Settings, member_map: str) -> Callable[[], None]:
    """A function that takes one step of every member and waits for them."""
    experiments = make_experiments(settings, member_map, 4)
    groups = [[experiment] for experiment in experiments] if member_map == TURN else [experiments]
    steps = [make_group_step(settings, member_map, group) for group in groups]

    def step() -> None:
        for one in steps:
            one()

    return step


def make_group_step(settings: Settings, member_map: str, experiments: list[train.Experiment]) -> Callable[[], None]:
    """The same of members that are one program."""
    mesh = data_mesh()
    source = experiments[0].data.load("train")
    feed = data.train_feed(source, batch_size=settings.batch_size, seed=0, mesh=mesh)
    optimiser = experiments[0].optimiser(lambda step: 1e-3)
    sizes = {"steps_per_epoch": feed.steps_per_epoch, "num_classes": source.num_classes}
    members = make_members(experiments, member_map, optimiser, feed.fetch, mesh, **sizes)
    example = example_batch(experiments[0], source.image_shape, source.num_classes)
    states = [replicate(init_state(experiment, optimiser, example), mesh) for experiment in experiments]
    states = members.gather(states)
    items = (tuple(next(feed.with_seed(experiment.seed).epoch(0)) for experiment in experiments),)

    def step() -> None:
        nonlocal states
        states, _ = members.step(states, feed.resident, items)
        jax.block_until_ready(states)

    return step


def make_run(settings: Settings, member_map: str) -> Callable[[], None]:
    """A function that trains all members for so many steps, from nothing."""
    if not settings.steps:
        return lambda: None
    experiments = make_experiments(settings, member_map, settings.steps)

    def run() -> None:
        jax.clear_caches()
        jax.block_until_ready([one.variables for one in train.fit_members(experiments, [None] * len(experiments))])

    return run


def summarise(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Medians, the ratio that of the rounds."""
    base = np.array(times[TURN])
    return {
        name: {"seconds": float(np.median(values)), "ratio": float(np.median(np.array(values) / base))}
        for name, values in times.items()
    }


def show(figures: dict) -> None:
    title = f"{figures['num_members']} members, {figures['model']}, batch {figures['batch_size']}, {figures['device']}"
    table = Table(title=title)
    run = f"run of {figures['run_steps']} steps"
    for column in ("members", "step, ms", "step / in turn", f"{run}, s", f"{run} / in turn"):
        table.add_column(column, justify="right")
    for name, step in figures["step"].items():
        cells = [f"{1e3 * step['seconds']:.1f}", f"{step['ratio']:.3f}"]
        if figures["run"]:
            cells += [f"{figures['run'][name]['seconds']:.1f}", f"{figures['run'][name]['ratio']:.3f}"]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings))
