"""Laplace approximations, ours beside laplace-torch: the same predictions, and how long they take.

One small convolutional network with the same weights in both, and the first training images of CIFAR-10. Each fit reads
all images in batches; the prediction is of the linearised network with the probit link. They take turns and medians are
compared, after a first run of each that is not counted; ours compiles in it. Biases have Kronecker factors of their
own in both.

``--only memory`` fits a subnetwork of a WRN-16-4 and predicts with it, in a process of its own whose peak memory is
told.

In batches of 100 the predictions of all weights need more than 24 GB in PyTorch. On a GPU both are there, and share
its memory with XLA_PYTHON_CLIENT_PREALLOCATE=false.

Needs PyTorch and ``pip install laplace-torch``, but for the memory.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from robust_jax import data, models, posteriors
from robust_jax.core.files import write_atomically
from robust_jax.core.mesh import data_mesh, replicate, shard_batch
from robust_jax.types import Batch, Output

DEVICES = 2
"""Virtual devices of a CPU that ours splits batches over."""
WIDTHS = (16, 32, 64)
CASES = {
    "last layer, full": ("last_layer", "full"),
    "last layer, kron": ("last_layer", "kron"),
    "all, kron": ("all", "kron"),
    "all, diag": ("all", "diag"),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    data_dir: Path = Path("../shared/data/tfds")
    """Where the data sets of TFDS are."""
    num_images: int = 200
    """Images to fit and to predict."""
    batch_size: int = 20
    """Images at once."""
    runs: int = 5
    """Timed runs of each."""
    only: tuple[str, ...] = ("speed", "memory")
    """Which comparisons."""
    num_weights: int = 3000
    """Of the subnetwork."""
    measure: bool = False
    """Is the process of its own."""
    out: Path | None = None
    """JSON file for the results."""


class ConvNet(nn.Module):
    """Three convolutions, their mean over positions, and a classifier: 24,000 weights."""

    @nn.compact
    def __call__(self, images, *, train: bool = False):
        x = images
        for i, width in enumerate(WIDTHS):
            stride = 1 if i == 0 else 2
            x = nn.relu(nn.Conv(width, (3, 3), (stride, stride), padding=1, name=f"conv{i}")(x))
        features = x.mean(axis=(1, 2))
        return Output(nn.Dense(10, name="head")(features), features)


def main(arguments: Arguments) -> None:
    if arguments.measure:
        print(json.dumps(subnetwork_memory(arguments)))
        return
    figures = {}
    if "memory" in arguments.only:
        # First: a new process begins with the peak of the one that starts it.
        own = [sys.executable, __file__, "--measure", "--num-weights", str(arguments.num_weights)]
        own += ["--data-dir", str(arguments.data_dir)]
        figures["memory"] = json.loads(subprocess.run(own, stdout=subprocess.PIPE, check=True, text=True).stdout)
        Console().print(figures["memory"])
    if "speed" in arguments.only:
        figures["speed"] = speed(arguments)
    if arguments.out is not None:
        write_atomically(arguments.out, json.dumps(figures, indent=2) + "\n")


def speed(arguments: Arguments) -> list[dict]:
    jax.config.update("jax_num_cpu_devices", DEVICES)
    mesh = data_mesh()
    images, labels = map(np.asarray, first_images(arguments.data_dir, arguments.num_images))
    batches = [
        shard_batch(Batch(images[i], labels[i], np.ones(len(images[i]), bool), np.arange(len(images[i]))), mesh)
        for i in slices(arguments)
    ]
    network = ConvNet()
    variables = network.init(jax.random.key(0), images[:1])
    # Logits that say something.
    kernel = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = 5 * jax.random.normal(jax.random.key(1), kernel.shape)
    variables = replicate(variables, mesh)
    table = Table(title=f"seconds for {arguments.num_images} images, medians of {arguments.runs}")
    for column in ("posterior", "of", "ours", "laplace-torch", "theirs / ours", "first call", "difference"):
        table.add_column(column, justify="left" if column in ("posterior", "of") else "right")
    figures = []
    for name, (weights, curvature) in CASES.items():
        ours = our_fit(network, variables, batches, weights, curvature)
        theirs = torch_fit(arguments, variables, images, labels, weights, curvature)
        first = time.perf_counter()
        state, other = ours(), theirs()
        predict, predict_other = our_prediction(state, batches), torch_prediction(arguments, other, images)
        difference = float(np.abs(predict() - predict_other()).max())
        first = time.perf_counter() - first
        for what, run, run_other in (("fit", ours, theirs), ("prediction", predict, predict_other)):
            taken = in_turns(arguments.runs, run, run_other)
            figures.append({"posterior": name, "of": what, "ours_s": taken[0], "other_s": taken[1],
                            "difference": difference})  # fmt: skip
            table.add_row(name, what, f"{taken[0]:.3f}", f"{taken[1]:.3f}", f"{taken[1] / taken[0]:.1f}",
                          f"{first:.1f}", f"{difference:.1e}")  # fmt: skip
    Console().print(table)
    return figures


def our_fit(network, variables, batches, weights, curvature) -> Callable:
    laplace = posteriors.Laplace(weights, curvature, 1.0, separate_bias=curvature == "kron")
    return lambda: jax.block_until_ready(laplace.fit(None, network, variables, batches))


def our_prediction(state, batches) -> Callable:
    run = jax.jit(lambda predictor, images: jax.nn.softmax(predictor(images)))
    return lambda: np.concatenate([np.asarray(run(state, batch.image)) for batch in batches])


def torch_fit(arguments, variables, images, labels, weights, curvature) -> Callable:
    import laplace
    import torch

    device = torch_device()
    network = torch_network(variables).to(device)
    classes = torch.tensor(np.asarray(labels), dtype=torch.long, device=device)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch_pixels(images), classes), batch_size=arguments.batch_size
    )

    def run():
        found = laplace.Laplace(
            network, "classification", subset_of_weights=weights, hessian_structure=curvature, prior_precision=1.0
        )
        # laplace-torch makes some of its matrices on the device that is PyTorch's own choice.
        with torch.device(device):
            found.fit(loader)
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return run


def torch_prediction(arguments, state, images) -> Callable:
    pixels = torch_pixels(images)
    # Its Jacobians of all weights are of all images of a batch at once.
    return lambda: np.concatenate(
        [state(pixels[i], link_approx="probit").detach().cpu().numpy() for i in slices(arguments)]
    )


def torch_device() -> str:
    """Where JAX computes, PyTorch does too."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def torch_pixels(images):
    import torch

    return torch.tensor(np.asarray(images).transpose(0, 3, 1, 2).copy(), device=torch_device())


def torch_network(variables):
    import torch

    params = jax.tree.map(np.asarray, variables["params"])
    layers = []
    for i, width in enumerate(WIDTHS):
        conv = torch.nn.Conv2d(3 if i == 0 else WIDTHS[i - 1], width, 3, stride=1 if i == 0 else 2, padding=1)
        conv.weight.data = torch.tensor(params[f"conv{i}"]["kernel"].transpose(3, 2, 0, 1).copy())
        conv.bias.data = torch.tensor(params[f"conv{i}"]["bias"].copy())
        layers += [conv, torch.nn.ReLU()]
    head = torch.nn.Linear(WIDTHS[-1], 10)
    head.weight.data = torch.tensor(params["head"]["kernel"].T.copy())
    head.bias.data = torch.tensor(params["head"]["bias"].copy())
    pool = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(*layers, *pool, head).eval()


def in_turns(runs: int, *functions: Callable) -> list[float]:
    times = [[] for _ in functions]
    for _ in range(runs):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def subnetwork_memory(arguments: Arguments) -> dict:
    """Peak memory of a fit and a prediction with it, beside a Jacobian of all weights of one batch."""
    network = models.WideResNet(depth=16, width=4)
    params, state = models.init(network, jax.random.key(0), (32, 32, 3))
    images, labels = first_images(arguments.data_dir, 200)
    batches = [Batch(images[i], labels[i], jnp.ones(100, bool), jnp.arange(100)) for i in (slice(100), slice(100, 200))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    laplace = posteriors.Laplace(posteriors.LargestVariance(arguments.num_weights), "full", 1.0)
    start = time.perf_counter()
    posterior = jax.block_until_ready(laplace.fit(None, network, {"params": params, **state}, batches))
    fit_seconds = time.perf_counter() - start
    jax.block_until_ready(jax.jit(lambda f, x: f(x))(posterior, images[:100]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    num_weights = models.num_parameters(params)
    return {
        "network_weights": num_weights,
        "subnetwork_weights": arguments.num_weights,
        "fit_s": round(fit_seconds, 1),
        "peak_gb": round(peak * 1024 / 1e9, 2),
        "before_gb": round(before * 1024 / 1e9, 2),
        "jacobian_of_a_batch_gb": round(100 * 10 * num_weights * 4 / 1e9, 2),
    }


def slices(arguments: Arguments) -> list[slice]:
    return [slice(i, i + arguments.batch_size) for i in range(0, arguments.num_images, arguments.batch_size)]


def first_images(data_dir: Path, num: int) -> tuple[jax.Array, jax.Array]:
    source = data.Tfds("cifar10_lossless4000", data_dir=str(data_dir), num_train=num).load("train")
    batch = next(data.evaluation(source, batch_size=num, mesh=data_mesh()).batches())
    return batch.image, batch.label


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
