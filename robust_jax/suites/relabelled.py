"""Examples of another data set under a model's classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from robust_jax.data import Evaluation
from robust_jax.types import Batch


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelled:
    """The batches of an evaluation set with other labels; examples whose class has none (-1) are masked."""

    data: Evaluation
    mapping: Int[np.ndarray, "m"]
    """The new class of each old one."""

    def batches(self) -> Iterator[Batch]:
        """As those of the set."""
        mapping = jnp.asarray(self.mapping, jnp.int32)
        for batch in self.data.batches():
            yield _relabel(mapping, batch)


@jax.jit
def _relabel(mapping: Int[Array, "m"], batch: Batch) -> Batch:
    labels = mapping[batch.label]
    return batch._replace(label=jnp.maximum(labels, 0), mask=batch.mask & (labels >= 0))
