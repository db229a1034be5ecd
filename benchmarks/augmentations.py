"""Augmentation policies, ours against the same in Pillow, image by image as the papers write them.

Ours augments batches in one compiled program, split over two virtual devices; the others work on one image after
another, in one process. They take turns, so that a change of the machine's load meets both alike; medians are compared.
A program augments a few batches, one after the other, as a step of training goes on to other work: one of a few
milliseconds is often over before the system has moved its two threads to two cores (``--batches 1`` shows that).

PRIME is compared with its authors' PyTorch code, on batches, where ``--prime`` names a checkout of it; that needs
torch, einops and opt_einsum.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image, ImageEnhance, ImageOps
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images

from robust_jax import augmentations
from robust_jax.augmentations import prime
from robust_jax.core.files import write_atomically
from robust_jax.core.mesh import data_mesh, shard_batch

SHAPES = ((256, 32), (32, 224))
DEVICES = 2


@dataclasses.dataclass(frozen=True)
class Arguments:
    runs: int = 7
    """Timed runs of each, after one that is not."""
    batches: int = 4
    """Batches of ours in one program."""
    only: tuple[str, ...] = ("AugMix", "RandAugment", "PRIME")
    """Policies."""
    prime: Path | None = None
    """A checkout of PRIME's code in PyTorch."""
    out: Path | None = None
    """JSON file for the results."""


def main(arguments: Arguments) -> None:
    jax.config.update("jax_num_cpu_devices", DEVICES)
    table = Table(title=f"milliseconds per image, medians of {arguments.runs}")
    for column in ("policy", "images", "ours", "other", "other / ours", "compile s"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    figures = []
    for batch_size, size in SHAPES:
        pixels = photographs(batch_size, size)
        for name in arguments.only:
            peer = peers(arguments, size).get(name)
            compiling, ours, other = compare(policy(name, size), peer, pixels, arguments)
            figures.append({"policy": name, "batch": batch_size, "size": size, "ours_ms": ours, "other_ms": other})
            shown = (f"{other:.3f}", f"{other / ours:.1f}") if other is not None else ("–", "–")
            table.add_row(name, f"{batch_size} of {size}×{size}", f"{ours:.3f}", *shown, f"{compiling:.1f}")
    Console().print(table)
    if arguments.out is not None:
        write_atomically(arguments.out, json.dumps(figures, indent=2) + "\n")


def policy(name: str, size: int):
    return {
        "AugMix": augmentations.AugMix(),
        "RandAugment": augmentations.RandAugment(),
        "PRIME": augmentations.Prime() if size < 100 else prime.IMAGENET,
    }[name]


def peers(arguments: Arguments, size: int) -> dict[str, Callable[[np.ndarray], None]]:
    found = {"AugMix": one_by_one(augment_and_mix), "RandAugment": one_by_one(rand_augment)}
    if arguments.prime is not None:
        found["PRIME"] = torch_prime(arguments.prime, size)
    return found


def compare(augmentation, peer, pixels: np.ndarray, arguments: Arguments) -> tuple[float, float, float | None]:
    """Seconds to compile, and median milliseconds per image of ours and the other's."""
    mesh = data_mesh()
    images = shard_batch(jnp.asarray(pixels / np.float32(255)), mesh)
    # Images first, so that they are split.
    keys = shard_batch(jax.random.split(jax.random.key(0), (len(pixels), arguments.batches)), mesh)

    @jax.jit
    def ours(keys, images):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            augment = lambda i, _: jax.vmap(augmentation)(keys[:, i], images)  # noqa: E731
            return jax.lax.fori_loop(0, arguments.batches, augment, images)

    start = time.perf_counter()
    jax.block_until_ready(ours(keys, images))
    compiling = time.perf_counter() - start
    times: dict[str, list[float]] = {"ours": [], "other": []}
    for _ in range(arguments.runs):
        for name, run, batches in (
            ("ours", lambda: jax.block_until_ready(ours(keys, images)), arguments.batches),
            ("other", partial(peer, pixels) if peer else None, 1),
        ):
            if run is None:
                continue
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3 / (batches * len(pixels)))
    other = statistics.median(times["other"]) if times["other"] else None
    return compiling, statistics.median(times["ours"]), other


def one_by_one(function: Callable[[np.random.Generator, Image.Image], np.ndarray]) -> Callable[[np.ndarray], None]:
    rng = np.random.default_rng(0)

    def run(pixels: np.ndarray) -> None:
        for image in pixels:
            function(rng, Image.fromarray(image))

    return run


def affine(image: Image.Image, *coefficients: float, resample=Image.Resampling.BILINEAR) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, resample=resample)


def augment_and_mix(rng: np.random.Generator, image: Image.Image) -> np.ndarray:
    """AugMix at severity 3 with three chains."""
    sign = lambda: rng.choice((-1, 1))  # noqa: E731
    level = lambda: rng.uniform(0.1, 3) / 10  # noqa: E731
    operations = (
        ImageOps.autocontrast,
        ImageOps.equalize,
        lambda x: ImageOps.posterize(x, 4 - int(4 * level())),
        lambda x: x.rotate(sign() * int(30 * level()), resample=Image.Resampling.BILINEAR),
        lambda x: ImageOps.solarize(x, 256 - int(256 * level())),
        lambda x: affine(x, 1, sign() * 0.3 * level(), 0, 0, 1, 0),
        lambda x: affine(x, 1, 0, 0, sign() * 0.3 * level(), 1, 0),
        lambda x: affine(x, 1, 0, sign() * int(x.size[0] / 3 * level()), 0, 1, 0),
        lambda x: affine(x, 1, 0, 0, 0, 1, sign() * int(x.size[1] / 3 * level())),
    )
    original = np.asarray(image, np.float32) / 255
    mixed = np.zeros_like(original)
    for weight in np.float32(rng.dirichlet((1, 1, 1))):
        changed = image
        for _ in range(rng.integers(1, 4)):
            changed = operations[rng.integers(len(operations))](changed)
        mixed += weight * (np.asarray(changed, np.float32) / 255)
    share = np.float32(rng.beta(1, 1))
    return (1 - share) * original + share * mixed


def rand_augment(rng: np.random.Generator, image: Image.Image) -> np.ndarray:
    """Two operations of 14 at magnitude 9 of 30, nearest neighbours."""
    m = 9 / 30
    sign = lambda: rng.choice((-1, 1))  # noqa: E731
    nearest = Image.Resampling.NEAREST
    width, height = image.size
    factor = lambda kind: lambda x: kind(x).enhance(1 + sign() * 0.9 * m)  # noqa: E731
    operations = (
        lambda x: x,
        lambda x: affine(x, 1, sign() * 0.3 * m, 0, 0, 1, 0, resample=nearest),
        lambda x: affine(x, 1, 0, 0, sign() * 0.3 * m, 1, 0, resample=nearest),
        lambda x: affine(x, 1, 0, sign() * int(150 / 331 * width * m), 0, 1, 0, resample=nearest),
        lambda x: affine(x, 1, 0, 0, 0, 1, sign() * int(150 / 331 * height * m), resample=nearest),
        lambda x: x.rotate(sign() * 30 * m, resample=nearest),
        *(factor(getattr(ImageEnhance, kind)) for kind in ("Brightness", "Color", "Contrast", "Sharpness")),
        lambda x: ImageOps.posterize(x, 8 - round(4 * m)),
        lambda x: ImageOps.solarize(x, 255 * (1 - m)),
        ImageOps.autocontrast,
        ImageOps.equalize,
    )
    for _ in range(2):
        image = operations[rng.integers(len(operations))](image)
    return np.asarray(image, np.float32) / 255


def torch_prime(checkout: Path, size: int) -> Callable[[np.ndarray], None]:
    """The authors' module, on a batch, with their numbers for CIFAR or ImageNet."""
    import torch

    sys.path.insert(0, str(checkout))
    from utils.color_jitter import RandomSmoothColor
    from utils.diffeomorphism import Diffeo
    from utils.prime import GeneralizedPRIMEModule, PRIMEAugModule
    from utils.rand_filter import RandomFilter

    cut, temperature, bandwidth = (100, 0.01, None) if size < 100 else (500, 0.05, 20)
    module = GeneralizedPRIMEModule(
        preprocess=torch.nn.Identity(),
        mixture_width=3,
        mixture_depth=-1,
        no_jsd=True,
        max_depth=3,
        aug_module=PRIMEAugModule(
            [
                Diffeo(sT=1.0, rT=1.0, scut=1.0, rcut=1.0, cutmin=2, cutmax=cut, alpha=1.0, stochastic=True),
                RandomSmoothColor(cut=cut, T=temperature, freq_bandwidth=bandwidth, stochastic=True),
                RandomFilter(kernel_size=3, sigma=4.0, stochastic=True),
            ]
        ),
    )
    return lambda pixels: module(torch.tensor(pixels.transpose(0, 3, 1, 2).copy()).float() / 255)


def photographs(num: int, size: int) -> np.ndarray:
    """Square parts of scikit-learn's two photographs, reduced to a size."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(image) for image in load_sample_images().images]
    found = []
    for i in range(num):
        picture = pictures[i % len(pictures)]
        side = int(rng.integers(size, min(picture.size) + 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        part = picture.crop((left, top, left + side, top + side))
        found.append(np.asarray(part.resize((size, size), Image.Resampling.BICUBIC)))
    return np.stack(found)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
