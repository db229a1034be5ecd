"""MLP-Mixers."""

from __future__ import annotations

from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice
from robust_jax.models.convolution import convolve
from robust_jax.models.layers import Dtype, check_common, normalise
from robust_jax.types import Images, Output


class Size(NamedTuple):
    width: int
    depth: int
    token_width: int
    channel_width: int


# Tolstikhin et al. (2021), table 1.
SIZES = {
    "S": Size(512, 8, 256, 2048),
    "B": Size(768, 12, 384, 3072),
    "L": Size(1024, 24, 512, 4096),
    "H": Size(1280, 32, 640, 5120),
}


class MlpMixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al., 2105.01601): patches, and blocks of two MLPs, across patches and across channels.

    There are no positions: each patch has weights of its own in the first of the MLPs, so a network takes images of
    the size it was made for. ``width``, ``depth``, ``token_width`` and ``channel_width`` override the size's.

    Raises:
        ValueError: if the size is unknown or the image does not divide into patches.
    """

    num_classes: int = 10
    """Number of logits."""
    size: Literal["S", "B", "L", "H"] = "S"
    """All four numbers together."""
    patch_size: int = 4
    """Side of a patch in pixels."""
    width: int | None = None
    """Embedding size, in place of the size's."""
    depth: int | None = None
    """Number of blocks, in place of the size's."""
    token_width: int | None = None
    """Hidden units across patches, in place of the size's."""
    channel_width: int | None = None
    """Hidden units across channels, in place of the size's."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from the image, per channel or one for all."""
    std: tuple[float, ...] = (0.25,)
    """Divides the image, per channel or one for all."""
    dtype: Dtype = "float32"
    """Type of the computation; parameters and logits are float32."""

    def __post_init__(self):
        check_common(self.num_classes, self.mean, self.std, self.dtype)
        check_choice("size", self.size, SIZES)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        size = SIZES[self.size]
        x = normalise(images, self.mean, self.std, self.dtype)
        height, breadth = x.shape[1:3]
        patch = self.patch_size
        if height % patch or breadth % patch:
            raise ValueError(f"Expected images that divide into {patch}×{patch} patches, got {height}×{breadth}.")
        width = self.width or size.width
        embed = nn.Conv(
            width,
            (patch, patch),
            strides=patch,
            padding="VALID",
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name="embedding",
        )
        x = embed(x)
        x = x.reshape(x.shape[0], -1, width)
        token_width, channel_width = self.token_width or size.token_width, self.channel_width or size.channel_width
        for i in range(self.depth or size.depth):
            x = MixerBlock(token_width, channel_width, self.dtype, name=f"block{i}")(x)
        x = nn.LayerNorm(epsilon=1e-6, dtype=jnp.promote_types(self.dtype, jnp.float32), name="final_norm")(x)
        features = x.mean(axis=1)
        return Output(nn.Dense(self.num_classes, name="head")(features), features)


class MixerBlock(nn.Module):
    """An MLP across patches and one across channels, each normed before and added to its input."""

    token_width: int
    channel_width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm0")(x)
        y = self._mlp(y.swapaxes(1, 2), self.token_width, "tokens").swapaxes(1, 2)
        x = x + y
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm1")(x)
        return x + self._mlp(y, self.channel_width, "channels")

    def _mlp(self, x: Array, hidden: int, name: str) -> Array:
        size = x.shape[-1]
        x = nn.gelu(nn.Dense(hidden, dtype=self.dtype, name=f"{name}0")(x), approximate=False)
        return nn.Dense(size, dtype=self.dtype, name=f"{name}1")(x)
