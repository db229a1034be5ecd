"""The plain gradient, and what all gradients share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Protocol

import jax
from jaxtyping import PyTree

from robust_jax.objectives import mean_loss
from robust_jax.types import Batch, Context, Loss, PRNGKey

LossFn = Callable[[PyTree, Batch], Loss]
"""The objective as a function of what is optimised and a batch."""


class Gradient(Protocol):
    """Differentiation of the objective in a training step."""

    augmentations: ClassVar[int] = 1
    """Augmented copies of every example in the batch, one after the other."""

    def check(self, model_state: PyTree) -> None:
        """Raise ``ValueError`` if the gradient cannot be taken of a network with this state."""

    def __call__(
        self, key: PRNGKey, loss_fn: LossFn, params: PyTree, batch: Batch, context: Context, /
    ) -> tuple[PyTree, Loss]:
        """Return the direction to descend against and the loss that it belongs to."""
        ...


@dataclasses.dataclass(frozen=True)
class Mean(Gradient):
    """Gradient of the mean loss over the batch plus the penalty."""

    def __call__(
        self, key: PRNGKey, loss_fn: LossFn, params: PyTree, batch: Batch, context: Context, /
    ) -> tuple[PyTree, Loss]:
        del key, context
        return mean_gradient(loss_fn, params, batch)


def mean_gradient(loss_fn: LossFn, params: PyTree, batch: Batch) -> tuple[PyTree, Loss]:
    """Differentiate the mean loss over the batch plus the penalty."""

    def scalar(params: PyTree):
        loss = loss_fn(params, batch)
        return mean_loss(loss, batch.mask), loss

    gradient, loss = jax.grad(scalar, has_aux=True)(params)
    return gradient, loss
