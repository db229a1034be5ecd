"""What a network says of held-out examples, for what is fitted to them."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax.core.mesh import to_host
from robust_jax.predictors import as_predictor
from robust_jax.types import Batch, Images, LogitsFn


def held_out_logits(
    predictor: LogitsFn, batches: Iterable[Batch]
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n"]]:
    """Logits and classes of all examples that count.

    Raises:
        ValueError: if there is none, labels are no classes, or logits are not finite.
    """
    predictor = as_predictor(predictor)
    parts = [to_host((_predict(predictor, batch.image), batch.label, batch.mask)) for batch in batches]
    if not any(mask.any() for *_, mask in parts):
        raise ValueError("Expected held-out examples to fit, got none.")
    logits, labels = (np.concatenate([part[i][part[2]] for part in parts]) for i in range(2))
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected classes as labels, got {labels.dtype} {labels.shape}.")
    if not np.isfinite(logits).all():
        raise ValueError(f"Expected finite logits, got others for {(~np.isfinite(logits).all(axis=1)).sum()} examples.")
    return logits, labels


def check_every_class(labels: Int[np.ndarray, "n"], num_classes: int) -> None:
    """Raises ``ValueError``, naming those that are missing, unless every class has an example."""
    missing = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if missing.size:
        raise ValueError(f"Expected held-out examples of every class, got none of {', '.join(map(str, missing))}.")


@jax.jit
def _predict(predictor: LogitsFn, images: Images) -> Float[Array, "b k"]:
    return predictor(images)
