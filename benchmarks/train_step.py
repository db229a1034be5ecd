"""What augmentation inside the compiled training step costs: images per second with and without it.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --only AugMix "AugMix + JSD" --devices 2
    python benchmarks/train_step.py --model.depth 28 --model.width 4 --batch-size 384 --precision bfloat16 --out FILE

The steps are timed in turn, so that all see the same machine. The matrix rate is that of a large product in the
same precision, measured in the same run.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from robust_jax import augmentations, data, models, objectives, train
from robust_jax.core.checks import check_choice
from robust_jax.core.files import write_atomically
from robust_jax.core.mesh import data_mesh, replicate
from robust_jax.train.members import example_batch
from robust_jax.train.state import init_state


@dataclasses.dataclass(frozen=True)
class Settings:
    """Network, batch and repetitions."""

    model: models.WideResNet = dataclasses.field(default_factory=lambda: models.WideResNet(depth=16, width=1))
    """The network."""
    batch_size: int = 128
    """Images per step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Computation type."""
    repeats: int = 15
    """Timings of each step."""
    only: tuple[str, ...] = ()
    """Recipes to time beside the step without any; by default all."""
    devices: int = 1
    """Virtual devices of a CPU that the batch is split over: what is augmented one image at a time takes one each."""
    out: str | None = None
    """Where to write the figures as JSON."""


def main(settings: Settings) -> None:
    jax.config.update("jax_num_cpu_devices", settings.devices)
    chosen = recipes()
    for name in settings.only:
        check_choice("recipe", name, tuple(chosen))
    names = ("without", *(settings.only or tuple(chosen)[1:]))
    steps = {name: make_step(settings, **chosen[name]) for name in names}
    times: dict[str, list[float]] = {name: [] for name in steps}
    first: dict[str, float] = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        first[name] = time.perf_counter() - start
        Console(stderr=True).print(f"{name}: first step {first[name]:.1f} s")
    for _ in range(settings.repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    figures = summarise(settings, first, times, flops_per_step(settings))
    show(settings, figures)
    if settings.out is not None:
        write_atomically(Path(settings.out), json.dumps(figures, indent=2) + "\n")


def recipes() -> dict[str, dict[str, Any]]:
    """Fields of the experiment, nothing first."""
    usual = augmentations.Chain((augmentations.RandomCrop(), augmentations.HorizontalFlip()))
    augmented = {
        "gaussian": augmentations.Gaussian(),
        "c1": augmentations.RandomLp("c1"),
        "c2": augmentations.RandomLp("c2"),
        "crop and flip": usual,
        "resized crop": augmentations.RandomResizedCrop(),
        "Cutout": augmentations.Cutout(),
        "random erasing": augmentations.RandomErasing(),
        "PatchGaussian": augmentations.PatchGaussian(),
        "colour jitter": augmentations.ColourJitter(),
        "blur": augmentations.GaussianBlur(),
        "YOCO flip": augmentations.Yoco(augmentations.HorizontalFlip()),
        "RandAugment": augmentations.RandAugment(),
        "TrivialAugment": augmentations.TrivialAugment(),
        "AutoAugment": augmentations.AutoAugment(),
        "AugMix": augmentations.AugMix(),
        "PRIME": augmentations.Prime(),
        "DeepAugment": augmentations.DeepAugment(),
        "Noise2Net": augmentations.Noise2Net(),
    }
    mixers = {"Mixup": augmentations.Mixup(), "CutMix": augmentations.CutMix()}
    return {
        "without": {},
        **{name: {"augmentation": augmentation} for name, augmentation in augmented.items()},
        **{name: {"mixers": (mixer,)} for name, mixer in mixers.items()},
        "AugMix + JSD": {"objective": objectives.JensenShannon(augmentations.AugMix())},
        "PRIME + JSD": {"objective": objectives.JensenShannon(augmentations.Prime())},
    }


def make_step(settings: Settings, **recipe: Any) -> Callable[[], None]:
    """A function that takes one training step and waits for it."""
    mesh = data_mesh()
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4 * settings.batch_size, 32, 32, 3), np.uint8)
    labels = generator.integers(0, 10, len(images))
    dataset = data.Arrays(train=(images, labels))
    experiment = train.Experiment(
        data=dataset,
        model=settings.model,
        **recipe,
        precision=settings.precision,
        batch_size=settings.batch_size,
    )
    feed = data.train_feed(dataset.load("train"), batch_size=settings.batch_size, seed=0, mesh=mesh)
    optimiser = experiment.optimiser(lambda step: 1e-3)
    state = replicate(init_state(experiment, optimiser, example_batch(experiment, (32, 32, 3), 10)), mesh)
    sizes = {"steps_per_epoch": feed.steps_per_epoch, "num_classes": 10}
    train_steps = train.make_train_step(experiment, optimiser, feed.fetch, mesh, **sizes)
    items = (next(feed.epoch(0)),)
    key = replicate(jax.random.key(0), mesh)

    def step() -> None:
        nonlocal state
        state, _ = train_steps(key, state, feed.resident, items)
        jax.block_until_ready(state)

    return step


def flops_per_step(settings: Settings) -> float:
    """Floating-point operations of a forward and backward pass, as XLA counts the forward one, times three."""
    network = settings.model.clone(dtype=settings.precision)
    # Programs for a GPU are counted only once they are compiled.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        params, model_state = models.init(network, jax.random.key(0), (32, 32, 3))
        images = jnp.zeros((settings.batch_size, 32, 32, 3))
        lowered = jax.jit(models.predictor(network, {"params": params, **model_state})).lower(images)
        return 3 * lowered.cost_analysis()["flops"]


def matrix_rate(precision: str, *, size: int = 4096, repeats: int = 10) -> float:
    """Floating-point operations per second of a square matrix product."""
    size = size if jax.default_backend() != "cpu" else 2048
    matrix = jax.random.normal(jax.random.key(0), (size, size), precision)
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(matrix).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / float(np.median(times))


def summarise(settings: Settings, first: dict[str, float], times: dict[str, list[float]], flops: float) -> dict:
    rate = matrix_rate(settings.precision)
    base = np.array(times["without"])
    return {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "model": f"WRN-{settings.model.depth}-{settings.model.width}",
        "batch_size": settings.batch_size,
        "precision": settings.precision,
        "matrix_flops_per_second": rate,
        "steps": {
            name: {
                "first_step_s": first[name],
                "milliseconds": 1e3 * float(np.median(values)),
                "images_per_second": settings.batch_size / float(np.median(values)),
                "ratio": float(np.median(np.array(values) / base)),
                "fraction_of_matrix_rate": flops / float(np.median(values)) / rate,
            }
            for name, values in times.items()
        },
    }


def show(settings: Settings, figures: dict) -> None:
    title = f"training step, {figures['model']}, batch {settings.batch_size}, {settings.precision}, {figures['device']}"
    table = Table(title=title)
    for column in ("recipe", "first, s", "ms (median)", "images/s", "time / without", "of matrix rate"):
        table.add_column(column, justify="right")
    for name, row in figures["steps"].items():
        fraction = f"{row['fraction_of_matrix_rate']:.1%}"
        cells = (f"{row['first_step_s']:.1f}", f"{row['milliseconds']:.1f}", f"{row['images_per_second']:.0f}")
        table.add_row(name, *cells, f"{row['ratio']:.3f}", fraction)
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings))
