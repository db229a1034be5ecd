"""Monte-Carlo dropout: a network with dropout left on, as a distribution over networks (Gal & Ghahramani, 2016)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.core.shapes import image_shape
from robust_jax.predictors import MemberPredictor, apply_network
from robust_jax.types import Batch, Images, Model, PRNGKey

SAMPLE_MAPS = ("map", "vmap")
SampleMap = Literal["map", "vmap"]


@dataclasses.dataclass(frozen=True)
class MonteCarloDropout:
    """Predictions averaged over networks from which other units are dropped each time.

    A draw is one network: all images have the same mask, so that a prediction depends on its image alone, and the draws
    are members as those of an ensemble. All else is in evaluation mode: batch norms use their running statistics.
    Networks that drop before the last layer only (``head_dropout``) give the last-layer dropout of Ovadia et al.

    Raises:
        ValueError: if the number is not positive, or the map unknown.

    References:
        Gal & Ghahramani (arXiv 1506.02142); Ovadia et al. (arXiv 1906.02530) for the last layer.
    """

    num_samples: int = 30
    """Draws."""
    sample_map: SampleMap = "map"
    """How they are computed: one after the other by ``map``, or together by ``vmap``, which takes the memory of all of
    them but computes once what comes before the first dropout."""

    def __post_init__(self):
        check_positive("num_samples", self.num_samples)
        check_choice("sample_map", self.sample_map, SAMPLE_MAPS)

    def fit(
        self, key: PRNGKey | None, model: Model, variables: PyTree, batches: Iterable[Batch]
    ) -> MonteCarloDropoutPosterior:
        """The distribution at trained weights.

        Args:
            key: not used.
            model: a network with dropout, which ``apply(variables, images, train=False, rngs={"dropout": key})`` leaves
                on, see :class:`~robust_jax.models.layers.Dropout`.
            variables: trained; ``{"params": …, …}``.
            batches: the first says which images the network takes; nothing is learned from them.

        Raises:
            ValueError: if there is no batch, or nothing is dropped by the network.
        """
        del key
        batch = next(iter(batches), None)
        if batch is None:
            raise ValueError("Expected data that say which images the network takes, got none.")
        if not _drops(model, variables, image_shape(batch.image)):
            raise ValueError(
                f"Expected a network with dropout, got {model!r}. Set its dropout or head_dropout, and train it so."
            )
        return MonteCarloDropoutPosterior(variables, model, self.num_samples, self.sample_map)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MonteCarloDropoutPosterior(MemberPredictor):
    """What :meth:`MonteCarloDropout.fit` returns: a predictor once a key is bound, whose members are the draws."""

    variables: PyTree
    """The network's."""
    model: Model = dataclasses.field(metadata={"static": True})
    """The network."""
    num_samples: int = dataclasses.field(metadata={"static": True})
    """Draws."""
    sample_map: SampleMap = dataclasses.field(default="map", metadata={"static": True})
    """See :class:`MonteCarloDropout`."""

    key: PRNGKey | None = None
    """Random key of the draws, which all images and all calls share; :meth:`bind` sets it."""

    def bind(self, key: PRNGKey) -> MonteCarloDropoutPosterior:
        """Return the predictor of the key's draws."""
        return dataclasses.replace(self, key=key)

    def members(self, images: Images) -> Float[Array, "m b k"]:
        """Return the logits of each draw.

        Raises:
            ValueError: if no key is bound.
        """
        if self.key is None:
            raise ValueError("Expected a key for the draws of what is dropped, got key=None; use bind(key).")
        run = lambda key: _dropped_logits(self.model, self.variables, key, images)  # noqa: E731
        # Folded in, not split, so that the first draws are the same whatever their number.
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.key, jnp.arange(self.num_samples))
        return jax.lax.map(run, keys) if self.sample_map == "map" else jax.vmap(run)(keys)


def _dropped_logits(model: Model, variables: PyTree, key: PRNGKey, images: Images) -> Float[Array, "b k"]:
    return apply_network(model, variables, images, train=False, rngs={"dropout": key}).prediction


def _drops(model: Model, variables: PyTree, image_shape: tuple[int, int, int]) -> bool:
    """Whether the key enters the prediction: by the program, since no field is common to all networks."""
    run = lambda key, images: _dropped_logits(model, variables, key, images)  # noqa: E731
    program = jax.make_jaxpr(run)(jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)).jaxpr
    return any(program.invars[0] is read for equation in program.eqns for read in equation.invars)
