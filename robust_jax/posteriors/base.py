"""Protocol of posteriors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from jaxtyping import PyTree

from robust_jax.predictors import Draws
from robust_jax.types import Batch, LogitsFn, Model, PRNGKey


class Posterior(Protocol):
    """A distribution over predictors that is fitted to a trained network and data, such as one over its weights."""

    def fit(self, key: PRNGKey, model: Model, variables: PyTree, batches: Iterable[Batch], /) -> LogitsFn | Draws:
        """Return the fitted predictor, or a distribution whose draws need a key.

        Args:
            key: random key.
            model: the network.
            variables: its trained variables, ``{"params": …, …}``.
            batches: examples of the split that ``fit_splits`` names, the training set by default; where it names
                several, ``fit`` takes the batches of each.
        """
        ...
