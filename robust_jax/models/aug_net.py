"""Augmentations as layers of a network: how strong they are is learned with it (AugNet)."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_choice, check_positive
from robust_jax.images import geometry
from robust_jax.images.colour import grey
from robust_jax.mathematics.norms import norm_lp
from robust_jax.models.layers import Dtype
from robust_jax.types import Image, Images, Output, PRNGKey

Strength = Float[Array, ""]
"""How strongly, from −1 to 1."""


def _warped(image: Image, matrix: geometry.Matrix) -> Image:
    return geometry.warp(image, matrix, mode="nearest")


def _contrast(image: Image, strength: Strength) -> Image:
    mean = jnp.mean(grey(image))
    return jnp.clip(mean + (1 + 0.9 * strength) * (image - mean), 0, 1)


OPERATIONS: dict[str, Callable[[Image, Strength], Image]] = {
    "translate_x": lambda x, s: _warped(x, geometry.translation(s * x.shape[1] / 2, 0)),
    "translate_y": lambda x, s: _warped(x, geometry.translation(0, s * x.shape[0] / 2)),
    "rotate": lambda x, s: _warped(x, geometry.rotation(180 * s, centre=geometry.image_centre(x.shape))),
    "scale": lambda x, s: _warped(x, geometry.scaling(jnp.exp2(s), centre=geometry.image_centre(x.shape))),
    "shear": lambda x, s: _warped(x, geometry.shearing(60 * s, centre=geometry.image_centre(x.shape))),
    "brightness": lambda x, s: jnp.clip(x + 0.5 * s, 0, 1),
    "contrast": _contrast,
}
"""Differentiable operations, by the strength; at 0 they are the identity, at 1 a shift by half the side, half a turn,
twice the size, a shear by 60 degrees, half the range, or nearly double the contrast."""


class AugNet(nn.Module):
    r"""A network behind layers of random augmentations whose ranges and weights are trained with it.

    A layer mixes its operations, each with a strength drawn for the image:

    .. math:: \sum_i w_i\, t_i(x;\, \mu_i u_i), \quad u_i \sim U(-1, 1), \; w = \mathrm{softmax}(\omega / T)

    with learned ranges μ in [0, 1] and weights ω. In evaluation, log-probabilities are averaged over several copies of
    the image; in each copy every layer draws one operation by its weight, with draws that are always the same. What the
    network returns beside its logits is ``invariance``, the norm of w ⊙ μ over all layers, which
    :class:`~robust_jax.objectives.Invariance` rewards: without a reward, ranges only shrink.

    Raises:
        ValueError: if an operation is unknown (the nearest is named) or a number not positive; when run in training
            without a key.

    References:
        Rommel, Moreau & Gramfort, "Deep invariant networks with differentiable augmentation layers" (arXiv 2202.02142).
    """

    network: nn.Module
    """The network, a Linen module."""
    operations: tuple[str, ...] = ("translate_x", "translate_y", "rotate", "scale", "brightness", "contrast")
    """What every layer mixes, see :data:`OPERATIONS`."""
    num_layers: int = 1
    """Layers, one after the other."""
    num_copies: int = 4
    """Copies that are averaged in evaluation."""
    temperature: float = 1.0
    """T."""
    initial_range: float = 0.05
    """Where the ranges start; at 0 there is no gradient."""
    dtype: Dtype | None = None
    """Type of the network's computation; None leaves it as it is."""

    def __post_init__(self):
        for name in self.operations:
            check_choice("operation", name, OPERATIONS)
        for name in ("num_layers", "num_copies", "temperature", "initial_range"):
            check_positive(name, getattr(self, name))
        if self.dtype is not None:
            self.network = self.network.clone(dtype=self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        shape = (self.num_layers, len(self.operations))
        raw_ranges = self.param("ranges", nn.initializers.constant(self.initial_range), shape)
        raw_weights = self.param("weights", nn.initializers.zeros_init(), shape)
        ranges, weights = self.learned({"ranges": raw_ranges, "weights": raw_weights})
        # Of the norms, one whose gradient is finite when all ranges have come to be 0.
        invariance = jnp.broadcast_to(norm_lp(ranges * weights, 2), (images.shape[0],))
        if train:
            keys = jax.random.split(self.make_rng("dropout"), images.shape[0])
            output = self.network(
                jax.vmap(lambda key, x: self._mixed(key, x, ranges, weights))(keys, images), train=True
            )
            return output._replace(extras={**output.extras, "invariance": invariance})
        # Copies as one batch, so that the network is compiled once.
        keys = jax.random.split(jax.random.key(0), self.num_copies)
        drawn = jax.vmap(lambda key: jax.vmap(lambda x: self._drawn(key, x, ranges, weights))(images))(keys)
        output = self.network(drawn.reshape(-1, *images.shape[1:]), train=False)
        logits = jax.nn.log_softmax(output.prediction).reshape(self.num_copies, images.shape[0], -1).mean(axis=0)
        features = output.features.reshape(self.num_copies, *images.shape[:1], -1).mean(axis=0)
        return Output(logits, features, {"invariance": invariance})

    def learned(self, params: PyTree) -> tuple[Float[Array, "layers operations"], Float[Array, "layers operations"]]:
        """Ranges μ and weights w of some parameters."""
        raw = params["ranges"]
        # Clipped, with a gradient that can lead back.
        ranges = raw + jax.lax.stop_gradient(jnp.clip(raw, 0, 1) - raw)
        return ranges, jax.nn.softmax(params["weights"] / self.temperature, axis=-1)

    def _mixed(self, key: PRNGKey, image: Image, ranges: Array, weights: Array) -> Image:
        strengths = ranges * jax.random.uniform(key, ranges.shape, minval=-1.0)
        for layer in range(self.num_layers):
            changed = [OPERATIONS[name](image, strengths[layer, i]) for i, name in enumerate(self.operations)]
            image = jnp.tensordot(weights[layer], jnp.stack(changed), 1)
        return image

    def _drawn(self, key: PRNGKey, image: Image, ranges: Array, weights: Array) -> Image:
        choice_key, key = jax.random.split(key)
        strengths = ranges * jax.random.uniform(key, ranges.shape, minval=-1.0)
        choices = jax.random.categorical(choice_key, jnp.log(weights))
        for layer in range(self.num_layers):
            branches = [lambda x, s, name=name: OPERATIONS[name](x, s) for name in self.operations]
            image = jax.lax.switch(choices[layer], branches, image, strengths[layer, choices[layer]])
        return image
