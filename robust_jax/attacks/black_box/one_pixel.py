"""One-pixel attack: differential evolution of the places and colours of a few pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.evaluations import batches_at_once, redraw
from robust_jax.attacks.losses import attack_loss, cross_entropy
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.threats import THREATS
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.random_words import random_normal, random_uniform
from robust_jax.types import Image, Images, LogitsFn, PRNGKey

Genes = Float[Array, "n p g"]


class OnePixelState(NamedTuple):
    """The population with its losses, and the best images, with their success and loss.

    The genes of a pixel are its row and column, as shares of height and width, and its colour.
    """

    genes: Float[Array, "b n p g"]
    losses: Float[Array, "b n"]
    best: tuple[Images, Bool[Array, "b"], Float[Array, "b"]]
    queries: Int[Array, "b"]


@dataclasses.dataclass(frozen=True)
class OnePixel(Attack):
    r"""Gives a few pixels other colours; differential evolution finds which and what.

    The child of each member of the population is

    .. math:: x_{r_1} + F\, (x_{r_2} - x_{r_3})

    of three others drawn at random, and takes its place if the label's probability is lower (or the target's higher)
    than with it. The first places are uniform, the first colours N(0.5, 0.5²). An example is left alone once any
    member has broken it, as are images that were misclassified to begin with.

    Raises:
        ValueError: if a number is out of range; when run, see :meth:`Attack.run`.

    References:
        Su, Vargas & Sakurai, "One pixel attack for fooling deep neural networks" (arXiv 1710.08864), section III;
        there the search goes on until the label's probability is below 5 %. Of what leaves its range, which the paper
        does not speak of, colours are clipped and places drawn anew.
    """

    norm: ClassVar[str] = "L0"

    eps: float = math.inf
    """The most pixels that may change; more than ``pixels`` never do."""
    pixels: int = 1
    """Pixels that a member of the population has."""
    population: int = 400
    """Members, each of which takes an evaluation of the network in each generation."""
    generations: int = 100
    """Times that all members have children."""
    weight: float = 0.5
    """Of differences, F."""

    check_every: ClassVar[int] = 1

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        for name in ("pixels", "generations", "weight"):
            check_positive(name, getattr(self, name))
        if self.population < 4:
            raise ValueError(f"Expected population >= 4, as a child has three parents, got {self.population!r}.")

    @property
    def num_steps(self) -> int:
        return self.generations

    def init(self, predictor: LogitsFn, problem: Problem) -> OnePixelState:
        logits = predictor(problem.images)
        clean = problem.images, succeeded(logits, problem), attack_loss(cross_entropy, logits, problem)
        shape = self.population, self.pixels, 2 + problem.images.shape[-1]
        genes = jax.vmap(lambda key: _first_genes(jax.random.fold_in(key, 0), shape))(problem.keys)
        losses, best = self._judge(predictor, problem, genes, clean)
        best = where_examples(clean[1], clean, best)
        return OnePixelState(genes, losses, best, jnp.where(clean[1], 1, 1 + self.population))

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: OnePixelState) -> OnePixelState:
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, i + 1)
        children = jax.vmap(self._children)(keys, state.genes)
        losses, best = self._judge(predictor, problem, children, state.best)
        better = losses > state.losses
        genes = jnp.where(better[:, :, None, None], children, state.genes)
        losses = jnp.where(better, losses, state.losses)
        return OnePixelState(genes, losses, best, state.queries + self.population)

    def result(
        self, predictor: LogitsFn, problem: Problem, state: OnePixelState, steps: Int[Array, "b"]
    ) -> AttackResult:
        images, success, loss = state.best
        norm = jax.vmap(THREATS[self.norm].norm)(images - problem.images)
        none = jnp.zeros_like(state.queries)
        return AttackResult(images, success, norm, loss, state.queries, none, none > 0, none > 0)

    def finished(self, problem: Problem, state: OnePixelState) -> Bool[Array, "b"]:
        return state.best[1]

    def _judge(self, predictor: LogitsFn, problem: Problem, genes: Float[Array, "b n p g"], best):
        """Losses of all members, and the best so far: a success before a failure, and then the highest loss."""

        def judge(member: tuple[Int[Array, ""], Float[Array, "b p g"]]) -> tuple[Array, Array]:
            number, genes = member
            images = jax.vmap(paint)(problem.images, genes, problem.eps)
            logits = redraw(predictor, number)(images)
            return attack_loss(cross_entropy, logits, problem), succeeded(logits, problem)

        members = jnp.arange(self.population), jnp.swapaxes(genes, 0, 1)
        at_once = batches_at_once(len(genes), self.population)
        losses, success = (values.T for values in jax.lax.map(judge, members, batch_size=at_once))
        any_success = jnp.any(success, axis=1)
        eligible = success | ~any_success[:, None]
        first = jnp.argmax(jnp.where(eligible, losses, -jnp.inf), axis=1)
        rows = jnp.arange(len(genes))
        images = jax.vmap(paint)(problem.images, genes[rows, first], problem.eps)
        found = images, any_success, losses[rows, first]
        return losses, where_examples(any_success | (found[2] > best[2]), found, best)

    def _children(self, key: PRNGKey, genes: Genes) -> Genes:
        parent_key, place_key = jax.random.split(key)
        first, second, third = (genes[row] for row in _others(parent_key, self.population))
        children = first + self.weight * (second - third)
        places, colours = children[..., :2], children[..., 2:]
        outside = (places < 0) | (places >= 1)
        places = jnp.where(outside, random_uniform(place_key, places.shape), places)
        return jnp.concatenate([places, jnp.clip(colours, 0, 1)], axis=-1)


def paint(image: Image, genes: Float[Array, "p g"], eps: Float[Array, ""]) -> Image:
    """The image with pixels in other colours, the first of them, as many as eps allows."""

    def paint_one(number: Int[Array, ""], image: Image) -> Image:
        row, column = (genes[number, :2] * jnp.asarray(image.shape[:2])).astype(jnp.int32)
        colour = jnp.where(number + 1 <= eps, genes[number, 2:], image[row, column])
        return image.at[row, column].set(colour)

    return jax.lax.fori_loop(0, len(genes), paint_one, image)


def _first_genes(key: PRNGKey, shape: tuple[int, int, int]) -> Genes:
    place_key, colour_key = jax.random.split(key)
    places = random_uniform(place_key, (*shape[:2], 2))
    colours = 0.5 + 0.5 * random_normal(colour_key, (*shape[:2], shape[2] - 2))
    return jnp.concatenate([places, jnp.clip(colours, 0, 1)], axis=-1)


def _others(key: PRNGKey, size: int) -> Int[Array, "3 n"]:
    """For each of so many, three others, distinct."""
    first, second, third = (
        (random_uniform(subkey, (size,)) * (size - taken)).astype(jnp.int32)
        for taken, subkey in enumerate(jax.random.split(key, 3), start=1)
    )
    # Numbers taken before are stepped over, in their order.
    second = second + (second >= first)
    low, high = jnp.minimum(first, second), jnp.maximum(first, second)
    third = third + (third >= low)
    third = third + (third >= high)
    return jnp.stack([(jnp.arange(size) + 1 + ahead) % size for ahead in (first, second, third)])
