"""Corruptions by name: of one image, or of a batch."""

from __future__ import annotations

import inspect
import re
from functools import partial

import jax
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice
from robust_jax.core.platform import on_cpu
from robust_jax.corruptions import c_bar, imagenet_c
from robust_jax.corruptions.base import BenchmarkCorruption, Severity, check_image, check_severity
from robust_jax.types import Image, Images, PRNGKey, PRNGKeys

_CLASSES = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): getattr(room, name)
    for room in (imagenet_c, c_bar)
    for name in room.__all__
    if isinstance(getattr(room, name), type)
}
COMPONENTS: dict[str, type[BenchmarkCorruption]] = {
    name: _CLASSES[name] for name in (*imagenet_c.COMMON, *imagenet_c.EXTRA, *c_bar.BAR_IMAGENET, *c_bar.BAR_CIFAR)
}
"""The component class of each corruption of ImageNet-C and C-bar, by its name, in the benchmarks' order."""

# Side from which a CPU is faster by one image after another, where a component says so: a batch leaves its caches.
LARGE = 96


def component(name: str, *, preset: str = "auto", compat: str = "original", **fields: object) -> BenchmarkCorruption:
    """The corruption of a name, such as ``fog``: ``corruption(key, image, severity)``.

    Args:
        name: one of ``COMMON``, ``EXTRA``, ``BAR_IMAGENET``, ``BAR_CIFAR``.
        preset: whose constants, see :class:`~robust_jax.corruptions.BenchmarkCorruption`.
        compat: ``original`` or ``clean``.
        fields: fields of its own, such as ``textures`` of frost.

    Raises:
        ValueError: if the name, the preset or compat is unknown; the nearest valid one is named.
        TypeError: if it has no such field.
    """
    check_choice("corruption", name, COMPONENTS)
    valid = inspect.signature(COMPONENTS[name]).parameters
    for field in fields:
        if field not in valid:
            raise TypeError(f"{name} has no field {field!r}; it has {', '.join(valid)}.")
    return COMPONENTS[name](preset=preset, compat=compat, **fields)


def corrupt(
    key: PRNGKey,
    image: Image,
    name: str,
    severity: Severity = 1.0,
    *,
    preset: str = "auto",
    compat: str = "original",
    **fields: object,
) -> Image:
    """One image corrupted.

    >>> import jax, jax.numpy as jnp
    >>> image = jnp.full((32, 32, 3), 0.5)
    >>> corrupt(jax.random.key(0), image, "fog", 3).shape
    (32, 32, 3)

    Args:
        key: a key.
        image: f[h, w, c] in [0, 1], of 1 or 3 channels.
        name: of the corruption, see :func:`component`.
        severity: from 0, the identity, to 5; may be traced.
        preset: whose constants.
        compat: ``original`` or ``clean``.
        fields: fields of its own, such as ``textures`` of frost.

    Raises:
        ValueError: if an argument is out of range.
        TypeError: if the image is not of floats.
    """
    corruption = component(name, preset=preset, compat=compat, **fields)
    check_image(image, name, corruption.min_size)
    check_severity(severity)
    return _corrupt(corruption, key, image, severity)


def corrupt_batch(
    keys: PRNGKeys,
    images: Images,
    name: str,
    severity: Severity = 1.0,
    *,
    preset: str = "auto",
    compat: str = "original",
    **fields: object,
) -> Images:
    """A batch corrupted, each image with its own key: what :func:`corrupt` makes of each, in one compiled program.

    The severity is of the whole batch. One program, compiled on the first call, serves all severities.

    Args:
        keys: one for each image, such as :func:`robust_jax.core.keys.example_keys` makes.
        images: f[b, h, w, c] in [0, 1].
        name: see :func:`corrupt`, as are the others.
        severity: from 0 to 5.
        preset: whose constants.
        compat: ``original`` or ``clean``.
        fields: fields of its own.

    Raises:
        ValueError: if there are not as many keys as images, or as :func:`corrupt` does.
    """
    corruption = component(name, preset=preset, compat=compat, **fields)
    if images.ndim != 4 or keys.shape[:1] != images.shape[:1]:
        raise ValueError(f"Expected images [b, h, w, c] and b keys, got {tuple(images.shape)} and {keys.shape}.")
    check_image(images[0], name, corruption.min_size)
    check_severity(severity)
    return _corrupt_batch(corruption, keys, images, severity)


@partial(jax.jit, static_argnums=0)
def _corrupt(corruption: BenchmarkCorruption, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
    return corruption(key, image, severity)


@partial(jax.jit, static_argnums=0)
def _corrupt_batch(corruption: BenchmarkCorruption, keys: PRNGKeys, images: Images, severity: Array) -> Images:
    if corruption.by_image and on_cpu(images) and min(images.shape[1:3]) >= LARGE:
        return jax.lax.map(lambda one: corruption(one[0], one[1], severity), (keys, images))
    return jax.vmap(corruption, (0, 0, None))(keys, images, severity)
