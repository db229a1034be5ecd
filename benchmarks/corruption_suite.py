"""The whole suite of common corruptions, 19 at five severities, on 1,000 images of 32×32 through a ResNet-20.

It runs twice in one process without a compilation cache: the first time compiles every program, the second none. The
difference is what compiling costs. Times are wall times; the images are made here, and the network is untrained.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from pathlib import Path

import jax
import numpy as np
import scipy.ndimage
import tyro
from rich.console import Console

from robust_jax import corruptions, data, models, suites
from robust_jax.core.files import write_atomically
from robust_jax.core.mesh import data_mesh


@dataclasses.dataclass(frozen=True)
class Arguments:
    num_images: int = 1000
    """Images tested."""
    batch_size: int = 64
    """Of corrupting and of the network; on a CPU small batches stay in its caches."""
    depth: int = 20
    """Of the CIFAR ResNet."""
    out: Path | None = None
    """JSON file for the results."""


def main(arguments: Arguments) -> None:
    images = photographs(arguments.num_images)
    test = data.Arrays(test=(images, np.arange(len(images)) % 10), name="shapes").load("test")
    evaluation = data.evaluation(test, batch_size=arguments.batch_size, mesh=data_mesh())
    network = models.cifar_resnet(arguments.depth)
    params, state = models.init(network, jax.random.key(0), (32, 32, 3))
    predictor = models.predictor(network, {"params": params, **state})
    suite = suites.CommonCorruptions()

    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        rows = list(suite.rows(suites.Context(jax.random.key(1), predictor, evaluation)))
        seconds.append(time.perf_counter() - start)
    cases = len({(row.case, row.severity) for row in rows if row.case in corruptions.COMPONENTS and row.severity})
    cold, warm = seconds
    console = Console()
    console.print(f"{cases} cases of {len(images):,} images: {cold:.1f} s with compiling, {warm:.1f} s without")
    console.print(f"compiling {cold - warm:.1f} s; {cases * len(images) / warm:,.0f} corrupted and classified images/s")
    if arguments.out is not None:
        about = {"backend": jax.default_backend(), "jax": jax.__version__, "machine": platform.machine()}
        about |= {"images": len(images), "batch_size": arguments.batch_size, "cases": cases}
        about |= {"cold_s": cold, "warm_s": warm}
        write_atomically(arguments.out, json.dumps(about, indent=2) + "\n")


def photographs(num_images: int) -> np.ndarray:
    """Smooth shapes with fine texture; what they show does not matter to the time."""
    noise = np.random.default_rng(0).random((num_images, 32, 32, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 3, 3, 0), mode="wrap")
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return np.uint8(np.clip(255 * (0.85 * smooth + 0.15 * noise), 0, 255))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
