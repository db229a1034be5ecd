"""How well a score tells inputs from outside from those of the data. Host statistics, in float64."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn import metrics

from robust_jax.core.checks import check_fraction


def detection_metrics(
    inside: Float[np.ndarray, "n"], outside: Float[np.ndarray, "m"], *, level: float = 0.95
) -> dict[str, float]:
    """AUROC, and precision and false positives in both conventions of the literature, which differ much.

    Args:
        inside: scores of inputs of the data's distribution.
        outside: scores of others; higher means further out.
        level: true positives at which the false ones are counted.

    Returns:
        ``auroc``; ``aupr_out``, where inputs from outside are the positives, and ``aupr_in``, where those of the data
        are; ``fpr95_out``, the share of the data called outside where 95 % of the others are, as counts who detects;
        and ``fpr95_in``, the share of the others let in where 95 % of the data are, as OpenOOD counts. The names have
        the level in percent.

    Raises:
        ValueError: if either is empty or holds NaN, or the level is not in [0, 1].
    """
    check_fraction("level", level)
    inside, outside = np.asarray(inside, np.float64).ravel(), np.asarray(outside, np.float64).ravel()
    for name, scores in (("inside", inside), ("outside", outside)):
        if not scores.size or np.isnan(scores).any():
            raise ValueError(f"Expected {name} to be some scores without NaN, got {scores.size} of them.")
    scores = np.concatenate([inside, outside])
    is_outside = np.repeat([0, 1], [inside.size, outside.size])
    percent = f"{100 * level:g}"
    return {
        "auroc": float(metrics.roc_auc_score(is_outside, scores)),
        "aupr_out": float(metrics.average_precision_score(is_outside, scores)),
        "aupr_in": float(metrics.average_precision_score(1 - is_outside, -scores)),
        f"fpr{percent}_out": false_positive_rate(outside, inside, level=level),
        f"fpr{percent}_in": false_positive_rate(-inside, -outside, level=level),
    }


def false_positive_rate(
    positive: Float[np.ndarray, "n"], negative: Float[np.ndarray, "m"], *, level: float = 0.95
) -> float:
    """The share of negatives that score as high as the highest threshold which ``level`` of the positives reach."""
    ordered = np.sort(np.asarray(positive, np.float64))[::-1]
    number = max(int(np.ceil(level * len(ordered) - 1e-9)), 1)
    return float(np.mean(np.asarray(negative, np.float64) >= ordered[number - 1]))
