"""How a perturbation acts: as a whole, a patch of it alone, or moved.

A perturbation is one for all images, ``[h, w, c]``, or one for each of them, ``[b, h, w, c]``. Success is being taken
for a class other than that given or, with ``targeted``, for that class. Perturbed images are clipped to [0, 1]. Results
are per example, so that one may leave out those that succeed without a perturbation.

References:
    Park, Wei, Xiao, Li & Madry, "On distinctive properties of universal perturbations" (arXiv 2112.15329), which finds
    that universal perturbations keep much of their effect in patches, and when they are moved, and perturbations of
    single images do not.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_jax.core.checks import check_positive
from robust_jax.predictors import as_predictor
from robust_jax.types import Images, LogitsFn

Delta = Float[Array, "h w c"] | Float[Array, "b h w c"]


def success_of(
    predictor: LogitsFn, images: Images, delta: Delta, classes: Int[Array, "b"], *, targeted: bool = False
) -> Bool[Array, "b"]:
    """Whether the whole perturbation succeeds."""
    whole = jnp.ones((1, *images.shape[1:3], 1))
    return _masked(as_predictor(predictor), images, _broadcast(delta, images), classes, whole, targeted)[0]


def patch_success(
    predictor: LogitsFn,
    images: Images,
    delta: Delta,
    classes: Int[Array, "b"],
    *,
    size: int,
    stride: int,
    targeted: bool = False,
) -> Bool[Array, "rows columns b"]:
    """Locality: whether a square patch of the perturbation succeeds alone, zero being elsewhere.

    Args:
        predictor: images to logits.
        images: in [0, 1].
        delta: the perturbation.
        classes: labels, or targets.
        size: side of the patch, in pixels.
        stride: pixels from one place to the next; the first is the upper left corner.
        targeted: whether classes are targets.

    Raises:
        ValueError: if the patch is larger than the image, or the stride is not positive.
    """
    height, width = images.shape[1:3]
    check_positive("stride", stride)
    if not 0 < size <= min(height, width):
        raise ValueError(f"Expected size in [1, {min(height, width)}], got size={size!r}.")
    tops, lefts = np.arange(0, height - size + 1, stride), np.arange(0, width - size + 1, stride)
    rows, columns = (
        (np.arange(side) >= first[:, None]) & (np.arange(side) < first[:, None] + size)
        for side, first in ((height, tops), (width, lefts))
    )
    masks = (rows[:, None, :, None] & columns[None, :, None, :]).reshape(-1, height, width, 1)
    masks = jnp.asarray(masks, jnp.float32)
    found = _masked(as_predictor(predictor), images, _broadcast(delta, images), classes, masks, targeted)
    return found.reshape(len(tops), len(lefts), -1)


def shift_success(
    predictor: LogitsFn,
    images: Images,
    delta: Delta,
    classes: Int[Array, "b"],
    *,
    offsets: tuple[int, ...],
    targeted: bool = False,
) -> Bool[Array, "rows columns b"]:
    """Translation invariance: whether the perturbation succeeds when it is moved, what leaves coming in opposite.

    Args:
        predictor: images to logits.
        images: in [0, 1]; they stay where they are.
        delta: the perturbation.
        classes: labels, or targets.
        offsets: pixels to move by, down in the rows of the result and to the right in its columns.
        targeted: whether classes are targets.
    """
    by = jnp.asarray(offsets, jnp.int32)
    found = _moved(as_predictor(predictor), images, _broadcast(delta, images), classes, by, targeted)
    return found.reshape(len(offsets), len(offsets), -1)


def _broadcast(delta: Delta, images: Images) -> Images:
    delta = jnp.asarray(delta)
    if delta.shape not in (images.shape, images.shape[1:]):
        raise ValueError(
            f"Expected a perturbation of shape {images.shape[1:]} or {images.shape}, got shape {delta.shape}."
        )
    return jnp.broadcast_to(delta, images.shape) if delta.ndim == 4 else delta[None]


def _success(predictor: LogitsFn, images: Images, delta: Images, classes: Int[Array, "b"], targeted: bool):
    equal = jnp.argmax(predictor(jnp.clip(images + delta, 0, 1)), axis=-1) == classes
    return equal if targeted else ~equal


@partial(jax.jit, static_argnums=5)
def _masked(predictor, images, delta, classes, masks: Float[Array, "m h w 1"], targeted: bool) -> Bool[Array, "m b"]:
    return jax.lax.map(lambda mask: _success(predictor, images, mask[None] * delta, classes, targeted), masks)


@partial(jax.jit, static_argnums=5)
def _moved(predictor, images, delta, classes, offsets: Int[Array, "n"], targeted: bool) -> Bool[Array, "nn b"]:
    pairs = jnp.stack(jnp.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 2)

    def move(pair: Int[Array, "2"]) -> Bool[Array, "b"]:
        moved = jnp.roll(delta, pair, axis=(1, 2))
        return _success(predictor, images, moved, classes, targeted)

    return jax.lax.map(move, pairs)
