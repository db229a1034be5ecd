"""The NLL when one temperature for all logits has been fitted. Host statistics, in float64."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from robust_jax.mathematics.temperature import check_logits, fit_temperature, nlls

__all__ = ["calibrated_nll", "calibrated_nlls", "fit_temperature"]


def calibrated_nll(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], *, seed: int = 0) -> float:
    """The NLL at the temperature fitted on the other half of the examples, in nats; the mean of all.

    Methods rank by it as they would after calibration: plain NLL mixes how good predictions are with a temperature that
    one number sets right.

    Args:
        logits: of the examples; log-probabilities will do.
        labels: their classes.
        seed: of the halves.

    Raises:
        ValueError: if there are not as many rows of logits as labels, or fewer than two.

    References:
        Ashukha, Lyzhov, Molchanov & Vetrov, "Pitfalls of In-Domain Uncertainty Estimation" (arXiv 2002.06470), 3.1.
    """
    return float(np.mean(calibrated_nlls(logits, labels, seed=seed)))


def calibrated_nlls(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], *, seed: int = 0
) -> Float[np.ndarray, "n"]:
    """As :func:`calibrated_nll`, of every example, so that it can be bootstrapped."""
    logits, labels = check_logits(logits, labels)
    if len(labels) < 2:
        raise ValueError("Expected two examples or more, got one.")
    halves = np.array_split(np.random.default_rng(seed).permutation(len(labels)), 2)
    values = np.empty(len(labels))
    for fit, test in (halves, halves[::-1]):
        values[test] = nlls(logits[test] / fit_temperature(logits[fit], labels[fit]), labels[test])
    return values
