"""The attack of Carlini and Wagner in L2."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from robust_jax.attacks.minimum_norm.penalty_search import Descended, PenaltySearch, margins
from robust_jax.attacks.problem import Problem
from robust_jax.attacks.threats import THREATS, Threat
from robust_jax.types import Images, LogitsFn

# Of the way from grey to black and white, so that the inverse of tanh is finite.
SHRINK = 0.999999


class TanhDescent(NamedTuple):
    """Images in tanh space, and the state of Adam."""

    w: Images
    adam: optax.OptState


@dataclasses.dataclass(frozen=True)
class CarliniWagnerL2(PenaltySearch):
    r"""Minimum-norm attack in L2: Adam on the squared norm and a hinge of the margin, in tanh space.

    .. math:: \min_w\; \lVert x(w) - x_0 \rVert_2^2 + c \max(\kappa - m(x(w)), 0), \quad
        x(w) = \tfrac{1}{2} (\tanh w + 1)

    with :math:`m(x) = \max_{i \ne y} z_i - z_y`, or with targets :math:`z_t - \max_{i \ne t} z_i`; the box needs no
    projection. The constant c is searched for.

    The published code takes 10,000 steps for each constant, and where there are ten constants or more it tries the
    last that succeeded once again at the end; here all are tried in the same way.

    Raises:
        ValueError: if a number is out of range; when run, see :meth:`Attack.run`.

    References:
        Carlini & Wagner, "Towards evaluating the robustness of neural networks" (arXiv 1608.04644), sections V and
        VI.A.
    """

    norm: ClassVar[str] = "L2"

    @property
    def threat(self) -> Threat:
        return THREATS["L2"]

    def begin(self, problem: Problem) -> TanhDescent:
        return tanh_descent(to_tanh(problem.images), self.learning_rate)

    def descend(
        self, predictor: LogitsFn, problem: Problem, constant: Array, iteration: Int[Array, "b"], descent: TanhDescent
    ) -> Descended:
        images = from_tanh(descent.w)
        found = margins(predictor, problem, images, self.confidence)
        # Measured from where the descent began, as the image itself may be out of reach.
        delta = images - from_tanh(to_tanh(problem.images))
        hinge = jnp.maximum(self.confidence - found.value, 0)
        loss = jnp.sum(delta**2, axis=(1, 2, 3)) + constant * hinge
        pull = jnp.where(hinge > 0, constant, 0).reshape(-1, 1, 1, 1)
        descent = adam_step(descent, 2 * delta - pull * found.gradient, self.learning_rate)
        return Descended(descent, images, found.adversarial, loss, found.zero_gradient, found.nan_gradient)


def to_tanh(images: Images) -> Images:
    """The w of images, which for black and white entries is finite."""
    return jnp.arctanh(SHRINK * (2 * images - 1))


def from_tanh(w: Images) -> Images:
    """The images of w."""
    return (jnp.tanh(w) + 1) / 2


def tanh_descent(w: Images, learning_rate: float) -> TanhDescent:
    """A descent that begins at w, with a state of Adam for each example."""
    return TanhDescent(w, jax.vmap(optax.adam(learning_rate).init)(w))


def adam_step(descent: TanhDescent, gradient: Images, learning_rate: float) -> TanhDescent:
    """A step against a gradient with respect to the images."""
    tanh = jnp.tanh(descent.w)
    by_w = gradient * (1 - tanh) * (1 + tanh) / 2
    change, adam = jax.vmap(optax.adam(learning_rate).update)(by_w, descent.adam, descent.w)
    return TanhDescent(optax.tree.add(descent.w, change), adam)
