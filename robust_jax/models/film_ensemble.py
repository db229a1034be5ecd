"""FiLM-Ensemble: members that share all weights but those of their batch norms."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_positive
from robust_jax.mathematics.mixtures import mixture_logits
from robust_jax.models.layers import Dtype
from robust_jax.types import Images, Output


class FilmEnsemble(nn.Module):
    r"""A network with M batch norms in place of each of its own: scale, shift and statistics are a member's own.

    In evaluation every member sees every image; ``logits`` are the log-probabilities of the mean of their
    probabilities, ``features`` the mean of theirs, and ``aux`` holds ``member_logits`` ``f32[members, b, k]``. In
    training, example i belongs to member i mod M: :class:`~robust_jax.objectives.Repeated` shows every example to
    each.

    Scales and shifts, whose arrays have a member's channels one after the other, start uniformly in

    .. math:: \pm \rho \sqrt{6 / (M + C)}

    with C the channels, both around 0, as in the published code.

    Raises:
        ValueError: if a number is not positive; when run, if the network has no batch norms, or in training the batch
            does not divide among the members.

    References:
        Turkoglu et al., "FiLM-Ensemble: Probabilistic Deep Learning via Feature-wise Linear Modulation" (arXiv
        2206.00050).
    """

    network: nn.Module
    """The network, a Linen module."""
    num_members: int = 4
    """M."""
    gain: float = 1.0
    """ρ; more makes members differ more."""
    dtype: Dtype | None = None
    """Type of the network's computation; None leaves it as it is."""

    def __post_init__(self):
        check_positive("num_members", self.num_members)
        check_positive("gain", self.gain)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        network = self.network if self.dtype is None else self.network.clone(dtype=self.dtype, parent=self, name=None)
        nn.share_scope(self, network)
        size = images.shape[0]
        if not train:
            images = jnp.repeat(images, self.num_members, axis=0)
        elif size % self.num_members:
            raise ValueError(f"Expected a batch that divides among {self.num_members} members, got {size} examples.")
        found = []

        def split(call, args, kwargs, context):
            module = context.module
            if not isinstance(module, nn.BatchNorm) or context.method_name != "__call__":
                return call(*args, **kwargs)
            found.append(module.name)
            if module.is_initializing():
                self._draw(module, args[0].shape[-1])
            # To the norm, members are so many more channels.
            return _dealt(call(_side_by_side(args[0], self.num_members), *args[1:], **kwargs), self.num_members)

        with nn.intercept_methods(split):
            output = network(images, train=train)
        if not found:
            raise ValueError(f"Expected a network with batch norms, which members have of their own; got {network!r}.")
        if train:
            return output
        members = jnp.moveaxis(output.prediction.reshape(size, self.num_members, -1), 1, 0)
        features = jnp.mean(output.features.reshape(size, self.num_members, -1), axis=1)
        return Output(mixture_logits(members), features, {"member_logits": members})

    def _draw(self, module: nn.BatchNorm, channels: int) -> None:
        bound = self.gain * math.sqrt(6 / (self.num_members + channels))
        for name in ("scale", "bias"):
            drawn = jax.random.uniform(
                module.make_rng("params"), (self.num_members * channels,), minval=-bound, maxval=bound
            )
            module.put_variable("params", name, drawn)


def _side_by_side(x: Float[Array, "b ... c"], members: int) -> Float[Array, "n ... mc"]:
    """Examples of members in turn, as examples with the channels of all of them."""
    apart = jnp.moveaxis(x.reshape(-1, members, *x.shape[1:]), 1, -2)
    return apart.reshape(*apart.shape[:-2], -1)


def _dealt(x: Float[Array, "n ... mc"], members: int) -> Float[Array, "b ... c"]:
    """The inverse."""
    apart = jnp.moveaxis(x.reshape(*x.shape[:-1], members, -1), -2, 1)
    return apart.reshape(-1, *apart.shape[2:])
