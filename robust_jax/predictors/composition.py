"""Predictors around others: steps in front without a useful gradient, and logits scaled and shifted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from robust_jax.predictors.base import Predictor, wrap_field
from robust_jax.types import Images, LogitsFn


def identity(images: Images) -> Images:
    """Return the images unchanged."""
    return images


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Bpda(Predictor):
    r"""A predictor behind a step without a useful gradient, differentiated through an approximation of the step.

    The forward pass is :math:`f(g(x))`; the backward pass replaces g by the approximation, by default the identity.

    References:
        Athalye et al., "Obfuscated gradients give a false sense of security" (arXiv 1802.00420), section 4.1.
    """

    base: LogitsFn
    """The predictor f."""
    step: Callable[[Images], Images] = dataclasses.field(metadata={"static": True})
    """g, such as quantisation or JPEG compression."""
    approximation: Callable[[Images], Images] = dataclasses.field(default=identity, metadata={"static": True})
    """A differentiable function near g."""

    def __post_init__(self):
        wrap_field(self, "base")

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """Return the logits."""
        smooth = self.approximation(images)
        return self.base(smooth + jax.lax.stop_gradient(self.step(images) - smooth))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Scaled(Predictor):
    """A predictor whose logits are scaled and shifted, as by temperature or vector scaling."""

    base: LogitsFn
    """The predictor."""
    scale: Float[Array, "1"] | Float[Array, "k"]
    """Factor of the logits, one for all classes or one for each."""
    shift: Float[Array, "1"] | Float[Array, "k"]
    """Offset of the scaled logits, one for all classes or one for each."""

    def __post_init__(self):
        wrap_field(self, "base")

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """Return the logits."""
        return self.base(images) * self.scale[None] + self.shift[None]
