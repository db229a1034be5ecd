"""What is checked before an attack begins."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from robust_jax.attacks.problem import Problem
from robust_jax.core.mesh import split_beside
from robust_jax.predictors import Randomised
from robust_jax.types import Images, Labels, LogitsFn, PRNGKeys


def make_problem(
    keys: PRNGKeys,
    images: Images,
    labels: Labels,
    eps: float | Float[Array, ""] | Float[Array, "b"],
    targets: Int[Array, "b"] | None,
    *,
    soft: bool = False,
) -> Problem:
    """The examples as a :class:`Problem`, a radius for each; labels may be probabilities where ``soft`` says so.

    Raises:
        ValueError: if shapes disagree, or, where values are known, images leave [0, 1], a radius is negative or NaN,
            a class is negative, probabilities are negative or do not sum to 1, or a target is the label.
    """
    images, labels, eps = jnp.asarray(images, float), jnp.asarray(labels), jnp.asarray(eps, float)
    targets = None if targets is None else jnp.asarray(targets)
    if images.ndim != 4:
        raise ValueError(f"Expected images of shape [b, h, w, c], got shape {images.shape}.")
    size = len(images)
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.shape != (size,):
        raise ValueError(f"Expected {size} keys, one for each image, as of jax.random.split, got shape {keys.shape}.")
    if eps.shape not in ((), (size,)):
        raise ValueError(f"Expected eps to be one number, or {size}, one for each image, got shape {eps.shape}.")
    label_probs = None
    if soft and jnp.issubdtype(labels.dtype, jnp.floating):
        _check_probabilities(labels, size)
        label_probs, labels = labels.astype(images.dtype), jnp.argmax(labels, axis=-1)
    else:
        _check_classes("labels", labels, size)
    if targets is not None:
        _check_classes("targets", targets, size)
        if _known(targets, labels) and (same := np.flatnonzero(np.asarray(targets) == np.asarray(labels))).size:
            raise ValueError(f"Expected targets other than the labels, got the label for example {same[0]}.")
    if _known(images):
        # Within jit, what is computed from values that are known would not be.
        with jax.ensure_compile_time_eval():
            low, high = float(jnp.min(images)), float(jnp.max(images))
        if not (low >= 0 and high <= 1):
            raise ValueError(f"Expected images in [0, 1], got values from {low:.4g} to {high:.4g}.")
    if _known(eps) and not (np.asarray(eps) >= 0).all():
        raise ValueError(f"Expected eps >= 0, got eps={float(np.min(np.asarray(eps)))!r}.")
    return Problem(keys, images, labels, jnp.broadcast_to(eps, (size,)), targets, label_probs)


def check_logits(predictor: LogitsFn, problem: Problem) -> None:
    """Looks at the logits of the images as they are.

    Raises:
        ValueError: if logits are not ``[b, k]`` or, where values are known, not finite, or a label or target is not
            among their classes.

    Warns:
        UserWarning: if they seem to be probabilities, whose gradients vanish, or if those of an image depend on the
            others in its batch.
    """
    logits = _logits(predictor, problem.images) if _known(problem, predictor) else None
    shape = jax.eval_shape(predictor, problem.images).shape if logits is None else logits.shape
    if len(shape) != 2 or shape[0] != len(problem.images):
        raise ValueError(f"Expected logits of shape [{len(problem.images)}, k], got shape {shape}.")
    if problem.label_probs is not None and problem.label_probs.shape[1] != shape[1]:
        raise ValueError(f"Expected soft labels of {shape[1]} classes, got {problem.label_probs.shape[1]}.")
    for name, classes in (("labels", problem.labels), ("targets", problem.targets)):
        if classes is not None and _known(classes) and (largest := np.asarray(classes).max()) >= shape[1]:
            raise ValueError(f"Expected {name} in [0, {shape[1] - 1}], got {largest}.")
    # A function that closes over traced values has traced logits of known images.
    if logits is None or not _known(logits):
        return
    logits = np.asarray(logits)
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if bad.size:
        raise ValueError(f"Expected finite logits, got {logits[bad[0]]} for example {bad[0]} ({bad.size} such).")
    if shape[1] > 1 and (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        warnings.warn("The predictor seems to return probabilities, whose gradients vanish: pass logits.", stacklevel=4)
    # Laid out as the images are, so that each device computes a part, and by the same program.
    copies = split_beside(jnp.broadcast_to(problem.images[:1], problem.images.shape), problem.images)
    among_copies = np.asarray(_logits(predictor, copies))[0]
    if not np.allclose(among_copies, logits[0], rtol=1e-3, atol=1e-3 * np.abs(logits[0]).max()):
        warnings.warn(
            "The logits of an image depend on the others in its batch, as with batch normalisation in training mode; "
            "so will what attacks find. Use the running statistics.",
            stacklevel=4,
        )


@jax.jit
def _logits(predictor: LogitsFn, images: Images) -> Float[Array, "b k"]:
    return predictor(images)


def in_float32(predictor: Callable[..., Array]) -> Callable[..., Array]:
    """The predictor with logits in float32 at least, so that losses, norms and gradients are too."""
    if isinstance(predictor, Randomised):
        return dataclasses.replace(predictor, fn=in_float32(predictor.fn))
    return Partial(_in_float32, predictor)


def _in_float32(predictor: Callable[..., Array], *arguments: Array) -> Float[Array, "b k"]:
    logits = predictor(*arguments)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _check_classes(name: str, classes: Array, size: int) -> None:
    if classes.shape != (size,) or not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(f"Expected {size} integer {name}, got shape {classes.shape} of {classes.dtype}.")
    if _known(classes) and (smallest := np.asarray(classes).min()) < 0:
        raise ValueError(f"Expected {name} >= 0, got {smallest}.")


def _check_probabilities(labels: Array, size: int) -> None:
    if labels.ndim != 2 or len(labels) != size:
        raise ValueError(f"Expected classes [{size}] or soft labels [{size}, k], got shape {labels.shape}.")
    if not _known(labels):
        return
    probs = np.asarray(labels, np.float64)
    wrong = np.flatnonzero(~((probs >= 0).all(axis=1) & (np.abs(probs.sum(axis=1) - 1) < 1e-3)))
    if wrong.size:
        raise ValueError(f"Expected soft labels >= 0 that sum to 1, got {probs[wrong[0]]} for example {wrong[0]}.")


def _known(*trees) -> bool:
    """Whether there are values to look at: not within ``jit``, nor of arrays that other hosts hold parts of."""
    leaves = [leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array)]
    return all(not isinstance(leaf, Tracer) and leaf.is_fully_addressable for leaf in leaves)
