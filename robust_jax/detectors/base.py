"""Protocol of detectors and of their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, Protocol

from jaxtyping import Array, Float

from robust_jax.types import Batch, Images, LogitsFn

Score = Callable[[LogitsFn, Images], Float[Array, "b"]]
"""A pytree that passes through ``jit``: predictor and images to a score per image, higher for unknown inputs."""


class Detector(Protocol):
    """A way to tell unknown inputs from known ones, by the outputs of a predictor."""

    name: ClassVar[str]
    """Name in rows and tables, such as ``"max_logit"``."""
    fitted: ClassVar[bool] = False
    """Whether :meth:`fit` reads training examples."""

    def applies(self, predictor: LogitsFn) -> bool:
        """Return whether the score is defined for a predictor."""
        del predictor
        return True

    def fit(self, predictor: LogitsFn, batches: Iterable[Batch]) -> Score:
        """Return the score, fitted to training examples where ``fitted`` says so."""
        ...
