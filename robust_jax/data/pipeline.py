"""Training examples on their way into the compiled step: kept on the device, or streamed."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.keys import derived_seed, epoch_order
from robust_jax.core.mesh import replicate, shard_batch, shard_local_batch
from robust_jax.data.source import Source
from robust_jax.types import Batch

RESIDENT_BYTES = 2**30


class Feed(Protocol):
    """Batches for training. ``fetch`` is pure and runs inside the compiled step."""

    @property
    def resident(self) -> PyTree:
        """Arrays that stay on the devices between steps."""
        ...

    @property
    def steps_per_epoch(self) -> int: ...

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[PyTree]: ...

    def fetch(self, resident: PyTree, item: PyTree) -> Batch: ...

    def with_seed(self, seed: int) -> Feed:
        """The same examples in another order; closed with this one."""
        ...

    def close(self) -> None:
        """Ends the epochs that are being read, and their worker processes."""
        ...


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
        ValueError: if there are fewer examples than a batch holds, a batch cannot be split evenly over the devices, or
            a setting is none of those above.
    """
    check_positive("batch_size", batch_size)
    check_non_negative("num_workers", num_workers)
    check_positive("prefetch", prefetch)
    if len(source) < batch_size:
        raise ValueError(f"Expected batch_size <= {len(source)} examples of {source.name}, got {batch_size}.")
    if batch_size % mesh.size:
        raise ValueError(f"Expected batch_size to divide by the {mesh.size} devices, got {batch_size}.")
    if keep_resident(source, resident):
        images, labels = source.decode()
        arrays = replicate((images, labels, source.ids.astype(np.int32)), mesh)
        return ResidentFeed(arrays, batch_size, seed, mesh, len(source))
    return StreamedFeed(source, batch_size, seed, mesh, num_workers, prefetch)


def keep_resident(source: Source, resident: bool | Literal["auto"]) -> bool:
    """Whether all images are to be kept on the device; ``"auto"`` says so up to 1 GiB.

    Raises:
        ValueError: if ``resident`` is neither a bool nor ``"auto"``.
    """
    if resident == "auto":
        return source.num_bytes <= RESIDENT_BYTES
    if not isinstance(resident, bool):
        raise ValueError(f"Expected resident as True, False or 'auto', got {resident!r}.")
    return resident


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

    def with_seed(self, seed: int) -> ResidentFeed:
        return dataclasses.replace(self, seed=seed)

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
    _epochs: weakref.WeakSet = dataclasses.field(default_factory=weakref.WeakSet, repr=False)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.source) // self.batch_size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[PyTree]:
        items = self._items(epoch, start_step)
        self._epochs.add(items)
        return items

    def _items(self, epoch: int, start_step: int) -> Iterator[PyTree]:
        import grain
        from absl import flags

        order = epoch_order(self.seed, epoch, len(self.source))[: self.steps_per_epoch * self.batch_size]
        batches = order.reshape(self.steps_per_epoch, self.batch_size)[start_step:]
        rows = np.array_split(np.arange(self.batch_size), jax.process_count())[jax.process_index()]
        threads = grain.ReadOptions(num_threads=min(self.prefetch, 8), prefetch_buffer_size=self.prefetch)
        dataset = grain.MapDataset.source(_Batches(self.source, batches[:, rows])).to_iter_dataset(threads)
        if self.num_workers > 0:
            # Worker processes read absl's flags, which only an absl program parses.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(self.num_workers, per_worker_buffer_size=self.prefetch)
            dataset = dataset.mp_prefetch(options)
        with contextlib.closing(iter(dataset)) as items:
            for batch in items:
                yield shard_local_batch(batch, self.mesh)

    @staticmethod
    def fetch(resident: PyTree, item: PyTree) -> Batch:
        del resident
        return as_batch(*item)

    def with_seed(self, seed: int) -> StreamedFeed:
        return dataclasses.replace(self, seed=seed)

    def close(self) -> None:
        for items in list(self._epochs):
            items.close()


@dataclasses.dataclass(frozen=True, eq=False)
class MultiFeed:
    """A training feed with extra streams beside it, each of which starts over when it ends.

    An item holds that of the training set and those of the streams; ``fetch`` puts the streams' batches into
    ``batch.extras``.
    """

    main: Feed
    extra: dict[str, Feed]

    @property
    def resident(self) -> PyTree:
        return self.main.resident, {name: feed.resident for name, feed in self.extra.items()}

    @property
    def steps_per_epoch(self) -> int:
        return self.main.steps_per_epoch

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[PyTree]:
        first = epoch * self.steps_per_epoch + start_step
        others = {name: _endless(feed, first) for name, feed in self.extra.items()}
        for item in self.main.epoch(epoch, start_step):
            yield item, {name: next(items) for name, items in others.items()}

    def fetch(self, resident: PyTree, item: PyTree) -> Batch:
        batch = self.main.fetch(resident[0], item[0])
        extras = {name: feed.fetch(resident[1][name], item[1][name]) for name, feed in self.extra.items()}
        return batch._replace(extras=extras)

    def with_seed(self, seed: int) -> MultiFeed:
        extra = {name: feed.with_seed(derived_seed(seed, f"stream.{name}")) for name, feed in self.extra.items()}
        return MultiFeed(self.main.with_seed(seed), extra)

    def close(self) -> None:
        self.main.close()
        for feed in self.extra.values():
            feed.close()


def _endless(feed: Feed, step: int) -> Iterator[PyTree]:
    """Items from a step of training on, epoch after epoch."""
    while True:
        epoch, start = divmod(step, feed.steps_per_epoch)
        for item in feed.epoch(epoch, start):
            step += 1
            yield item


@dataclasses.dataclass(frozen=True, eq=False)
class _Batches:
    """Images, labels and ids at each row of some positions; picklable for worker processes."""

    source: Source
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.source.take(self.positions[index])


def as_batch(images: jax.Array, labels: jax.Array, ids: jax.Array, mask: jax.Array | None = None) -> Batch:
    """Build a batch: uint8 images as float32 in [0, 1], float images as they are; a mask of True unless given."""
    mask = jnp.ones(labels.shape[:1], bool) if mask is None else mask
    pixels = images.astype(jnp.float32)
    return Batch(pixels / 255 if images.dtype == jnp.uint8 else pixels, labels, mask, ids)
