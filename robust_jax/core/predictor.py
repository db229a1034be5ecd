"""Any logits function as an argument that passes through ``jit``."""

from __future__ import annotations

import dataclasses

import jax
from jaxtyping import Array, Float

from robust_jax.types import Images, LogitsFn


@dataclasses.dataclass(frozen=True, eq=False)
class _ByIdentity:
    """A callable that cannot be hashed, such as an Equinox module, as one that can; its weights are constants."""

    predictor: LogitsFn

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        return self.predictor(images)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.predictor is self.predictor

    def __hash__(self) -> int:
        return id(self.predictor)


def as_predictor(predictor: LogitsFn) -> jax.tree_util.Partial:
    """Any logits function as an argument that passes through jit.

    A ``Partial`` stays what it is, so that new weights do not compile anew. Any other callable is compared by value
    where it can be hashed, else by identity.
    """
    if isinstance(predictor, jax.tree_util.Partial):
        return predictor
    try:
        hash(predictor)
    except TypeError:
        return jax.tree_util.Partial(_ByIdentity(predictor))
    return jax.tree_util.Partial(predictor)
