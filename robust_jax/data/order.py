"""The order of examples, a function of (seed, epoch) only."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def epoch_order(seed: int, epoch: int, size: int) -> Int[np.ndarray, "n"]:
    """A permutation of ``range(size)``; the same on every host, for any batch size and number of devices."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(size)
