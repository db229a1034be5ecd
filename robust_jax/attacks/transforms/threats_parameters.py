"""What an attack may do to an image other than add to it: transforms, whose parameters it looks for.

What is looked for is called a point: an array of parameters, or several arrays. Of it, ``eps`` is the share of its
limits that is allowed, and 0 allows the image as it is, alone. All methods are of one image; attacks vmap them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from robust_jax.attacks.threats import Threat, as_threat
from robust_jax.core.checks import check_positive
from robust_jax.core.random_words import random_uniform
from robust_jax.types import Image, PRNGKey

Point = PyTree[Float[Array, "..."]]
"""Parameters of one transform."""
Share = Float[Array, ""]


class TransformThreat(Protocol):
    """A set of points, each of which makes another image of an image."""

    def neutral(self, image: Image) -> Point:
        """The point that leaves the image as it is."""
        ...

    def random(self, key: PRNGKey, image: Image, eps: Share) -> Point:
        """A random point of the set."""
        ...

    def move(self, point: Point, gradient: Point, length: Share, image: Image, eps: Share) -> Point:
        """The point after a step of so great a share of the limits uphill, taken back into the set."""
        ...

    def apply(self, point: Point, image: Image) -> Image:
        """The image that a point makes."""
        ...

    def norm(self, point: Point, image: Image) -> Share:
        """The share of the limits that a point takes up; in the set it is at most eps."""
        ...


@dataclasses.dataclass(frozen=True)
class ParameterBox:
    """Parameters ``[p]`` of a transform, each between two limits. Subclasses say which, and what they do."""

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The least, the greatest and the neutral parameters."""
        raise NotImplementedError

    def apply(self, point: Float[Array, "p"], image: Image) -> Image:
        """The transform."""
        raise NotImplementedError

    def at(self, shares: Float[Array, "p"], eps: Share) -> Float[Array, "p"]:
        """Parameters between the limits within eps, at 0 the lower ones, at 1 the upper ones."""
        low, high, neutral = self.bounds
        return jnp.asarray(neutral) + eps * ((low - neutral) * (1 - shares) + (high - neutral) * shares)

    def neutral(self, image: Image) -> Float[Array, "p"]:
        """The parameters that leave the image as it is."""
        return jnp.asarray(self.bounds[2])

    def random(self, key: PRNGKey, image: Image, eps: Share) -> Float[Array, "p"]:
        """Uniform between the limits."""
        return self.at(random_uniform(key, self.bounds[0].shape), eps)

    def move(
        self, point: Float[Array, "p"], gradient: Float[Array, "p"], length: Share, image: Image, eps: Share
    ) -> Float[Array, "p"]:
        """A step of all parameters, by a share of half their range each, along the gradient's signs."""
        low, high, neutral = self.bounds
        moved = point + length * (high - low) / 2 * jnp.sign(gradient)
        return jnp.clip(moved, neutral + eps * (low - neutral), neutral + eps * (high - neutral))

    def norm(self, point: Float[Array, "p"], image: Image) -> Share:
        """The largest share that a parameter takes up of its way from neutral to a limit."""
        low, high, neutral = self.bounds
        change = point - neutral
        limits = jnp.where(change > 0, high - neutral, neutral - low)
        return jnp.max(jnp.abs(change) / jnp.where(limits > 0, limits, 1))


@dataclasses.dataclass(frozen=True)
class Parameters(ParameterBox):
    """Bounded parameters of any pure transform, such as the severity of a corruption::

        Parameters(lambda parameters, image: fog(key, image, parameters[0]), low=(0.0,), high=(5.0,), neutral=(0.0,))

    Raises:
        ValueError: if there are not as many limits and neutral values as each other, there are none, or a neutral
            value is not between the limits.
    """

    transform: Callable[[Float[Array, "p"], Image], Image]
    """Parameters and image to an image in [0, 1]. Compared by identity, or by value where it is a component."""
    low: tuple[float, ...] = (-1.0,)
    """Least values."""
    high: tuple[float, ...] = (1.0,)
    """Greatest values."""
    neutral_values: tuple[float, ...] | None = None
    """Those that leave the image as it is; by default halfway between the limits."""

    def __post_init__(self):
        low, high, neutral = self.bounds
        if not (len(low) == len(high) == len(neutral) > 0):
            raise ValueError(
                f"Expected as many of low, high and neutral_values, one or more, got "
                f"{len(low)}, {len(high)} and {len(neutral)}."
            )
        if not (np.all(low <= neutral) and np.all(neutral <= high)):
            raise ValueError(
                f"Expected low <= neutral_values <= high, got low={self.low!r}, high={self.high!r}, "
                f"neutral_values={tuple(neutral.tolist())!r}."
            )

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        if self.neutral_values is not None:
            return low, high, np.asarray(self.neutral_values, np.float32)
        return low, high, (low + high) / 2 if low.shape == high.shape else low

    def apply(self, point: Float[Array, "p"], image: Image) -> Image:
        return self.transform(point, image)


@dataclasses.dataclass(frozen=True)
class Joint:
    r"""A transform, and a perturbation added to what it makes: :math:`T_p(x) + \delta`.

    A point is the pair of parameters p and perturbation δ. Both steps are taken at once, with one gradient.

    Raises:
        ValueError: if the norm is unknown, or the radius not positive.

    References:
        Engstrom et al. (arXiv 1712.02779), where both are combined too, and δ is added before the transform.
    """

    parameters: ParameterBox
    """The transform."""
    norm_of_delta: str | Threat = "Linf"
    """Linf, L2, L1, or one of :mod:`~robust_jax.attacks.threats`."""
    radius: float = 8 / 255
    """Of the perturbation, in [0, 1] units of the image, where the whole of the limits is allowed."""

    def __post_init__(self):
        as_threat(self.norm_of_delta)
        check_positive("radius", self.radius)

    def neutral(self, image: Image) -> Point:
        """Neutral parameters, and zero."""
        return self.parameters.neutral(image), jnp.zeros_like(image)

    def random(self, key: PRNGKey, image: Image, eps: Share) -> Point:
        """Random parameters, and a random perturbation."""
        parameters_key, delta_key = jax.random.split(key)
        point = self.parameters.random(parameters_key, image, eps)
        transformed = self.parameters.apply(point, image)
        return point, as_threat(self.norm_of_delta).random(delta_key, transformed, self.radius * eps)

    def move(self, point: Point, gradient: Point, length: Share, image: Image, eps: Share) -> Point:
        """A step of the parameters, and one of the perturbation within the box about what they make."""
        threat = as_threat(self.norm_of_delta)
        moved = self.parameters.move(point[0], gradient[0], length, image, eps)
        delta = point[1] + length * self.radius * threat.steepest(gradient[1])
        return moved, threat.project(delta, self.parameters.apply(moved, image), self.radius * eps)

    def apply(self, point: Point, image: Image) -> Image:
        """The transform, and the perturbation added."""
        return self.parameters.apply(point[0], image) + point[1]

    def norm(self, point: Point, image: Image) -> Share:
        """The larger of the shares that the two take up."""
        size = as_threat(self.norm_of_delta).norm(point[1]) / self.radius
        return jnp.maximum(self.parameters.norm(point[0], image), size)
