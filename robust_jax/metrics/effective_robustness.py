"""Robustness beyond what accuracy explains (Taori et al., arXiv 2007.00644, section 2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Accuracies = Float[np.ndarray, "..."]


class Baseline(NamedTuple):
    """A line between the logits of two accuracies, and the root mean square of what it leaves, in logits."""

    slope: float
    intercept: float
    residual: float

    def __call__(self, accuracy: Accuracies) -> Accuracies:
        """The accuracy under shift that standard models of this accuracy have."""
        logits = self.slope * _logit(np.asarray(accuracy, np.float64)) + self.intercept
        # Written so that no exponential overflows.
        return 0.5 * (1 + np.tanh(logits / 2))


def fit_baseline(
    accuracy: Float[np.ndarray, "models"],
    shifted_accuracy: Float[np.ndarray, "models"],
    *,
    num_examples: int | None = None,
) -> Baseline:
    r"""Fits :math:`\mathrm{logit}(a_2) = \alpha\, \mathrm{logit}(a_1) + \beta` to standard models by least squares.

    Args:
        accuracy: of each model on the test set, in (0, 1).
        shifted_accuracy: of each under shift, in (0, 1).
        num_examples: of the smaller test set; where given, accuracies are kept half an example from 0 and 1, whose
            logits are infinite.

    Raises:
        ValueError: if there are not two models or more of differing accuracy, or an accuracy is outside (0, 1).
    """
    pair = np.stack([np.asarray(a, np.float64) for a in (accuracy, shifted_accuracy)])
    if num_examples is not None:
        pair = np.clip(pair, 0.5 / num_examples, 1 - 0.5 / num_examples)
    if not ((pair > 0) & (pair < 1)).all():
        raise ValueError(f"Expected accuracies in (0, 1), got {pair.min():g} to {pair.max():g}; give num_examples.")
    if pair.ndim != 2 or len(np.unique(pair[0])) < 2:
        raise ValueError("Expected two or more models of differing accuracy to fit a line to.")
    x, y = _logit(pair)
    slope = np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2)
    intercept = y.mean() - slope * x.mean()
    residual = np.sqrt(np.mean((y - slope * x - intercept) ** 2))
    return Baseline(float(slope), float(intercept), float(residual))


def effective_robustness(accuracy: Accuracies, shifted_accuracy: Accuracies, baseline: Baseline) -> Accuracies:
    r"""Effective robustness :math:`\rho = a_2 - \beta(a_1)`: accuracy under shift beyond that of standard models."""
    return np.asarray(shifted_accuracy, np.float64) - baseline(accuracy)


def relative_robustness(shifted_accuracy: Accuracies, standard_shifted_accuracy: Accuracies) -> Accuracies:
    r"""Relative robustness :math:`\tau = a_2(f') - a_2(f)`: what an intervention adds under shift to the same model.

    Taori et al. call an intervention useful where both this and the effective robustness are positive.
    """
    return np.asarray(shifted_accuracy, np.float64) - np.asarray(standard_shifted_accuracy, np.float64)


def _logit(p: Accuracies) -> Accuracies:
    return np.log(p) - np.log1p(-p)
