"""Random Lp-norm noise, ours against vectorised NumPy: drawn, normalised, added to a batch of images and clipped.

The two take turns, so that a change of the machine's load meets both alike; medians are compared. NumPy draws
Gamma(1/p) and takes its p-th root; its norm is the sum of the gamma draws, which saves it one power. Both draw the
radius. The ratio is to the faster of NumPy's two precisions.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from robust_jax.core.files import write_atomically
from robust_jax.mathematics.lp_noise import add_lp_noise

NORMS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 200.0)
SHAPE = (32, 32, 3)


@dataclasses.dataclass(frozen=True)
class Arguments:
    num_images: int = 256
    """Images in a batch, of 32×32×3 values."""
    runs: int = 15
    """Timed runs of each, after one that is not."""
    out: Path | None = None
    """JSON file for the results."""


def numpy_noise(rng: np.random.Generator, images: np.ndarray, p: float, eps: float) -> np.ndarray:
    """Images with noise from the Lp ball, each with its own draw, in the precision of the images."""
    real = images.dtype.type
    num, size = len(images), images[0].size
    gamma = rng.standard_gamma(1 / p, (num, size), real)
    radius = rng.random((num, 1), real) ** real(1 / size)
    # In one factor of moderate size: (eps^p · r^p / sum)^(1/p) would underflow in its parts at p = 0.1.
    scale = np.exp(np.log(eps) + np.log(radius) - np.log(gamma.sum(axis=1, keepdims=True)) / real(p)).astype(real)
    if p == 1:
        noise = gamma
    elif p == 2:
        noise = np.sqrt(gamma, out=gamma)
    else:
        noise = np.power(gamma, real(1 / p), out=gamma)
    noise *= scale
    bits = np.unpackbits(np.frombuffer(rng.bytes(num * -(-size // 8)), np.uint8).reshape(num, -1), axis=1, count=size)
    np.negative(noise, out=noise, where=bits.view(bool))
    noise += images.reshape(num, size)
    return np.clip(noise, 0, 1, out=noise).reshape(images.shape)


def compare(p: float, num_images: int, runs: int) -> dict[str, float]:
    """Median milliseconds of ours and of NumPy in both precisions, and their ratio."""
    images = np.random.default_rng(0).random((num_images, *SHAPE), np.float32)
    # Noise of about 0.1 on every sub-pixel.
    eps = 0.1 * images[0].size ** (1 / p)
    rng = np.random.default_rng(1)

    run = jax.jit(jax.vmap(lambda key, image: add_lp_noise(key, image, p=p, eps=eps)))
    keys = jax.random.split(jax.random.key(0), num_images)
    on_device = jnp.asarray(images)
    images64 = images.astype(np.float64)
    contestants = {
        "ours": lambda: jax.block_until_ready(run(keys, on_device)),
        "numpy float32": lambda: numpy_noise(rng, images, p, eps),
        "numpy float64": lambda: numpy_noise(rng, images64, p, eps),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(runs + 1):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            if i:
                times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"p": p, **medians, "ratio": min(medians["numpy float32"], medians["numpy float64"]) / medians["ours"]}


def main(arguments: Arguments) -> None:
    results = [compare(p, arguments.num_images, arguments.runs) for p in NORMS]
    table = Table(title=f"Lp noise on {arguments.num_images} images of 32×32×3, median of {arguments.runs} runs, ms")
    for name in results[0]:
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(f"{result['p']:g}", *(f"{value:.1f}" for name, value in result.items() if name != "p"))
    Console().print(table)
    if arguments.out is not None:
        about = {"backend": jax.default_backend(), "jax": jax.__version__, "machine": platform.machine()}
        write_atomically(arguments.out, json.dumps({**about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
