"""Networks as pure functions: initialise, run in training, and predict through ``jit`` and ``vmap``."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import flax.errors
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import PyTree

from robust_jax.core.platform import on_cpu
from robust_jax.models.film_ensemble import FilmEnsemble
from robust_jax.models.interception import intercepted
from robust_jax.predictors import MemberNetwork, Network, apply_network
from robust_jax.types import Forward, Images, Interceptor, Model, Module, Output, PRNGKey

Variables = dict[str, PyTree]
"""``{"params": …}`` and the model's other collections, such as ``"batch_stats"``."""


def init(model: Module, key: PRNGKey, image_shape: tuple[int, int, int]) -> tuple[PyTree, Variables]:
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
    quickly = on_cpu(key) and not isinstance(key, Tracer)
    return (_init_compiled_quickly if quickly else _init)(model, key, image_shape)


def _draw_variables(model: Module, key: PRNGKey, image_shape: tuple[int, int, int]) -> tuple[PyTree, Variables]:
    variables = dict(model.init({"params": key}, jnp.zeros((1, *image_shape))))
    return variables.pop("params"), variables


_init = jax.jit(_draw_variables, static_argnums=(0, 2))
# LLVM takes long over random numbers, which are drawn once; the bits are the same (a WRN-10-1: 1.8 s, else 8.8 s).
_init_compiled_quickly = jax.jit(
    _draw_variables, static_argnums=(0, 2), compiler_options={"xla_backend_optimization_level": 1}
)


@functools.lru_cache(maxsize=32)
def output_shapes(model: Module, image_shape: tuple[int, int, int]) -> tuple[PyTree, Variables, Output]:
    """Return the shapes of what :func:`init` returns, and of the output for a batch of one image.

    Nothing is computed; the network is traced once for both.

    Raises:
        ValueError: if the network cannot take images of this shape.
    """

    def trace(key: PRNGKey) -> tuple[PyTree, Variables, Output]:
        output, variables = model.init_with_output({"params": key}, jnp.zeros((1, *image_shape)))
        variables = dict(variables)
        return variables.pop("params"), variables, output

    return jax.eval_shape(trace, jax.random.key(0))


def forward_fn(model: Model, model_state: Variables) -> Forward:
    """Return ``forward(params, images, *, key, train, interceptors, state) -> (Output, new model state)``.

    The function reads ``model_state``, or ``state`` in its place. In training, batch norms use the statistics of the
    batch and the new state holds the updated running averages; models with dropout need a key. With ``train=False`` the
    network is deterministic and the state does not change. Calls of layers pass through the interceptors, see
    :func:`~robust_jax.models.intercepted`.

    Raises:
        ValueError: when called in training without a key that the model needs.
    """

    def forward(
        params: PyTree,
        images: Images,
        *,
        key: PRNGKey | None = None,
        train: bool = True,
        interceptors: Sequence[Interceptor] = (),
        state: Variables | None = None,
    ) -> tuple[Output, Variables]:
        state = model_state if state is None else state
        variables = {"params": params, **state}
        if not train:
            with intercepted(interceptors):
                return apply_network(model, variables, images, train=False), state
        rngs = {} if key is None else {"dropout": key}
        try:
            with intercepted(interceptors):
                mutable = list(model_state)
                output, new_state = apply_network(model, variables, images, train=True, rngs=rngs, mutable=mutable)
        except flax.errors.InvalidRngError as error:
            raise ValueError(f"{type(model).__name__} is random in training: expected a key, got key=None.") from error
        return output, dict(new_state)

    return forward


def predictor(model: Model, variables: Variables) -> Network:
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
