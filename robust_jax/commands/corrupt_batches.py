"""How ``robust-jax corrupt`` corrupts: one compiled program per size and corruption, run by threads.

An image's result must not depend on what else is corrupted, or was before an interruption, so that its program is a
function of its size alone: batches of a size are all of one length, and short ones are filled up. On a CPU one image
of 224 x 224 or more is a batch, as photographs gain nothing from company there, and their programs compile faster.
Photographs come in many sizes, and compiling takes longer than running; it is done by all threads at once, each for
another corruption, while others run, decode and encode. XLA and Pillow leave Python's lock alone meanwhile, so that
threads occupy all cores and processes would only have to compile everything again.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from robust_jax.commands.corrupt_inputs import Decoded, Inputs, Item, reason
from robust_jax.commands.corrupt_outputs import Outputs
from robust_jax.core.keys import example_keys, named_key
from robust_jax.core.platform import on_cpu
from robust_jax.types import Corruption, PRNGKey

# Pixels of a batch: on a CPU enough to make the cost of a call small, on an accelerator enough to fill it.
CPU_PIXELS, ACCELERATOR_PIXELS = 2**16, 2**22
MAX_BATCH = 1024
# Tasks waiting for each thread: they hold decoded batches.
BACKLOG = 2

Failed = Callable[[str, str], None]


def corrupt_all(
    key: PRNGKey,
    inputs: Inputs,
    outputs: Outputs,
    components: Mapping[str, Corruption],
    *,
    workers: int,
    advance: Callable[[int], None],
    failed: Failed,
) -> None:
    """Makes every output that is not there yet.

    The random numbers of an image come from ``fold_in(fold_in(key, crc32(corruption)), item.id)``, for all severities.

    Args:
        key: a key.
        inputs: the images.
        outputs: where they go.
        components: the corruptions by name.
        workers: threads; each decodes, compiles, corrupts, encodes and writes.
        advance: called with a number of outputs that are done, from any thread.
        failed: called with the name of an image, or of several and a corruption, and why it could not be done.

    Raises:
        OSError: if an output cannot be written.
    """
    tasks = _tasks(key, inputs, outputs, components, failed, advance)
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future] = set()
        try:
            for task in tasks:
                running.add(pool.submit(task))
                if len(running) > workers * (1 + BACKLOG):
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        future.result()
            for future in running:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for name in components:
        outputs.finish(name)


def batch_size(shape: tuple[int, int, int]) -> int:
    """How many images of a size are corrupted together, a power of two; by the size alone."""
    pixels = CPU_PIXELS if on_cpu() else ACCELERATOR_PIXELS
    return 1 << min(MAX_BATCH, max(1, pixels // (shape[0] * shape[1]))).bit_length() - 1


def _tasks(
    key: PRNGKey,
    inputs: Inputs,
    outputs: Outputs,
    components: Mapping[str, Corruption],
    failed: Failed,
    advance: Callable[[int], None],
) -> Iterator[Callable[[], None]]:
    """For one size after another, batch after batch, a task per corruption."""
    by_shape = sorted(inputs.items, key=lambda item: item.shape)
    for shape, items in itertools.groupby(by_shape, lambda item: item.shape):
        programs = {name: _Program(component, shape) for name, component in components.items()}
        for members in _chunks(list(items), batch_size(shape)):
            batch = _Batch(inputs, members, failed)
            for name, program in programs.items():
                pending = {item: severities for item in members if (severities := outputs.pending(item, name))}
                if pending:
                    task_key = named_key(key, name)
                    yield partial(_corrupt_batch, task_key, batch, name, program, pending, outputs, failed, advance)


def _corrupt_batch(
    key: PRNGKey,
    batch: _Batch,
    name: str,
    program: _Program,
    pending: Mapping[Item, tuple[float, ...]],
    outputs: Outputs,
    failed: Failed,
    advance: Callable[[int], None],
) -> None:
    """One batch under one corruption at every severity that is wanted of any of its images."""
    decoded = batch.decoded
    places = {item: place for place, item in enumerate(decoded) if item in pending}
    advance(sum(len(severities) for item, severities in pending.items() if item not in places))
    if not places:
        return
    severities = sorted({severity for item in places for severity in pending[item]})
    ids = np.array([item.id for item in decoded], np.uint32)
    try:
        corrupted = program(key, ids, [image.pixels for image in decoded.values()], severities)
    except (ValueError, RuntimeError) as error:  # Too small for it; or out of memory.
        for item in places:
            failed(f"{item.name}, {name}", reason(error))
        advance(sum(len(pending[item]) for item in places))
        return
    for item, place in places.items():
        images = {severity: corrupted[severity][place] for severity in pending[item]}
        outputs.write(item, name, images, decoded[item])
        advance(len(images))


class _Program:
    """A corruption of batches of one size, compiled by the first thread that needs it while others wait."""

    def __init__(self, corruption: Corruption, shape: tuple[int, int, int]):
        self.corruption = corruption
        self.shape = (batch_size(shape), *shape)
        self.lock = threading.Lock()
        self.compiled: Callable | None = None

    def __call__(
        self, key: PRNGKey, ids: np.ndarray, pixels: Sequence[np.ndarray], severities: Sequence[float]
    ) -> dict[float, np.ndarray]:
        """Pixels by severity."""
        with self.lock:
            if self.compiled is None:
                struct = jax.ShapeDtypeStruct
                arguments = (key, struct(self.shape[:1], np.uint32), struct(self.shape, np.uint8))
                program = jax.jit(partial(_corrupt_pixels, self.corruption))
                self.compiled = program.lower(*arguments, struct((), np.float32)).compile()
        filled = np.zeros(self.shape, np.uint8)
        filled[: len(pixels)] = np.stack(pixels)
        ids = np.resize(ids, self.shape[0])
        results = {s: self.compiled(key, ids, filled, np.float32(s)) for s in severities}
        return {severity: np.asarray(result) for severity, result in results.items()}


def _corrupt_pixels(
    corruption: Corruption, key: PRNGKey, ids: jax.Array, pixels: jax.Array, severity: jax.Array
) -> jax.Array:
    keys, images = example_keys(key, ids), pixels.astype(jnp.float32) / 255
    if len(pixels) == 1:
        images = corruption(keys[0], images[0], severity)[None]
    else:
        images = jax.vmap(corruption, (0, 0, None))(keys, images, severity)
    return jnp.round(255 * jnp.clip(images, 0, 1)).astype(jnp.uint8)


class _Batch:
    """Images of one size, decoded once, by the first thread that needs them."""

    def __init__(self, inputs: Inputs, items: Sequence[Item], failed: Failed):
        self.inputs = inputs
        self.items = items
        self.failed = failed
        self.lock = threading.Lock()
        self.images: dict[Item, Decoded] | None = None

    @property
    def decoded(self) -> dict[Item, Decoded]:
        """Those that could be read."""
        with self.lock:
            if self.images is None:
                self.images = dict(filter(None, map(self._read, self.items)))
            return self.images

    def _read(self, item: Item) -> tuple[Item, Decoded] | None:
        try:
            decoded = self.inputs.read(item)
            if decoded.pixels.shape != item.shape:
                raise ValueError(f"Expected shape {item.shape}, got {decoded.pixels.shape}.")
            return item, decoded
        except Exception as error:  # Pillow raises errors of many kinds for damaged files.
            self.failed(item.name, reason(error))
            return None


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
