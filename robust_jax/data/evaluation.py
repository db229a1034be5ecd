"""A split prepared for evaluation: every example once, in order, the last batch padded."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh

from robust_jax.core.checks import check_positive
from robust_jax.core.mesh import shard_batch
from robust_jax.data.pipeline import as_batch, keep_resident
from robust_jax.data.source import Source
from robust_jax.types import Batch

_as_batch = jax.jit(as_batch)
# Sets up to this size are hashed whole; of larger ones, all ids and some examples spread over the set.
HASHED_BYTES, HASHED_EXAMPLES = 128 << 20, 256


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The batches of one split. Padding repeats the first example of its batch, with mask False."""

    source: Source
    batch_size: int
    mesh: Mesh
    cached: tuple[tuple[jax.Array, ...], ...] | None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def num_classes(self) -> int:
        return self.source.num_classes

    @property
    def num_examples(self) -> int:
        return len(self.source)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.source.image_shape

    @property
    def target_scale(self) -> tuple[float, ...]:
        return self.source.target_scale

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the examples, equal for equal examples in equal order, whatever the batches.

        A set of more than 128 MiB, decoded, is hashed by its ids and 256 examples spread over it.
        """
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        source = self.source
        described = (source.name, source.split, source.class_names, source.image_shape, source.target_scale)
        found = hashlib.sha256(repr(described).encode())
        if source.num_bytes <= HASHED_BYTES:
            arrays = (*source.decode(), source.ids)
        else:
            positions = np.unique(np.linspace(0, len(source) - 1, HASHED_EXAMPLES).astype(np.int64))
            arrays = (*source.take(positions), source.ids)
        for array in arrays:
            found.update(repr((array.shape, array.dtype.str)).encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def batches(self) -> Iterator[Batch]:
        """Masked batches, split over the devices; uint8 images are float32 in [0, 1]."""
        for arrays in self.cached if self.cached is not None else _load(self.source, self.batch_size, self.mesh):
            yield _as_batch(*arrays)


def evaluation(source: Source, *, batch_size: int, mesh: Mesh, resident: bool | Literal["auto"] = "auto") -> Evaluation:
    """Prepares a split for evaluation.

    Args:
        source: the examples.
        batch_size: over all devices; rounded up to a multiple of their number, and no larger than needed.
        mesh: the devices; batches are split over them.
        resident: decode once and keep the images on the devices; ``"auto"`` does up to 1 GiB.

    Raises:
        ValueError: if there are no examples, or a setting is none of those above.
    """
    check_positive("number of examples", len(source))
    check_positive("batch_size", batch_size)
    batch_size = -(-min(batch_size, len(source)) // mesh.size) * mesh.size
    keep = keep_resident(source, resident)
    return Evaluation(source, batch_size, mesh, tuple(_load(source, batch_size, mesh)) if keep else None)


def _load(source: Source, batch_size: int, mesh: Mesh) -> Iterator[tuple[jax.Array, ...]]:
    for start in range(0, len(source), batch_size):
        positions = np.arange(start, min(start + batch_size, len(source)))
        padding = np.full(batch_size - len(positions), start)
        part = source.subset(np.concatenate([positions, padding]))
        mask = np.arange(batch_size) < len(positions)
        yield shard_batch((*part.decode(), part.ids.astype(np.int32), mask), mesh)
