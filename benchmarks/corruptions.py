"""The corruptions of ImageNet-C, ours against the package imagecorruptions, scipy, scikit-image and OpenCV.

Ours corrupts a batch in one compiled program, the others one image after another. They take turns, so that a change
of the machine's load meets both alike; medians are compared. Times are per image at severity 3, all 19 corruptions;
where imagecorruptions raises on the installed numpy and scikit-image (glass_blur, gaussian_blur, fog), the same steps
are taken with scipy and NumPy here. Ours uses the constants of the images' size, or those of imagenet224, which
imagecorruptions uses at every size, with ``--preset imagenet224``.

Needs ``pip install -e .[bench]``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import tyro
from rich.console import Console
from rich.table import Table

from robust_jax import corruptions
from robust_jax.core.files import write_atomically

SHAPES = ((256, 32), (32, 224))
SEVERITY = 3
# Photographs of which the time per image is taken for the others, which go one by one.
PEER_IMAGES = 4


@dataclasses.dataclass(frozen=True)
class Arguments:
    runs: int = 7
    """Timed runs of each, after one that is not."""
    names: tuple[str, ...] = (*corruptions.COMMON, *corruptions.EXTRA)
    """Corruptions."""
    preset: str = "auto"
    """Whose constants ours uses."""
    out: Path | None = None
    """JSON file for the results."""


def peer_of(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """What corrupts one image of uint8 in the common way."""
    own = {"glass_blur": glass_blur, "gaussian_blur": gaussian_blur, "fog": fog}
    if name in own:
        rng = np.random.default_rng(0)
        return lambda image: own[name](image, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import imagecorruptions
    return lambda image: imagecorruptions.corrupt(image, severity=SEVERITY, corruption_name=name)


def gaussian_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng
    blurred = scipy.ndimage.gaussian_filter(image / 255, (3, 3, 0), mode="nearest")
    return np.uint8(np.clip(blurred, 0, 1) * 255)


def glass_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The moves in turn, as a loop over pixels."""
    reach, passes = 2, 3
    image = np.uint8(255 * scipy.ndimage.gaussian_filter(image / 255, (1, 1, 0), mode="nearest"))
    for _ in range(passes):
        for row in range(image.shape[0] - reach, reach, -1):
            for column in range(image.shape[1] - reach, reach, -1):
                right, down = rng.integers(-reach, reach, 2)
                image[row, column] = image[row + down, column + right]
    blurred = scipy.ndimage.gaussian_filter(image / 255, (1, 1, 0), mode="nearest")
    return np.uint8(np.clip(blurred, 0, 1) * 255)


def fog(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    amount, decay = 2.5, 1.7
    image = image / 255
    height, width, _ = image.shape
    cloud = plasma(2 ** math.ceil(math.log2(max(height, width))), decay, rng)[:height, :width, None]
    brightest = image.max()
    return np.uint8(np.clip((image + amount * cloud) * brightest / (brightest + amount), 0, 1) * 255)


def plasma(size: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Diamond-square, level by level, in whole-array steps."""
    height = np.zeros((size, size))
    step, amplitude = size, 1.0
    while step > 1:
        half = step // 2
        corner = height[::step, ::step]
        noise = amplitude * rng.uniform(-1, 1, (3, *corner.shape))
        right, below = np.roll(corner, -1, 1), np.roll(corner, -1, 0)
        centre = (corner + right + below + np.roll(right, -1, 0)) / 4 + noise[0]
        height[half::step, half::step] = centre
        height[::step, half::step] = (corner + right + centre + np.roll(centre, 1, 0)) / 4 + noise[1]
        height[half::step, ::step] = (corner + below + centre + np.roll(centre, 1, 1)) / 4 + noise[2]
        step, amplitude = half, amplitude / decay**2
    height -= height.min()
    return height / height.max()


def compare(name: str, num_images: int, size: int, arguments: Arguments) -> dict[str, float | str]:
    """Seconds to compile, median milliseconds per image of ours and the other's, and their ratio."""
    pixels = photographs(num_images, size)
    images = jnp.asarray(pixels / np.float32(255))
    keys = jax.random.split(jax.random.key(0), num_images)
    run = lambda: jax.block_until_ready(  # noqa: E731
        corruptions.corrupt_batch(keys, images, name, float(SEVERITY), preset=arguments.preset)
    )
    start = time.perf_counter()
    run()
    compile_time = time.perf_counter() - start
    peer = peer_of(name)
    count = 8 * PEER_IMAGES if size < 100 else 1 if name == "glass_blur" else PEER_IMAGES
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for i in range(arguments.runs + 1):
        start = time.perf_counter()
        run()
        middle = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for image in pixels[:count]:
                peer(image)
        end = time.perf_counter()
        if i:
            times["ours"].append(1e3 * (middle - start) / num_images)
            times["peer"].append(1e3 * (end - middle) / count)
    medians = {who: statistics.median(values) for who, values in times.items()}
    ratio = medians["peer"] / medians["ours"]
    return {"corruption": name, "size": size, "first_call_s": compile_time, **medians, "ratio": ratio}


def photographs(num_images: int, size: int) -> np.ndarray:
    """Pictures of smooth shapes and fine texture; what they show does not matter to the time."""
    rng = np.random.default_rng(0)
    noise = rng.random((num_images, size, size, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, size / 16, size / 16, 0), mode="wrap")
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.uint8(np.clip(255 * (0.85 * smooth + 0.15 * noise), 0, 255))


def main(arguments: Arguments) -> None:
    results = [compare(name, *shape, arguments) for shape in SHAPES for name in arguments.names]
    console = Console()
    for _, size in SHAPES:
        part = [result for result in results if result["size"] == size]
        table = Table(title=f"{size}×{size}, ms per image, median of {arguments.runs} runs")
        for column in ("corruption", "first call s", "ours", "peer", "ratio"):
            table.add_column(column, justify="left" if column == "corruption" else "right")
        for result in part:
            numbers = (f"{result[key]:.3g}" for key in ("first_call_s", "ours", "peer", "ratio"))
            table.add_row(str(result["corruption"]), *numbers)
        console.print(table)
        console.print(
            f"geometric mean of the ratios {statistics.geometric_mean(r['ratio'] for r in part):.2f}, "
            f"least {min(r['ratio'] for r in part):.2f}; "
            f"first calls together {sum(r['first_call_s'] for r in part):.0f} s"
        )
    if arguments.out is not None:
        about = {"backend": jax.default_backend(), "jax": jax.__version__, "machine": platform.machine()}
        about["preset"] = arguments.preset
        write_atomically(arguments.out, json.dumps({**about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
