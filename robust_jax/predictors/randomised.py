"""Predictors that draw random numbers, and the majority vote of several draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.core.checks import check_positive
from robust_jax.core.keys import named_key
from robust_jax.predictors.base import Predictor, as_predictor, wrap_field
from robust_jax.types import Image, Images, LogitsFn, PRNGKey, PRNGKeys


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Randomised(Predictor):
    """A predictor with random logits: a randomised defence, or a random corruption in front of a model.

    Attacks accept it as any other predictor. Every step draws anew from the example's own key, and attacks with
    ``num_draws`` average gradients over draws: expectation over transformation (Athalye et al., arXiv 1707.07397).
    """

    fn: Callable[[PRNGKeys, Images], Float[Array, "b k"]]
    """Keys, one per image, and images to logits. A ``Partial`` or another pytree carries weights."""
    keys: PRNGKeys | PRNGKey | None = None
    """Keys of the draw, one per image or one for all; attacks set them."""

    def __post_init__(self):
        wrap_field(self, "fn")

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """Return the logits of this draw."""
        if self.keys is None:
            raise ValueError("Expected Randomised with keys, got keys=None. Attacks draw them; else use bind(key).")
        return self.fn(jnp.broadcast_to(self.keys, images.shape[:1]), images)

    def bind(self, key: PRNGKey) -> Randomised:
        """Return one draw, the same for every image."""
        return Randomised(self.fn, key)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Vote(Predictor):
    r"""The majority vote of several draws of a randomised predictor, itself deterministic.

    .. math:: z_c = \log \frac{v_c + \bar p_c}{n + 1}

    for class c with v votes among n draws and the mean probability :math:`\bar p`, which breaks ties and has a
    gradient.

    Raises:
        ValueError: if there is no draw, or the predictor is not randomised.

    References:
        Engstrom et al. (arXiv 1712.02779), "Aggregating random transformations".
    """

    base: Randomised
    """The randomised predictor, such as that of :func:`through`."""
    key: PRNGKey
    """Key of the draws, which all images share, so that a prediction depends on its image alone. The paper draws anew
    for each image."""
    num_draws: int = dataclasses.field(default=10, metadata={"static": True})
    """n."""

    def __post_init__(self):
        check_positive("num_draws", self.num_draws)
        check_randomised(self.base)

    def __call__(self, images: Images) -> Float[Array, "b k"]:
        """Return the logits of the vote."""
        keys = jnp.broadcast_to(self.key, images.shape[:1])
        one = lambda number: jax.nn.softmax(draw(keys, self.base, number)(images))  # noqa: E731
        probs = jax.vmap(one)(jnp.arange(self.num_draws))
        votes = jax.nn.one_hot(jnp.argmax(probs, axis=-1), probs.shape[-1])
        return jnp.log(jnp.sum(votes, axis=0) + jnp.mean(probs, axis=0)) - jnp.log(self.num_draws + 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Transformed:
    base: LogitsFn
    transform: Callable[[PRNGKey, Image], Image] = dataclasses.field(metadata={"static": True})

    def __call__(self, keys: PRNGKeys, images: Images) -> Float[Array, "b k"]:
        return self.base(jax.vmap(self.transform)(keys, images))


def through(predictor: LogitsFn, transform: Callable[[PRNGKey, Image], Image]) -> Randomised:
    """Put a random transform of each image, such as a corruption or an augmentation, in front of a predictor.

    Args:
        predictor: any callable from images to logits.
        transform: a function of a key and one image, such as ``partial(corruption, severity=3.0)``; it is
            differentiated through.
    """
    return Randomised(_Transformed(as_predictor(predictor), transform))


def draw(keys: PRNGKeys | PRNGKey | None, predictor: LogitsFn, number: int | Int[Array, ""]) -> LogitsFn:
    """Select a draw of a randomised predictor by its number; any other predictor is returned unchanged.

    Raises:
        ValueError: if the predictor is randomised and there are no keys.
    """
    if not isinstance(predictor, Randomised):
        return predictor
    if keys is None:
        raise ValueError("Expected keys for the draws of a Randomised predictor, got keys=None.")

    def fold(key: PRNGKey) -> PRNGKey:
        return jax.random.fold_in(named_key(key, "draw"), number)

    return Randomised(predictor.fn, jax.vmap(fold)(keys))


def check_randomised(predictor: LogitsFn) -> None:
    """Raises ``ValueError`` unless the predictor is a :class:`Randomised`."""
    if not isinstance(predictor, Randomised):
        raise ValueError(
            f"Expected a Randomised predictor, got {type(predictor).__name__}, whose draws would all be equal."
        )
