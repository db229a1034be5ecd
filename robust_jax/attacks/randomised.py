"""Classifiers that draw random numbers, and gradients averaged over their draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from robust_jax.core.keys import named_key
from robust_jax.core.predictor import as_predictor
from robust_jax.types import Image, Images, LogitsFn, PRNGKey, PRNGKeys


@partial(jax.tree_util.register_dataclass, data_fields=("fn", "keys"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Randomised:
    """A classifier whose logits depend on random numbers: a randomised defence, or a random corruption before a model.

    Attacks take it wherever they take a logits function. Every step draws anew, from the example's own key, and
    attacks with ``num_draws`` average gradients over draws: expectation over transformation (Athalye et al.,
    arXiv 1707.07397).
    """

    fn: Callable[[PRNGKeys, Images], Float[Array, "b k"]]
    """Keys, one for each image, and images to logits. As with logits functions, a ``Partial`` carries weights."""
    keys: PRNGKeys | None = None
    """Those of the draw; attacks set them."""

    def __post_init__(self):
        # Inside jax's own transformations the fields may be anything.
        if callable(self.fn):
            object.__setattr__(self, "fn", as_predictor(self.fn))

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """The logits of this draw."""
        if self.keys is None:
            raise ValueError("Expected Randomised with keys, got keys=None. Attacks draw them; see draw().")
        return self.fn(self.keys, images)


def draw(keys: PRNGKeys, predictor: Partial | Randomised, number: int | Int[Array, ""]) -> Partial | Randomised:
    """A draw of a randomised classifier, by its number; any other predictor stays what it is."""
    if not isinstance(predictor, Randomised):
        return predictor

    def fold(key: PRNGKey) -> PRNGKey:
        return jax.random.fold_in(named_key(key, "draw"), number)

    return Randomised(predictor.fn, jax.vmap(fold)(keys))


def draws_of(predictor: Partial | Randomised, num_draws: int) -> int:
    """How many draws a gradient takes: of a classifier that is not randomised, one."""
    return num_draws if isinstance(predictor, Randomised) else 1


def through(logits_fn: LogitsFn, transform: Callable[[PRNGKey, Image], Image]) -> Randomised:
    """The classifier behind a random transform of each image, such as a corruption or an augmentation.

    Args:
        logits_fn: the classifier.
        transform: of one image, such as ``partial(corruption, severity=3.0)``. Its gradient is followed.
    """
    return Randomised(Partial(partial(_through, transform), as_predictor(logits_fn)))


def value_and_mean_gradient(loss_fn, predictor: Partial | Randomised, images: Images, num_draws: int):
    """``(aux, gradient)`` of ``loss_fn(predictor, images) -> (loss, aux)``, the gradient averaged over draws.

    ``aux`` is that of the last draw, as in the published code of APGD.
    """

    def evaluate(predictor):
        (_, aux), gradient = jax.value_and_grad(partial(loss_fn, predictor), has_aux=True)(images)
        return aux, gradient

    if not isinstance(predictor, Randomised):
        return evaluate(predictor)
    keys = predictor.keys
    aux, gradients = jax.vmap(lambda number: evaluate(draw(keys, predictor, number)))(
        jnp.arange(draws_of(predictor, num_draws))
    )
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradients)
    return jax.tree.map(lambda leaf: leaf[-1], aux), mean


def _through(
    transform: Callable[[PRNGKey, Image], Image], predictor: Partial, keys: PRNGKeys, images: Images
) -> Float[Array, "b k"]:
    return predictor(jax.vmap(transform)(keys, images))
