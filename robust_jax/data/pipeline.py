"""Training examples on their way into the compiled step: kept on the device, or streamed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from robust_jax.core.mesh import replicate, shard_batch, shard_local_batch
from robust_jax.data.order import epoch_order
from robust_jax.data.source import Source
from robust_jax.types import Batch

RESIDENT_BYTES = 2**30


class Feed(Protocol):
    """Batches for training. ``fetch`` is pure and runs inside the compiled step."""

    resident: PyTree
    steps_per_epoch: int

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[PyTree]: ...

    @staticmethod
    def fetch(resident: PyTree, item: PyTree) -> Batch: ...

    def close(self) -> None: ...


def train_feed(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    mesh: Mesh,
    resident: bool | Literal["auto"] = "auto",
    num_workers: int = 0,
    prefetch: int = 2,
) -> Feed:
    """Batches of the training split in the order of (seed, epoch); the last, incomplete one is left out.

    Either kind gives the same batches, on any number of devices and hosts.

    Args:
        source: the examples.
        batch_size: over all devices.
        seed: of the order.
        mesh: the devices; batches are split over them.
        resident: keep all images on every device and index them there; ``"auto"`` does up to 1 GiB. Otherwise they
            are decoded as they are needed, each host its share.
        num_workers: processes that decode, when streaming; 0 decodes in threads of this one.
        prefetch: batches prepared ahead by each worker.

    Raises:
        ValueError: if there are fewer examples than a batch holds.
    """
    if len(source) < batch_size:
        raise ValueError(f"Expected batch_size <= {len(source)} examples of {source.name}, got {batch_size}.")
    if resident is True or (resident == "auto" and source.num_bytes <= RESIDENT_BYTES):
        images, labels = source.decode()
        arrays = replicate((images, labels, source.ids.astype(np.int32)), mesh)
        return ResidentFeed(arrays, batch_size, seed, mesh, len(source))
    return StreamedFeed(source, batch_size, seed, mesh, num_workers, prefetch)


@dataclasses.dataclass(frozen=True, eq=False)
class ResidentFeed:
    """All examples live on the device; an item is the positions of a batch."""

    resident: PyTree
    batch_size: int
    seed: int
    mesh: Mesh
    size: int

    @property
    def steps_per_epoch(self) -> int:
        return self.size // self.batch_size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[PyTree]:
        order = epoch_order(self.seed, epoch, self.size).astype(np.int32)
        for step in range(start_step, self.steps_per_epoch):
            yield shard_batch(order[step * self.batch_size : (step + 1) * self.batch_size], self.mesh)

    @staticmethod
    def fetch(resident: PyTree, item: PyTree) -> Batch:
        images, labels, ids = resident
        return as_batch(images[item], labels[item], ids[item])

    def close(self) -> None:
        pass


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedFeed:
    """Examples are decoded by grain as they are needed; an item is a batch of uint8 images."""

    source: Source
    batch_size: int
    seed: int
    mesh: Mesh
    num_workers: int
    prefetch: int
    resident: PyTree = ()

    @property
    def steps_per_epoch(self) -> int:
        return len(self.source) // self.batch_size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[PyTree]:
        import grain
        from absl import flags

        order = epoch_order(self.seed, epoch, len(self.source))[: self.steps_per_epoch * self.batch_size]
        batches = order.reshape(self.steps_per_epoch, self.batch_size)[start_step:]
        rows = np.array_split(np.arange(self.batch_size), jax.process_count())[jax.process_index()]
        examples = _Examples(self.source, batches[:, rows].reshape(-1))
        threads = grain.ReadOptions(num_threads=8, prefetch_buffer_size=self.prefetch)
        # Batched first: worker processes take turns, and each must yield whole batches.
        dataset = grain.MapDataset.source(examples).batch(len(rows)).to_iter_dataset(threads)
        if self.num_workers > 0:
            # Worker processes read absl's flags, which only an absl program parses.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(self.num_workers, per_worker_buffer_size=self.prefetch)
            dataset = dataset.mp_prefetch(options)
        for batch in dataset:
            yield shard_local_batch(batch, self.mesh)

    @staticmethod
    def fetch(resident: PyTree, item: PyTree) -> Batch:
        del resident
        return as_batch(*item)

    def close(self) -> None:
        pass


@dataclasses.dataclass(frozen=True, eq=False)
class _Examples:
    """Image, label and id at each of some positions; picklable for worker processes."""

    source: Source
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any, Any]:
        position = self.positions[index]
        image, label = self.source[position]
        return image, np.int32(label), np.int32(self.source.ids[position])


def as_batch(images: jax.Array, labels: jax.Array, ids: jax.Array, mask: jax.Array | None = None) -> Batch:
    """uint8 images as float32 in [0, 1], with labels, ids and a mask that is True throughout unless given."""
    mask = jnp.ones(labels.shape, bool) if mask is None else mask
    return Batch(images.astype(jnp.float32) / 255, labels, mask, ids)
