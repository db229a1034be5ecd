"""Pyramid attack: perturbations of squares of several sizes, coarse ones large and fine ones small."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.attacks.losses import as_loss
from robust_jax.attacks.problem import Problem
from robust_jax.attacks.transforms.parameter_pgd import ParameterPGD
from robust_jax.attacks.transforms.threats_parameters import Share, TransformThreat
from robust_jax.core.checks import check_positive
from robust_jax.core.keys import named_key
from robust_jax.core.random_words import random_uniform
from robust_jax.types import Image, PRNGKey

Levels = tuple[Float[Array, "rows columns c"], ...]


@dataclasses.dataclass(frozen=True)
class Pyramid:
    r"""Perturbations constant on squares, summed over several sizes of square.

    .. math:: \mathrm{clip}\Big(x + \sum_s m_s\, U_s(\delta_s), 0, 1\Big), \quad
        \lVert \delta_s \rVert_\infty \le \epsilon

    with :math:`U_s` repeating each value on a square of s × s pixels. Squares that reach beyond the image are cut off.
    ``eps`` is the radius of every δ, in [0, 1] units of the image, and so is the norm: the image may change by as much
    as the sum of :math:`m_s \epsilon`.

    Raises:
        ValueError: if there are not as many sides as factors, there are none, or one is not positive.

    References:
        Herrmann et al., "Pyramid adversarial training improves ViT performance" (arXiv 2111.15121). Its
        code clips the image after the addition of each size; here, as the paper writes it, once.
    """

    sides: tuple[int, ...] = (32, 16, 1)
    """Sides of the squares, in pixels. Of 224 pixels they make 7, 14 and 224 squares in a row."""
    factors: tuple[float, ...] = (20.0, 10.0, 1.0)
    """What the perturbation of each size is multiplied by."""

    def __post_init__(self):
        if not self.sides or len(self.sides) != len(self.factors):
            raise ValueError(
                f"Expected as many sides as factors, one or more, got {len(self.sides)} and {len(self.factors)}."
            )
        for side, factor in zip(self.sides, self.factors, strict=True):
            check_positive("sides", side)
            check_positive("factors", factor)

    def neutral(self, image: Image) -> Levels:
        """Zeros."""
        height, width, channels = image.shape
        return tuple(jnp.zeros((-(-height // side), -(-width // side), channels)) for side in self.sides)

    def random(self, key: PRNGKey, image: Image, eps: Share) -> Levels:
        """Uniform in the balls."""
        zeros = self.neutral(image)
        keys = jax.random.split(key, len(zeros))
        return tuple(eps * (2 * random_uniform(k, z.shape) - 1) for k, z in zip(keys, zeros, strict=True))

    def move(self, point: Levels, gradient: Levels, length: Share, image: Image, eps: Share) -> Levels:
        """A step along the gradient's signs, clipped."""
        return tuple(jnp.clip(d + length * jnp.sign(g), -eps, eps) for d, g in zip(point, gradient, strict=True))

    def apply(self, point: Levels, image: Image) -> Image:
        """The image with all of them added, clipped to [0, 1]."""
        height, width, _ = image.shape
        for side, factor, delta in zip(self.sides, self.factors, point, strict=True):
            squares = jnp.repeat(jnp.repeat(delta, side, axis=0), side, axis=1)
            image = image + factor * squares[:height, :width]
        # Where a pixel is black or white, jnp.clip passes half of the gradient, and its sign with it.
        return jnp.clip(image, 0, 1)

    def norm(self, point: Levels, image: Image) -> Share:
        """The largest entry of any δ."""
        return jnp.max(jnp.stack([jnp.max(jnp.abs(delta)) for delta in point]))


@dataclasses.dataclass(frozen=True)
class PyramidPGD(ParameterPGD):
    """Five steps of eps / 6 from zero, by default towards a random class; the last iterate, for training.

    The published constants, eps = 6/255 and steps of 1/255, are for images in [-1, 1]. In units of [0, 1] they are
    half of that: eps = 3/255 and steps of 0.5/255. The factors stay what they are.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Herrmann et al. (arXiv 2111.15121). There the random class may be the label; here it is another.
    """

    reach: ClassVar[float] = 5 / 6

    eps: float = 3 / 255
    """Radius of the perturbation of each size, before it is multiplied."""
    threat: TransformThreat = Pyramid()
    """The pyramid."""
    steps: int = 5
    """Gradients followed, in each restart."""
    start: Literal["uniform", "zero"] = "zero"
    """Start at a random point, or at the image."""
    keep: Literal["best", "last"] = "last"
    """As in :class:`ParameterPGD`."""
    random_target: bool = True
    """Go towards a class drawn for each example among all others. Success is leaving the label all the same."""

    def _loss(self, logits: Float[Array, "b k"], problem: Problem) -> Float[Array, "b"]:
        if not self.random_target or problem.targets is not None:
            return super()._loss(logits, problem)

        def target(key: PRNGKey, label: Array) -> Array:
            other = jax.random.randint(named_key(key, "target"), (), 0, logits.shape[-1] - 1)
            return other + (other >= label)

        return -as_loss(self.loss)(logits, jax.vmap(target)(problem.keys, problem.labels))
