"""Every example several times in one batch."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from robust_jax.core.checks import check_positive
from robust_jax.objectives.cross_entropy import CrossEntropy
from robust_jax.types import Batch, Context, Forward, Loss, Objective, PRNGKey


@dataclasses.dataclass(frozen=True)
class Repeated(Objective):
    """An objective on a batch in which every example stands M times in a row.

    For networks that deal examples out to M members, such as :class:`~robust_jax.models.FilmEnsemble`: a mean over the
    batch is then the mean of the members' losses, each on all examples.

    Raises:
        ValueError: if the number is not positive.
    """

    num_repeats: int
    """M."""
    objective: Objective = CrossEntropy()
    """The training loss."""

    def __post_init__(self):
        check_positive("num_repeats", self.num_repeats)

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.num_repeats, axis=0), batch)
        loss = self.objective(key, forward, params, repeated, state, context)
        return loss._replace(per_example=jnp.mean(loss.per_example.reshape(-1, self.num_repeats), axis=1))

    def init(self, key: PRNGKey, params: PyTree, example: Batch) -> tuple[PyTree, PyTree]:
        """Return the parameters and the state of the repeated objective."""
        return self.objective.init(key, params, example)
