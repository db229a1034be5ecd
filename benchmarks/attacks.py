"""Attacks, ours against torchattacks and the published AutoAttack in PyTorch, on the same network and images.

A ResNet-20 for CIFAR-10 is attacked by PGD of 40 steps and by AutoAttack (standard), and by PGD at eight radii, in one
call and in eight. Ours and the other take turns, so that a change of the machine's load meets both alike; medians are
compared. The first call, which compiles, is told apart. Robust accuracies of both stand beside the times.

Needs PyTorch, ``pip install torchattacks`` and the package autoattack from the repository of Croce & Hein; without
them only ours is timed. On a GPU both are there, and share its memory with XLA_PYTHON_CLIENT_PREALLOCATE=false.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from robust_jax import attacks, data, models, weights
from robust_jax.core.files import write_atomically
from robust_jax.core.mesh import data_mesh

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Arguments:
    weights: Path = Path("../shared/weights/cifar_resnet20.safetensors")
    """Of the ResNet-20."""
    images: str = "cifar10_lossless4000"
    """Data set of TFDS whose first training images are attacked."""
    data_dir: Path = Path("../shared/data/tfds")
    """Where that is."""
    num_images: int = 100
    """How many."""
    norm: str = "Linf"
    """Linf or L2."""
    eps: float = 1 / 255
    """Radius of PGD and AutoAttack, and the first of the eight radii, its multiples."""
    only: tuple[str, ...] = ("pgd", "autoattack", "sweep")
    """Which comparisons."""
    runs: int = 3
    """Timed runs of PGD and of the sweep, after one that is not."""
    autoattack_runs: int = 1
    """The same of AutoAttack."""
    threads: int = 2
    """Of PyTorch, and on a CPU devices of JAX, over which the images are split."""
    out: Path | None = None
    """JSON file for the results."""


def main(arguments: Arguments) -> None:
    jax.config.update("jax_num_cpu_devices", arguments.threads)
    images, labels = first_images(arguments)
    network = models.cifar_resnet(20, mean=MEAN, std=STD)
    params, state = weights.load_weights(arguments.weights, network, (32, 32, 3))
    predictor = models.predictor(network, {"params": params, **state})
    keys = jax.random.split(jax.random.key(0), len(images))
    problem = keys, predictor, images, labels
    peers = torch_peers(arguments, np.asarray(images), np.asarray(labels))
    comparisons = {"pgd": compare_pgd, "autoattack": compare_autoattack, "sweep": compare_sweep}
    results = [comparisons[name](arguments, problem, peers) for name in arguments.only]
    show(results, Console())
    if arguments.out is not None:
        about = {"backend": jax.default_backend(), "jax": jax.__version__, "machine": platform.machine()}
        about |= {"images": len(images), "norm": arguments.norm, "eps": arguments.eps}
        write_atomically(arguments.out, json.dumps({**about, "results": results}, indent=2) + "\n")


def compare_pgd(arguments: Arguments, problem: tuple, peers: dict[str, Callable]) -> dict:
    attack = attacks.PGD(norm=arguments.norm, eps=arguments.eps, steps=40, relative_step=0.1)
    ours = lambda: robust_accuracy(attack.run(*problem))  # noqa: E731
    return {"what": "PGD-40", "other": "torchattacks"} | take_turns(ours, peers.get("pgd"), arguments.runs)


def compare_autoattack(arguments: Arguments, problem: tuple, peers: dict[str, Callable]) -> dict:
    attack = attacks.AutoAttack(norm=arguments.norm, eps=arguments.eps)
    ours = lambda: robust_accuracy(attack.run(*problem))  # noqa: E731
    times = take_turns(ours, peers.get("autoattack"), arguments.autoattack_runs)
    return {"what": "AutoAttack", "other": "autoattack"} | times


def compare_sweep(arguments: Arguments, problem: tuple, peers: dict[str, Callable]) -> dict:
    del peers
    attack = attacks.PGD(norm=arguments.norm, steps=40)
    radii = [arguments.eps * i for i in range(1, 9)]
    together = lambda: robust_accuracy(attack.sweep(*problem, radii))  # noqa: E731
    one_by_one = lambda: [robust_accuracy(attack.run(*problem, eps=eps)) for eps in radii][-1]  # noqa: E731
    return {"what": "eight radii", "other": "eight calls"} | take_turns(together, one_by_one, arguments.runs)


def take_turns(ours: Callable[[], float], other: Callable[[], float] | None, runs: int) -> dict:
    """Seconds of the first call, medians of both, their ratio, and the accuracies."""
    start = time.perf_counter()
    accuracy = ours()
    result: dict = {"first_call_s": time.perf_counter() - start, "accuracy": accuracy}
    times: dict[str, list[float]] = {"ours_s": [], "other_s": []}
    for _ in range(runs):
        start = time.perf_counter()
        ours()
        times["ours_s"].append(time.perf_counter() - start)
        if other is not None:
            start = time.perf_counter()
            result["other_accuracy"] = other()
            times["other_s"].append(time.perf_counter() - start)
    result |= {name: statistics.median(values) for name, values in times.items() if values}
    if other is not None:
        result["ratio"] = result["other_s"] / result["ours_s"]
    return result


def robust_accuracy(result: attacks.AttackResult) -> float:
    """Of a sweep, that of the last radius."""
    success = np.asarray(result.success)
    return 1 - float(success[-1].mean() if success.ndim == 2 else success.mean())


def first_images(arguments: Arguments) -> tuple[jax.Array, jax.Array]:
    source = data.Tfds(arguments.images, data_dir=str(arguments.data_dir), num_train=arguments.num_images).load("train")
    batch = next(data.evaluation(source, batch_size=arguments.num_images, mesh=data_mesh()).batches())
    return batch.image, batch.label


def torch_peers(arguments: Arguments, images: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], float]]:
    """What PyTorch has of the attacks, each as a function that gives the robust accuracy."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    torch.set_num_threads(arguments.threads)
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    model = torch_resnet(arguments.weights).to(device)
    x = torch.tensor(images.transpose(0, 3, 1, 2).copy(), device=device)
    y = torch.tensor(labels.astype(np.int64), device=device)

    def accuracy(adversarial) -> float:
        with torch.no_grad():
            return float((model(adversarial).argmax(dim=1) == y).float().mean())

    peers: dict[str, Callable[[], float]] = {}
    if importlib.util.find_spec("torchattacks") is not None:
        import torchattacks

        kind = torchattacks.PGD if arguments.norm == "Linf" else torchattacks.PGDL2
        pgd = kind(model, eps=arguments.eps, alpha=0.1 * arguments.eps, steps=40)
        peers["pgd"] = lambda: accuracy(pgd(x, y))
    if importlib.util.find_spec("autoattack") is not None:
        from autoattack import AutoAttack

        whole = AutoAttack(model, norm=arguments.norm, eps=arguments.eps, device=device, seed=0, verbose=False)
        peers["autoattack"] = lambda: accuracy(whole.run_standard_evaluation(x, y, bs=len(x)))
    return peers


def torch_resnet(weights: Path):
    """The ResNet-20 of He et al. (2016) for CIFAR-10, shortcuts without weights, in PyTorch."""
    import torch
    from safetensors.torch import load_file
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.stride, self.extra = stride, (outputs - inputs) // 2

        def forward(self, x):
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            shortcut = x[:, :, :: self.stride, :: self.stride]
            return functional.relu(y + functional.pad(shortcut, (0, 0, 0, 0, self.extra, self.extra)))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            widths = (16, 16, 32, 64)
            for i in (1, 2, 3):
                first = Block(widths[i - 1], widths[i], 1 if i == 1 else 2)
                rest = [Block(widths[i], widths[i], 1) for _ in range(2)]
                setattr(self, f"layer{i}", nn.Sequential(first, *rest))
            self.fc = nn.Linear(64, 10)
            self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

        def forward(self, x):
            x = functional.relu(self.bn1(self.conv1((x - self.mean) / self.std)))
            return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

    arrays = {name.replace("linear.", "fc."): array for name, array in load_file(weights).items()}
    model = ResNet()
    missing, unexpected = model.load_state_dict(arrays, strict=False)
    left = [name for name in (*missing, *unexpected) if not name.endswith("num_batches_tracked")]
    if left:
        raise ValueError(f"Expected the arrays of a ResNet-20, got others or none for {left}.")
    return model.eval()


def show(results: list[dict], console: Console) -> None:
    table = Table(title="seconds; a ratio above 1 means that ours is faster")
    for column in ("attack", "first call", "ours", "other", "", "ratio", "robust accuracy %", "of the other"):
        table.add_column(column, justify="left" if column in ("attack", "") else "right")
    for result in results:
        numbers = [f"{result[key]:.2f}" if key in result else "–" for key in ("first_call_s", "ours_s", "other_s")]
        shares = [f"{100 * result[key]:.1f}" if key in result else "–" for key in ("accuracy", "other_accuracy")]
        ratio = f"{result['ratio']:.2f}" if "ratio" in result else "–"
        table.add_row(result["what"], *numbers, result["other"], ratio, *shares)
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
