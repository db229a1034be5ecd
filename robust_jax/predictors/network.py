"""Networks with their variables as predictors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import overload

import jax
from jaxtyping import Array, Float, PyTree

from robust_jax.predictors.base import MemberPredictor, Predictor
from robust_jax.types import Images, Model, Output, PRNGKey


@overload
def apply_network(
    model: Model, variables: PyTree, images: Images, *, train: bool, rngs: Mapping[str, PRNGKey] = ...
) -> Output: ...


@overload
def apply_network(
    model: Model,
    variables: PyTree,
    images: Images,
    *,
    train: bool,
    rngs: Mapping[str, PRNGKey] = ...,
    mutable: Sequence[str],
) -> tuple[Output, dict[str, PyTree]]: ...


def apply_network(model: Model, variables: PyTree, images: Images, **settings: PyTree) -> PyTree:
    """Compute ``model.apply(variables, images, **settings)`` with float32 matrix products on every device.

    The default precision of JAX rounds the factors of float32 products to 11 bits on a GPU (TF32) and to 8 on a TPU
    (bfloat16), so predictions would depend on the device. ``jax_default_matmul_precision`` takes precedence if it is
    set; ``tensorfloat32`` is faster for large networks.
    """
    with jax.default_matmul_precision(jax.default_matmul_precision.value or "float32"):
        return model.apply(variables, images, **settings)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Network(Predictor):
    """A network with its variables, in evaluation mode.

    Args:
        model: the network, with ``apply(variables, images, train=False) -> Output``, such as a Linen module.
        variables: ``{"params": params, **model_state}``.
    """

    model: Model = dataclasses.field(metadata={"static": True})
    """The network, compared by value."""
    variables: PyTree
    """Parameters and state, the pytree's arrays."""

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """Return the logits."""
        return self.output(images).prediction

    def output(self, images: Images) -> Output:
        """Return logits, features and extras."""
        return apply_network(self.model, self.variables, images, train=False)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class MemberNetwork(Network, MemberPredictor):
    """A network that computes several members at once, such as :class:`~robust_jax.models.FilmEnsemble`.

    Its output holds their logits ``[m, b, k]`` as ``member_logits`` beside the combined ones.
    """

    def members(self, images: Images) -> Float[Array, "m b k"]:
        """Return the logits of each member."""
        return self.output(images).extras["member_logits"]
