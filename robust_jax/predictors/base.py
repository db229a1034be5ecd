"""What predicts: the base class, what some predictors can do beyond predicting, and any callable as a predictor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from robust_jax.mathematics.mixtures import mixture_logits
from robust_jax.types import Images, LogitsFn, Output, PRNGKey

Prediction = TypeVar("Prediction")


class Predictor:
    """Base class of predictors: frozen dataclasses registered as pytrees, with images in [0, 1] to logits as call.

    They pass through ``jit`` as arguments, where new weights do not retrace, and with arrays stacked along a leading
    axis ``jax.vmap(lambda f: f(images))(stacked)`` predicts with each.
    """

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """Return the logits."""
        raise NotImplementedError


@runtime_checkable
class HasMembers(Protocol):
    """A predictor made of several, such as an ensemble or the draws of a posterior."""

    def members(self, images: Images) -> Float[Array, "m b k"]:
        """Return the logits of each member."""
        ...

    def combine(self, logits: Float[Array, "m b k"]) -> Float[Array, "b k"]:
        """Return the prediction of some members from the logits of each."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """A predictor whose penultimate features can be read."""

    def output(self, images: Images) -> Output:
        """Return logits, features and extras."""
        ...


@runtime_checkable
class Draws(Protocol):
    """A distribution over predictors; a key selects the draws."""

    def bind(self, key: PRNGKey) -> LogitsFn:
        """Return the predictor of the key's draws, which all images and all calls share."""
        ...


class MemberPredictor(Predictor):
    """Base class of predictors with members that are equally likely: their probabilities are averaged."""

    def members(self, images: Images) -> Float[Array, "m b k"]:
        """Return the logits of each member."""
        raise NotImplementedError

    def combine(self, logits: Float[Array, "m b k"]) -> Float[Array, "b k"]:
        """Return the log-probabilities of the mean of the members' probabilities."""
        return mixture_logits(logits)

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """Return the combined logits of all members."""
        return self.combine(self.members(images))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Function(Predictor):
    """A plain callable as a predictor, a pytree without arrays; any arrays it closes over are constants."""

    fn: Callable[..., PyTree] = dataclasses.field(metadata={"static": True})
    """The callable, compared by value if it is hashable, else by identity."""

    def __post_init__(self):
        try:
            hash(self.fn)
        except TypeError:
            object.__setattr__(self, "fn", _ByIdentity(self.fn))

    def __call__(self, *args: PyTree) -> PyTree:
        """Call it."""
        return self.fn(*args)


@dataclasses.dataclass(frozen=True, eq=False)
class _ByIdentity:
    fn: Callable[..., PyTree]

    def __call__(self, *args: PyTree) -> PyTree:
        return self.fn(*args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.fn is self.fn

    def __hash__(self) -> int:
        return id(self.fn)


def as_predictor(predictor: Callable[..., Prediction]) -> Callable[..., Prediction]:
    """Convert any callable to a pytree that passes through ``jit`` as an argument.

    A :class:`Predictor`, a ``Partial`` and any other callable pytree of arrays are returned unchanged, so that new
    weights do not retrace. Other callables become a :class:`Function`: hashable ones are compared by value, others,
    such as an Equinox module with functions among its leaves, by identity.

    Raises:
        TypeError: if it is not callable.
    """
    _check_callable(predictor)
    return predictor if _is_pytree(predictor) else Function(predictor)


def _check_callable(predictor: object) -> None:
    if isinstance(predictor, Draws) and not callable(predictor):
        raise TypeError(f"Expected a predictor, got {type(predictor).__name__}, whose draws need a key: use bind(key).")
    if not callable(predictor):
        raise TypeError(f"Expected a predictor, a callable from images to logits, got {type(predictor).__name__}.")


def _is_pytree(predictor: object) -> bool:
    if isinstance(predictor, Predictor | Partial):
        return True
    leaves = jax.tree.leaves(predictor)
    is_pytree = not jax.tree_util.all_leaves([predictor])
    return is_pytree and all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)


def wrap_field(component: object, name: str) -> None:
    """Convert a field of a frozen dataclass to a predictor, from its ``__post_init__``.

    Only a callable that is no pytree is converted: JAX rebuilds pytrees with placeholders in place of arrays, and a
    conversion then would change their structure.
    """
    value = getattr(component, name)
    if callable(value) and jax.tree_util.all_leaves([value]):
        object.__setattr__(component, name, Function(value))
