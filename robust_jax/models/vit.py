"""Vision transformers."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice, check_fraction
from robust_jax.models.convolution import convolve
from robust_jax.models.layers import Dropout, Dtype, normalise
from robust_jax.types import Images, Output


class Size(NamedTuple):
    width: int
    depth: int
    heads: int


SIZES = {
    "Ti": Size(192, 12, 3),
    "S": Size(384, 12, 6),
    "B": Size(768, 12, 12),
    "L": Size(1024, 24, 16),
    "H": Size(1280, 32, 16),
}


class ViT(nn.Module):
    """ViT (Dosovitskiy et al., 2010.11929): patches, learned positions, pre-norm transformer blocks.

    Sizes Ti and S are those of DeiT (2012.12877). ``width``, ``depth`` and ``heads`` override the size's.

    Raises:
        ValueError: if the size or pooling is unknown, the image does not divide into patches, or the width into heads.
    """

    num_classes: int = 10
    """Number of logits."""
    size: Literal["Ti", "S", "B", "L", "H"] = "Ti"
    """Width, depth and heads together."""
    patch_size: int = 4
    """Side of a patch in pixels."""
    pooling: Literal["cls", "mean"] = "cls"
    """What the classifier reads: a class token, or the mean over the patches."""
    dropout: float = 0.0
    """Chance that an activation of an embedding, attention output or MLP is dropped in training."""
    stochastic_depth: float = 0.0
    """Chance that the last block's branches are skipped for an example in training; it rises linearly from 0."""
    width: int | None = None
    """Embedding size, in place of the size's."""
    depth: int | None = None
    """Number of blocks, in place of the size's."""
    heads: int | None = None
    """Attention heads, in place of the size's."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from the image, per channel or one for all."""
    std: tuple[float, ...] = (0.25,)
    """Divides the image, per channel or one for all."""
    dtype: Dtype = "float32"
    """Computation type, float32, bfloat16 or float64; parameters and logits are float32."""

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Output:
        check_choice("size", self.size, SIZES)
        check_choice("pooling", self.pooling, ("cls", "mean"))
        check_fraction("dropout", self.dropout)
        check_fraction("stochastic_depth", self.stochastic_depth)
        size = SIZES[self.size]
        width, depth, heads = self.width or size.width, self.depth or size.depth, self.heads or size.heads
        if width % heads:
            raise ValueError(f"Expected width to divide by heads, got width={width}, heads={heads}.")
        x = normalise(images, self.mean, self.std, self.dtype)
        x = self._embed(x, width)
        x = Dropout(self.dropout)(x, train=train)
        for i in range(depth):
            skip = self.stochastic_depth * i / max(depth - 1, 1)
            x = TransformerBlock(heads, self.dropout, skip, self.dtype, name=f"block{i}")(x, train=train)
        x = nn.LayerNorm(epsilon=1e-6, dtype=jnp.promote_types(self.dtype, jnp.float32), name="final_norm")(x)
        features = x[:, 0] if self.pooling == "cls" else x.mean(axis=1)
        return Output(nn.Dense(self.num_classes, name="head")(features), features)

    def _embed(self, x: Array, width: int) -> Float[Array, "b n d"]:
        height, breadth = x.shape[1:3]
        patch = self.patch_size
        if height % patch or breadth % patch:
            raise ValueError(f"Expected images that divide into {patch}×{patch} patches, got {height}×{breadth}.")
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
        if self.pooling == "cls":
            token = self.param("cls", nn.initializers.zeros, (1, 1, width))
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, width)).astype(x.dtype), x], axis=1)
        positions = self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], width))
        return x + positions.astype(x.dtype)


class TransformerBlock(nn.Module):
    """Attention and a two-layer MLP of four times the width, each normed before and added to its input."""

    heads: int
    dropout: float
    skip: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], *, train: bool) -> Float[Array, "b n d"]:
        width = x.shape[-1]
        drop = partial(Dropout(self.dropout), train=train)
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm0")(x)
        y = nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype, name="attention")(y)
        x = x + self._skipped(drop(y), train)
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm1")(x)
        y = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, name="mlp0")(y), approximate=False)
        y = nn.Dense(width, dtype=self.dtype, name="mlp1")(drop(y))
        return x + self._skipped(drop(y), train)

    def _skipped(self, branch: Array, train: bool) -> Array:
        """The branch, or zero for a random share of the examples (Huang et al., 1603.09382), scaled to its mean."""
        if not train or self.skip == 0:
            return branch
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.skip, (branch.shape[0], 1, 1))
        return jnp.where(keep, branch / (1 - self.skip), 0).astype(branch.dtype)
