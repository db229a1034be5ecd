"""Gradients averaged over the draws of a randomised predictor."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from robust_jax.predictors import Randomised, draw
from robust_jax.types import Images, LogitsFn


def draws_of(predictor: LogitsFn, num_draws: int) -> int:
    """Return the number of draws that a gradient takes: one for a predictor that is not randomised."""
    return num_draws if isinstance(predictor, Randomised) else 1


def value_and_mean_gradient(loss_fn, predictor: LogitsFn, images: Images, num_draws: int):
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
