"""One temperature for all logits, and the NLL when it has been fitted. Host statistics, in float64."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special

LOG_RANGE = (-7.0, 7.0)
"""Where the logarithm of the temperature is looked for."""


def fit_temperature(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
    r"""The temperature T whose :math:`\mathrm{softmax}(z / T)` has the least NLL (Guo et al., 2017).

    The NLL is convex in 1 / T; T is kept between e^-7 and e^7, which is where it ends if all predictions are right, or
    none tells anything.

    Raises:
        ValueError: if there are not as many rows of logits as labels, or none.
    """
    logits, labels = _checked(logits, labels)
    found = optimize.minimize_scalar(
        lambda log_temperature: _nll(logits / np.exp(log_temperature), labels),
        bounds=LOG_RANGE,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def calibrated_nll(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], *, seed: int = 0) -> float:
    """The NLL at the temperature fitted on the other half of the examples, in nats; the mean of both halves.

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
    logits, labels = _checked(logits, labels)
    if len(labels) < 2:
        raise ValueError("Expected two examples or more, got one.")
    halves = np.array_split(np.random.default_rng(seed).permutation(len(labels)), 2)
    values = [
        _nll(logits[test] / fit_temperature(logits[fit], labels[fit]), labels[test])
        for fit, test in (halves, halves[::-1])
    ]
    return float(np.average(values, weights=[len(half) for half in halves[::-1]]))


def _nll(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
    return float(np.mean(special.logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]))


def _checked(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]):
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise ValueError(f"Expected logits [n, k] and labels [n], and some, got {logits.shape} and {labels.shape}.")
    return logits, labels
