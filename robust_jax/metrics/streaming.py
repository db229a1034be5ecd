"""Sums over examples, of batches, devices or hosts, that add up to the metrics of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_jax.metrics.calibration import NUM_BINS, ReliabilityBins, bin_errors, decompose_brier
from robust_jax.metrics.classification import brier, errors, nll


class BinSums(NamedTuple):
    """Of what falls in each equal-width bin: its number, confidences, and how often they were right."""

    count: Float[Array, "... bins"]
    confidence: Float[Array, "... bins"]
    correct: Float[Array, "... bins"]


class ClassifierSums(NamedTuple):
    """What is added up; a pytree, so that ``jax.lax.psum`` merges it over devices."""

    count: Float[Array, ""]
    error: Float[Array, ""]
    nll: Float[Array, ""]
    brier: Float[Array, ""]
    top: BinSums
    """By confidence in the predicted class, [bins]."""
    classes: BinSums
    """By the probability of each class, [k, bins]."""


def classifier_sums(
    logits: Float[Array, "b k"], labels: Int[Array, "b"], mask: Bool[Array, "b"], *, num_bins: int = NUM_BINS
) -> ClassifierSums:
    """The sums over one batch; pure JAX.

    Args:
        logits: of the examples.
        labels: their classes.
        mask: False on examples that do not count, whatever their logits are.
        num_bins: of confidence.
    """
    weight = mask.astype(jnp.float32)
    # Zero times NaN would be NaN.
    logits = jnp.where(mask[:, None], logits, 0)
    probs, wrong = jax.nn.softmax(logits), errors(logits, labels)
    is_class = jax.nn.one_hot(labels, logits.shape[-1])
    of_classes = jax.vmap(_bin_sums, (1, 1, None, None))
    return ClassifierSums(
        count=weight.sum(),
        error=(weight * wrong).sum(),
        nll=(weight * nll(logits, labels)).sum(),
        brier=(weight * brier(logits, labels)).sum(),
        top=_bin_sums(probs.max(axis=-1), 1 - wrong, weight, num_bins),
        classes=of_classes(probs, is_class, weight, num_bins),
    )


def merge_sums(parts: Iterable[ClassifierSums]) -> ClassifierSums:
    """The sums of all parts, on the host in float64, where many batches add up without loss.

    Raises:
        ValueError: if there is no part.
    """
    total = None
    for part in parts:
        part = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), part)
        total = part if total is None else jax.tree.map(np.add, total, part)
    if total is None:
        raise ValueError("Expected the sums of one batch or more, got none.")
    return total


def summarise_sums(sums: ClassifierSums) -> dict[str, float]:
    """Error, NLL, Brier score and its decomposition, and calibration errors, of merged sums.

    Returns:
        ``error``, ``nll``, ``brier``, ``reliability``, ``resolution``, ``uncertainty``, ``ece``, ``rmsce``, ``mce``,
        ``debiased_squared_ece`` and ``classwise_ece``, as the functions on whole arrays give them; NaN without
        examples.
    """
    with np.errstate(invalid="ignore"):
        means = {name: float(getattr(sums, name) / sums.count) for name in ("error", "nll", "brier")}
    found = bin_errors(_as_bins(sums.top))
    of_classes = [_as_bins(BinSums(*bins)) for bins in zip(*sums.classes, strict=True)]
    parts = decompose_brier(means["brier"], of_classes)
    return {
        **means,
        "reliability": parts.reliability,
        "resolution": parts.resolution,
        "uncertainty": parts.uncertainty,
        "ece": found.expected,
        "rmsce": found.root_mean_square,
        "mce": found.maximum,
        "debiased_squared_ece": found.debiased_square,
        "classwise_ece": float(np.mean([bin_errors(bins).expected for bins in of_classes])),
    }


def _bin_sums(
    confidence: Float[Array, "b"], correct: Float[Array, "b"], weight: Float[Array, "b"], num_bins: int
) -> BinSums:
    # As bin_index: bins are (i / m, (i + 1) / m], and NaN goes to the first.
    position = jnp.nan_to_num(jnp.ceil(confidence * num_bins)).astype(jnp.int32) - 1
    index = jnp.clip(position, 0, num_bins - 1)
    add = lambda values: jnp.zeros(num_bins).at[index].add(values)  # noqa: E731
    return BinSums(add(weight), add(weight * confidence), add(weight * correct))


def _as_bins(sums: BinSums) -> ReliabilityBins:
    count, confidence, correct = (np.asarray(part, np.float64) for part in sums)
    with np.errstate(invalid="ignore"):
        means = confidence / count, correct / count
    return ReliabilityBins(np.linspace(0, 1, len(count) + 1), np.round(count).astype(int), *means)
