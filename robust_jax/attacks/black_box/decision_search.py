"""What attacks share that read decisions only: where they start, the way to the boundary, and how they end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.evaluations import redraw
from robust_jax.attacks.minimum_norm.base import Nearest
from robust_jax.attacks.problem import Problem, succeeded
from robust_jax.attacks.threats import Threat
from robust_jax.core.keys import named_key
from robust_jax.core.random_words import random_uniform
from robust_jax.types import Image, Images, LogitsFn, PRNGKey

# Sides of the squares of one colour in noise; of single pixels alone, networks see the same few classes.
SCALES = 5
# How far over the boundary a result lies, over its norm: more than rounding, which depends on the program.
OVER = 1e-4


def decide(predictor: LogitsFn, problem: Problem, number: int | Int[Array, ""], images: Images) -> Bool[Array, "b"]:
    """Whether images are adversarial; of a randomised classifier in the draw of that number."""
    return succeeded(redraw(predictor, jnp.int32(number))(images), problem)


def random_start(
    predictor: LogitsFn, problem: Problem, wrong: Bool[Array, "b"], tries: int
) -> tuple[Images, Bool[Array, "b"], Int[Array, "b"]]:
    """Random images that are adversarial.

    Noise is uniform, of single pixels, and then of squares with sides 2, 4, 8 and 16, over and over.

    Args:
        predictor: the classifier.
        problem: the examples.
        wrong: examples that are misclassified as they are, for which the image itself will do.
        tries: the most evaluations.

    Returns:
        The images, whether they are adversarial, and how many evaluations each took.
    """

    def go_on(state) -> Bool[Array, ""]:
        number, _, found, _ = state
        return (number < tries) & jnp.any(~found)

    def try_another(state):
        number, images, found, queries = state

        def noise(key: PRNGKey) -> Image:
            return _squares(jax.random.fold_in(named_key(key, "start"), number), images.shape[1:], number % SCALES)

        candidates = jax.vmap(noise)(problem.keys)
        success = decide(predictor, problem, number, candidates)
        images = where_examples(success & ~found, candidates, images)
        return number + 1, images, found | success, queries + ~found

    state = jnp.int32(0), problem.images, wrong, jnp.zeros(len(wrong), jnp.int32)
    return jax.lax.while_loop(go_on, try_another, state)[1:]


def to_boundary(predictor: LogitsFn, problem: Problem, images: Images, norm: str, halvings: int) -> Images:
    """From adversarial images towards those of the problem, as far as they stay adversarial, by bisection.

    For L2 on the line between them; for Linf the change is clipped. It takes one evaluation for each halving.
    """
    delta = images - problem.images
    reach = jnp.max(jnp.abs(delta), axis=(1, 2, 3), keepdims=True)

    def at(share: Float[Array, "b"]) -> Images:
        share = share.reshape(-1, 1, 1, 1)
        change = jnp.clip(delta, -share * reach, share * reach) if norm == "Linf" else share * delta
        return jnp.clip(problem.images + change, 0, 1)

    def halve(number: Int[Array, ""], bracket):
        low, high, images = bracket
        middle = (low + high) / 2
        candidates = at(middle)
        success = decide(predictor, problem, number, candidates)
        images = where_examples(success, candidates, images)
        return jnp.where(success, low, middle), jnp.where(success, middle, high), images

    zero = jnp.zeros(len(images))
    return jax.lax.fori_loop(0, halvings, halve, (zero, zero + 1, images))[2]


def step_over(predictor: LogitsFn, problem: Problem, nearest: Nearest, threat: Threat) -> Nearest:
    """The nearest images, a little further over the boundary, where that is adversarial and within eps.

    Right on it, another program may decide otherwise.
    """
    images = jnp.clip(problem.images + (1 + OVER) * (nearest.images - problem.images), 0, 1)
    norm = jax.vmap(threat.norm)(images - problem.images)
    better = decide(predictor, problem, 0, images) & (norm <= problem.eps) & jnp.isfinite(nearest.norm)
    return where_examples(better, Nearest(images, norm), nearest)


def _squares(key: PRNGKey, shape: tuple[int, ...], scale: Int[Array, ""]) -> Image:
    """Uniform noise of squares whose side is 2 to the power of the scale."""
    rows, columns = (jnp.arange(size) >> scale for size in shape[:2])
    return random_uniform(key, shape)[rows][:, columns]
