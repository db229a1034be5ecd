"""Logits functions made of others: steps in front that have no gradient, means over members, and majorities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from robust_jax.attacks.randomised import Randomised, draw
from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.predictor import as_predictor
from robust_jax.mathematics.mixtures import mixture_logits
from robust_jax.types import Images, LogitsFn, PRNGKey

MEANS = ("logits", "probs", "log_probs")


def identity(images: Images) -> Images:
    """What it is given."""
    return images


def bpda(
    logits_fn: LogitsFn,
    step: Callable[[Images], Images],
    approximation: Callable[[Images], Images] = identity,
) -> Partial:
    r"""The classifier behind a step without a useful gradient, with that of an approximation in its place.

    Forward it is :math:`f(g(x))`; backward g is taken for the approximation, by default the identity.

    Args:
        logits_fn: the classifier f.
        step: g, such as quantisation or JPEG compression.
        approximation: a differentiable function near g.

    References:
        Athalye et al., "Obfuscated gradients give a false sense of security" (arXiv 1802.00420), section 4.1.
    """
    return Partial(partial(_bpda, step, approximation), as_predictor(logits_fn))


def mean_of(members: Sequence[LogitsFn], of: Literal["logits", "probs", "log_probs"] = "probs") -> Partial:
    """The mean of several classifiers as one: of logits, of probabilities, or of log-probabilities.

    Its outputs are logits: of a mean of probabilities the logarithm, whose softmax is that mean.

    Raises:
        ValueError: if there is no member, or ``of`` is unknown; the nearest is named.
    """
    check_choice("of", of, MEANS)
    if not members:
        raise ValueError("Expected at least one member, got none.")
    return Partial(partial(_mean, of), tuple(as_predictor(member) for member in members))


def mean_of_stacked(member: Partial, of: Literal["logits", "probs", "log_probs"] = "probs") -> Partial:
    """As :func:`mean_of`, of one ``Partial`` whose arrays have an axis of members first; evaluated by vmap.

    Raises:
        ValueError: if ``of`` is unknown; the nearest is named.
    """
    check_choice("of", of, MEANS)
    return Partial(partial(_stacked_mean, of), member)


def vote_of(key: PRNGKey, classifier: Randomised, num_draws: int) -> Partial:
    r"""The majority of several draws of a randomised classifier, as one without randomness.

    .. math:: z_c = \log \frac{v_c + \bar p_c}{n + 1}

    of a class c with v votes among n draws and a mean probability :math:`\bar p`, which decides between classes of
    equal votes, and has a gradient.

    Args:
        key: of the draws, which are the same for all images, so that the result depends on the image alone. The paper
            draws anew for each image.
        classifier: such as :func:`through` of a random transform: aggregation of the input.
        num_draws: n; published: 10.

    Raises:
        ValueError: if there is no draw, or the classifier is not randomised.

    References:
        Engstrom et al. (arXiv 1712.02779), "Aggregating random transformations".
    """
    check_positive("num_draws", num_draws)
    if not isinstance(classifier, Randomised):
        raise ValueError(f"Expected a Randomised classifier, got {type(classifier).__name__}: one draw is as another.")
    return Partial(partial(_vote, num_draws), classifier, key)


def _bpda(step, approximation, predictor: Partial, images: Images) -> Float[Array, "b k"]:
    smooth = approximation(images)
    return predictor(smooth + jax.lax.stop_gradient(step(images) - smooth))


def _mean(of: str, members: tuple[Partial, ...], images: Images) -> Float[Array, "b k"]:
    return _combine(of, jnp.stack([member(images) for member in members]))


def _stacked_mean(of: str, member: Partial, images: Images) -> Float[Array, "b k"]:
    return _combine(of, jax.vmap(lambda member: member(images))(member))


def _combine(of: str, logits: Float[Array, "m b k"]) -> Float[Array, "b k"]:
    if of == "logits":
        return jnp.mean(logits, axis=0)
    if of == "log_probs":
        return jnp.mean(jax.nn.log_softmax(logits), axis=0)
    return mixture_logits(logits)


def _vote(num_draws: int, classifier: Randomised, key: PRNGKey, images: Images) -> Float[Array, "b k"]:
    keys = jnp.broadcast_to(key, images.shape[:1])
    probs = jax.vmap(lambda number: jax.nn.softmax(draw(keys, classifier, number)(images)))(jnp.arange(num_draws))
    votes = jax.nn.one_hot(jnp.argmax(probs, axis=-1), probs.shape[-1])
    return jnp.log(jnp.sum(votes, axis=0) + jnp.mean(probs, axis=0)) - jnp.log(num_draws + 1)
