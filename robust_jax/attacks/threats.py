r"""What an attack may do to an image: the sets of perturbations that it searches.

All methods are of one image; attacks vmap them. The radius ``eps`` is traced and in the units of the image, [0, 1].
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from robust_jax.core.checks import check_choice, check_fraction
from robust_jax.core.random_words import random_uniform
from robust_jax.mathematics.norms import norm_lp, project_lp, sample_lp
from robust_jax.mathematics.projections import project_l1_box, project_l2_box
from robust_jax.types import Image, PRNGKey

Radius = Float[Array, ""]


class Threat(Protocol):
    """A set of perturbations of an image, of a size given by a radius, within the box [0, 1]."""

    def random(self, key: PRNGKey, image: Image, eps: Radius) -> Image:
        """A random perturbation in the set, for the start of an attack."""
        ...

    def project(self, delta: Image, image: Image, eps: Radius) -> Image:
        """The nearest perturbation in the set."""
        ...

    def steepest(self, gradient: Image) -> Image:
        """The step of norm 1 along which a linear loss grows most."""
        ...

    def norm(self, delta: Image) -> Float[Array, ""]:
        """The size of a perturbation; in the set it is at most eps."""
        ...


class LpThreat(Threat, Protocol):
    """The perturbations of bounded Lp norm."""

    order: ClassVar[float]
    """p."""


@dataclasses.dataclass(frozen=True)
class Linf:
    r""":math:`\lVert \delta \rVert_\infty \le \epsilon`."""

    order: ClassVar[float] = math.inf

    def random(self, key: PRNGKey, image: Image, eps: Radius) -> Image:
        """Uniform in the ball, then into the box (Madry et al., arXiv 1706.06083)."""
        return self.project(sample_lp(key, image.shape, math.inf, eps), image, eps)

    def project(self, delta: Image, image: Image, eps: Radius) -> Image:
        """Into the ball and the box, exactly: their intersection is a box."""
        return jnp.clip(image + jnp.clip(delta, -eps, eps), 0, 1) - image

    def steepest(self, gradient: Image) -> Image:
        """The sign."""
        return jnp.sign(gradient)

    def norm(self, delta: Image) -> Float[Array, ""]:
        """The largest entry."""
        return norm_lp(delta, math.inf)


@dataclasses.dataclass(frozen=True)
class L2:
    r""":math:`\lVert \delta \rVert_2 \le \epsilon`."""

    order: ClassVar[float] = 2.0

    exact: bool = True
    """Project on the intersection of ball and box; otherwise on the ball and then into the box, as most code does,
    which is feasible and not the nearest point."""

    def random(self, key: PRNGKey, image: Image, eps: Radius) -> Image:
        """Uniform in the ball, then into the box."""
        return self.project(sample_lp(key, image.shape, 2.0, eps), image, eps)

    def project(self, delta: Image, image: Image, eps: Radius) -> Image:
        """See ``exact``."""
        if self.exact:
            return project_l2_box(delta, image, eps)
        return jnp.clip(image + project_lp(delta, 2, eps), 0, 1) - image

    def steepest(self, gradient: Image) -> Image:
        """The gradient over its norm."""
        norm = norm_lp(gradient, 2)
        return gradient / jnp.where(norm > 0, norm, 1)

    def norm(self, delta: Image) -> Float[Array, ""]:
        """The Euclidean norm."""
        return norm_lp(delta, 2)


@dataclasses.dataclass(frozen=True)
class L1:
    r""":math:`\lVert \delta \rVert_1 \le \epsilon`, projected exactly on the intersection of ball and box.

    Raises:
        ValueError: if ``density`` is not in (0, 1].

    References:
        Croce & Hein, "Mind the box" (arXiv 2103.01208).
    """

    order: ClassVar[float] = 1.0

    density: float = 0.05
    """Share of entries that a step moves, those of the largest gradient. The steepest step proper would move one,
    which makes no headway in a box."""

    def __post_init__(self):
        check_fraction("density", self.density)

    def random(self, key: PRNGKey, image: Image, eps: Radius) -> Image:
        """Uniform in the ball, then on its intersection with the box."""
        return self.project(sample_lp(key, image.shape, 1.0, eps), image, eps)

    def project(self, delta: Image, image: Image, eps: Radius) -> Image:
        """On the intersection of ball and box."""
        return project_l1_box(delta, image, eps)

    def steepest(self, gradient: Image) -> Image:
        """The signs of the largest entries, all of one size (section 3.2 of the paper)."""
        count = max(1, round(self.density * gradient.size))
        modulus = jnp.abs(gradient)
        threshold = jax.lax.top_k(modulus.reshape(-1), count)[0][-1]
        chosen = jnp.where((modulus >= threshold) & (modulus > 0), jnp.sign(gradient), 0)
        return chosen / jnp.maximum(jnp.sum(jnp.abs(chosen)), 1)

    def norm(self, delta: Image) -> Float[Array, ""]:
        """The sum of moduli."""
        return norm_lp(delta, 1)


@dataclasses.dataclass(frozen=True)
class L0:
    r"""At most :math:`\epsilon` pixels changed, in whatever way the box allows. The radius is their number.

    References:
        Croce & Hein, "Sparse and imperceivable adversarial attacks" (arXiv 1909.05040), section 3.
    """

    order: ClassVar[float] = 0.0

    def random(self, key: PRNGKey, image: Image, eps: Radius) -> Image:
        """Uniform values at random pixels."""
        value_key, place_key = jax.random.split(key)
        places = random_uniform(place_key, image.shape[:2])
        return jnp.where(_largest(places, eps), random_uniform(value_key, image.shape) - image, 0)

    def project(self, delta: Image, image: Image, eps: Radius) -> Image:
        """Into the box; then the pixels of largest change."""
        delta = jnp.clip(image + delta, 0, 1) - image
        return jnp.where(_largest(jnp.sum(delta**2, axis=-1), eps), delta, 0)

    def steepest(self, gradient: Image) -> Image:
        """The gradient over its largest entry: the radius does not bound the size of changes."""
        largest = jnp.max(jnp.abs(gradient))
        return gradient / jnp.where(largest > 0, largest, 1)

    def norm(self, delta: Image) -> Float[Array, ""]:
        """How many pixels are changed."""
        return jnp.sum(jnp.any(delta != 0, axis=-1)).astype(jnp.float32)


THREATS: dict[str, LpThreat] = {"Linf": Linf(), "L2": L2(), "L1": L1(), "L0": L0()}
"""By the name of the norm."""


def _largest(values: Float[Array, "h w"], count: Float[Array, ""]) -> Bool[Array, "h w 1"]:
    """The places of the largest values, as many as there may be; of equal ones the first."""
    order = jnp.argsort(-values.reshape(-1))
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
    return (rank < count).reshape(*values.shape, 1)


def as_threat(norm: str | Threat) -> Threat:
    """The threat of a norm by its name; a threat stays what it is.

    Raises:
        ValueError: if the name is unknown; the nearest is named.
    """
    if isinstance(norm, str):
        check_choice("norm", norm, THREATS)
        return THREATS[norm]
    return norm
