"""Views of a batch: its images changed at random, as objectives of consistency compare them."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from robust_jax.core.keys import example_keys
from robust_jax.types import Augmentation, Batch, Images, PRNGKey


def augmented_views(key: PRNGKey, changes: Sequence[Augmentation], batch: Batch) -> list[Images]:
    """The images under each of the changes; keys are those of the view's number and the example's id."""
    return [
        jax.vmap(change)(example_keys(jax.random.fold_in(key, i), batch.id), batch.image)
        for i, change in enumerate(changes)
    ]
