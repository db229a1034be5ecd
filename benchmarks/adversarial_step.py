"""Adversarial training on a CPU or GPU: a training step with PGD inside, ours against PyTorch's.

    python benchmarks/adversarial_step.py
    python benchmarks/adversarial_step.py --repeats 20 --out benchmarks/results/adversarial_step_cpu.json

Three things are timed: a plain training step, a training step whose loss holds clean and adversarial images
(``objectives.Adversarial`` with PGD-10), and PGD-10 alone, which differentiates with respect to images. The network,
batch, attack and optimiser are the same on both sides. Ours and PyTorch's take turns, so that a change of the machine's
load meets both alike; medians, minima and processor time are reported. Without PyTorch only ours is timed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from robust_jax import attacks, data, models, objectives, train
from robust_jax.core.files import write_atomically
from robust_jax.core.mesh import data_mesh, replicate
from robust_jax.train.members import example_batch
from robust_jax.train.state import init_state

MEAN, STD = 0.5, 0.25
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.9, 5e-4


@dataclasses.dataclass(frozen=True)
class Settings:
    """Network, batch, attack and repetitions."""

    depth: int = 16
    """Depth of the wide residual network."""
    width: int = 1
    """Its widening factor."""
    batch_size: int = 64
    """Clean images per step."""
    steps: int = 10
    """Steps of PGD in each training step."""
    eps: float = 8 / 255
    """Radius of PGD in Linf."""
    repeats: int = 10
    """Timings of each step."""
    threads: int = 2
    """Threads of PyTorch on a CPU."""
    devices: int = 1
    """Virtual devices of a CPU that our batch is split over."""
    out: Path | None = None
    """JSON file for the figures."""


def main(settings: Settings) -> None:
    jax.config.update("jax_num_cpu_devices", settings.devices)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (settings.batch_size, 32, 32, 3), np.uint8)
    labels = generator.integers(0, 10, len(images))
    calls = {f"ours, {name}": call for name, call in our_calls(settings, images, labels).items()}
    calls |= {f"torch, {name}": call for name, call in torch_calls(settings, images, labels).items()}
    first: dict[str, float] = {}
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        first[name] = time.perf_counter() - start
        Console(stderr=True).print(f"{name}: first call {first[name]:.1f} s")
    wall: dict[str, list[float]] = {name: [] for name in calls}
    processor: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(settings.repeats):
        for name, call in calls.items():
            start, start_processor = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - start_processor)
    figures = summarise(settings, first, wall, processor)
    show(settings, figures)
    if settings.out is not None:
        write_atomically(settings.out, json.dumps(figures, indent=2) + "\n")


def our_calls(settings: Settings, images: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], None]]:
    """Functions that compute one step and wait for it."""
    mesh = data_mesh()
    network = models.WideResNet(depth=settings.depth, width=settings.width, mean=(MEAN,), std=(STD,))
    pgd = attacks.PGD(eps=settings.eps, steps=settings.steps, keep="last")
    dataset = data.Arrays(train=(images, labels))
    feed = data.train_feed(dataset.load("train"), batch_size=settings.batch_size, seed=0, mesh=mesh)
    items = (next(feed.epoch(0)),)
    key = replicate(jax.random.key(0), mesh)

    def step_of(objective: objectives.CrossEntropy | objectives.Adversarial) -> Callable[[], None]:
        experiment = train.Experiment(
            data=dataset, model=network, objective=objective, batch_size=settings.batch_size, precision="float32"
        )
        optimiser = experiment.optimiser(lambda step: LEARNING_RATE)
        state = replicate(init_state(experiment, optimiser, example_batch(experiment, (32, 32, 3), 10)), mesh)
        sizes = {"steps_per_epoch": feed.steps_per_epoch, "num_classes": 10}
        train_steps = train.make_train_step(experiment, optimiser, feed.fetch, mesh, **sizes)

        def step() -> None:
            nonlocal state
            state, _ = train_steps(key, state, feed.resident, items)
            jax.block_until_ready(state)

        return step

    variables = models.init(network, jax.random.key(0), (32, 32, 3))
    logits_fn = models.predictor(network, {"params": variables[0], **variables[1]})
    keys = jax.random.split(jax.random.key(1), len(images))
    pixels = jax.numpy.asarray(images, "float32") / 255

    return {
        "plain step": step_of(objectives.CrossEntropy()),
        "PGD step": step_of(objectives.Adversarial(pgd)),
        "PGD alone": lambda: jax.block_until_ready(pgd(keys, logits_fn, pixels, labels)),
    }


def torch_calls(settings: Settings, images: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], None]]:
    """The same in PyTorch, where it is installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch
    from torch.nn import functional

    torch.set_num_threads(settings.threads)
    device = "cuda" if jax.devices()[0].platform == "gpu" else "cpu"
    network = torch_wide_resnet(settings.depth, settings.width).to(device)
    x = torch.tensor(images.transpose(0, 3, 1, 2).astype(np.float32) / 255, device=device)
    y = torch.tensor(labels, device=device)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    length = attacks.PGD.reach / settings.steps * settings.eps

    def pgd():
        network.eval()
        delta = torch.empty_like(x).uniform_(-settings.eps, settings.eps)
        for _ in range(settings.steps):
            delta.requires_grad_()
            loss = functional.cross_entropy(network(x + delta), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, delta)
            with torch.no_grad():
                delta = (delta + length * gradient.sign()).clamp(-settings.eps, settings.eps)
                delta = (x + delta).clamp(0, 1) - x
        network.train()
        return (x + delta).detach()

    def update(loss) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def plain_step() -> None:
        update(functional.cross_entropy(network(x), y))
        wait()

    def pgd_step() -> None:
        clean, perturbed = network(torch.cat([x, pgd()])).chunk(2)
        update((functional.cross_entropy(clean, y) + functional.cross_entropy(perturbed, y)) / 2)
        wait()

    def pgd_alone() -> None:
        pgd()
        wait()

    return {"plain step": plain_step, "PGD step": pgd_step, "PGD alone": pgd_alone}


def torch_wide_resnet(depth: int, width: int):
    """The network of ``models.WideResNet`` in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            changes = stride > 1 or inputs != outputs
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

        def forward(self, x):
            active = functional.relu(self.norm1(x))
            branch = self.conv2(functional.relu(self.norm2(self.conv1(active))))
            return branch + (x if self.shortcut is None else self.shortcut(active))

    class WideResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            blocks, inputs = [], 16
            for stage in range(3):
                for block in range((depth - 4) // 6):
                    outputs = 16 * width * 2**stage
                    blocks.append(Block(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                    inputs = outputs
            self.blocks, self.norm = nn.Sequential(*blocks), nn.BatchNorm2d(inputs)
            self.head = nn.Linear(inputs, 10)

        def forward(self, x):
            x = self.blocks(self.stem((x - MEAN) / STD))
            return self.head(torch.mean(functional.relu(self.norm(x)), (2, 3)))

    return WideResNet()


def summarise(
    settings: Settings, first: dict[str, float], wall: dict[str, list[float]], processor: dict[str, list[float]]
) -> dict:
    plain = statistics.median(wall["ours, plain step"])
    return {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "model": f"WRN-{settings.depth}-{settings.width}",
        "batch_size": settings.batch_size,
        "steps": settings.steps,
        # A gradient per step of the attack, and those of clean and of adversarial images.
        "pgd_step_over_plain_steps": statistics.median(wall["ours, PGD step"]) / (plain * (settings.steps + 2)),
        "times": {
            name: {
                "first_s": first[name],
                "median_s": statistics.median(values),
                "minimum_s": min(values),
                "processor_s": statistics.median(processor[name]),
                **_against_torch(name, wall),
            }
            for name, values in wall.items()
        },
    }


def _against_torch(name: str, wall: dict[str, list[float]]) -> dict[str, float]:
    peer = wall.get(name.replace("ours", "torch"))
    if peer is None or not name.startswith("ours"):
        return {}
    ratios = [ours / other for ours, other in zip(wall[name], peer, strict=True)]
    return {"median_ratio_to_torch": statistics.median(ratios), "minimum_ratio_to_torch": min(wall[name]) / min(peer)}


def show(settings: Settings, figures: dict) -> None:
    title = f"{figures['model']}, batch {settings.batch_size}, PGD-{settings.steps}, {figures['device']}"
    table = Table(title=title)
    for column in ("", "first, s", "median, s", "minimum, s", "processor, s", "ours / torch", "of minima"):
        table.add_column(column, justify="right")
    for name, row in figures["times"].items():
        cells = [f"{row[column]:.3f}" for column in ("first_s", "median_s", "minimum_s", "processor_s")]
        columns = ("median_ratio_to_torch", "minimum_ratio_to_torch")
        table.add_row(name, *cells, *(f"{row[column]:.2f}" if column in row else "" for column in columns))
    Console().print(table)
    Console().print(f"PGD step over {settings.steps + 2} plain steps: {figures['pgd_step_over_plain_steps']:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
