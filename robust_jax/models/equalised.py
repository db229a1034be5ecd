"""A network that sees its images after histogram equalisation (arXiv 1903.12261, section 5)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_jax.core.checks import check_positive
from robust_jax.images.colour import rgb_to_ycbcr, ycbcr_to_rgb
from robust_jax.images.histogram import clahe
from robust_jax.models.layers import Dtype
from robust_jax.types import Image, Images, Output


class Equalised(nn.Module):
    """Contrast-limited adaptive histogram equalisation of the luma, then a network, in training and in evaluation.

    The variables are those of the network alone, so that its published weights load. Images are rounded to eight bits
    on the way, and gradients with respect to them are those of the colours alone.

    Raises:
        ValueError: if ``clip_limit`` or a number of tiles is not positive.
    """

    network: nn.Module
    """The network, a Linen module."""
    clip_limit: float = 2.0
    """The most pixels that a level may hold, in multiples of a tile's mean."""
    tiles: tuple[int, int] = (8, 8)
    """How many, down and across; small images need fewer, since few pixels make no histogram."""
    dtype: Dtype | None = None
    """Type of the network's computation; None leaves it as it is."""

    def __post_init__(self):
        check_positive("clip_limit", self.clip_limit)
        for number in self.tiles:
            check_positive("tiles", number)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        network = self.network if self.dtype is None else self.network.clone(dtype=self.dtype, parent=self, name=None)
        nn.share_scope(self, network)
        return network(jax.vmap(self._equalise)(images), train=train)

    def _equalise(self, image: Image) -> Image:
        if image.shape[-1] == 1:
            return clahe(image[..., 0], clip_limit=self.clip_limit, tiles=self.tiles)[..., None]
        colours = rgb_to_ycbcr(image)
        luma = clahe(colours[..., 0], clip_limit=self.clip_limit, tiles=self.tiles)
        return jnp.clip(ycbcr_to_rgb(colours.at[..., 0].set(luma)), 0, 1)
