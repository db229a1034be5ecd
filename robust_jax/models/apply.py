"""Networks as pure functions: initialise, run in training, and predict through ``jit`` and ``vmap``."""

from __future__ import annotations

import math
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from robust_jax.models.film_ensemble import FilmEnsemble
from robust_jax.models.hidden import changed_hidden
from robust_jax.models.routing import routed_batch_norm
from robust_jax.predictors import MemberNetwork, Network, apply_network
from robust_jax.types import Forward, HiddenFn, Images, Output, PRNGKey

Variables = dict[str, Any]
"""``{"params": …}`` and the model's other collections, such as ``"batch_stats"``."""


def init(model: nn.Module, key: PRNGKey, image_shape: tuple[int, int, int]) -> tuple[PyTree, Variables]:
    """Draws the parameters of ``model`` for images of one shape.

    Args:
        model: the network.
        key: random key.
        image_shape: (h, w, c).

    Returns:
        The parameters, and the model's state: its other collections by name, ``{}`` if there are none.

    Raises:
        ValueError: if the network cannot take images of this shape.
    """
    quickly = jax.default_backend() == "cpu" and not isinstance(key, jax.core.Tracer)
    return (_init_compiled_quickly if quickly else _init)(model, key, image_shape)


def _draw_variables(model: nn.Module, key: PRNGKey, image_shape: tuple[int, int, int]) -> tuple[PyTree, Variables]:
    variables = dict(model.init({"params": key}, jnp.zeros((1, *image_shape))))
    return variables.pop("params"), variables


_init = jax.jit(_draw_variables, static_argnums=(0, 2))
# LLVM takes long over random numbers, which are drawn once; the bits are the same (a WRN-10-1: 1.8 s, else 8.8 s).
_init_compiled_quickly = jax.jit(
    _draw_variables, static_argnums=(0, 2), compiler_options={"xla_backend_optimization_level": 1}
)


def forward_fn(model: nn.Module, model_state: Variables) -> Forward:
    """``forward(params, images, *, key, train, noise, hidden_fn) -> (Output, new model state)``.

    It reads ``model_state``. In training, batch statistics are those of the batch and the new state holds the updated
    running ones; the key is needed by models with dropout. Examples marked by ``noise`` have statistics of their own,
    see :func:`~robust_jax.models.routed_batch_norm`, and ``hidden_fn`` changes what submodules return, see
    :func:`~robust_jax.models.changed_hidden`. With ``train=False`` the network is deterministic and the state stays as
    it is.

    Raises:
        ValueError: when called in training without a key that the model needs.
    """

    def forward(
        params: PyTree,
        images: Images,
        *,
        key: PRNGKey | None = None,
        train: bool = True,
        noise: Bool[Array, "b"] | None = None,
        hidden_fn: HiddenFn | None = None,
    ) -> tuple[Output, Variables]:
        variables = {"params": params, **model_state}
        if not train:
            return apply_network(model, variables, images, train=False), model_state
        rngs = {} if key is None else {"dropout": key}
        try:
            with routed_batch_norm(noise), changed_hidden(hidden_fn):
                mutable = list(model_state)
                output, new_state = apply_network(model, variables, images, train=True, rngs=rngs, mutable=mutable)
        except flax.errors.InvalidRngError as error:
            raise ValueError(f"{type(model).__name__} is random in training: expected a key, got key=None.") from error
        return output, dict(new_state)

    return forward


def predictor(model: nn.Module, variables: Variables) -> Network:
    """Return the model as a predictor in evaluation mode, a pytree of its variables.

    Args:
        model: the network.
        variables: ``{"params": params, **model_state}``.

    Returns:
        A :class:`~robust_jax.predictors.Network`; of a :class:`FilmEnsemble`, one that has members.
    """
    kind = MemberNetwork if isinstance(model, FilmEnsemble) else Network
    return kind(model, variables)


def num_parameters(params: PyTree) -> int:
    """The number of entries of all arrays in ``params`` (or their shapes, as from ``jax.eval_shape``)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
