"""One temperature for all logits, in float64 on the host."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special

LOG_RANGE = (-7.0, 7.0)
"""Where the logarithm of the temperature is looked for."""


def fit_temperature(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
    r"""The temperature T whose :math:`\mathrm{softmax}(z / T)` has the least NLL (Guo et al., arXiv 1706.04599).

    The NLL is convex in 1 / T; T is kept between e^-7 and e^7, which is where it ends if all predictions are right, or
    none tells anything.

    Raises:
        ValueError: if there are not as many rows of logits as labels, or none.
    """
    logits, labels = check_logits(logits, labels)
    found = optimize.minimize_scalar(
        lambda log_temperature: mean_nll(logits / np.exp(log_temperature), labels),
        bounds=LOG_RANGE,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def nlls(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Negative log-likelihoods, in nats."""
    return special.logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]


def mean_nll(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
    """Their mean."""
    return float(np.mean(nlls(logits, labels)))


def check_logits(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n"]]:
    """Both as arrays, the logits in float64.

    Raises:
        ValueError: if there are not as many rows of logits as labels, or none.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise ValueError(f"Expected logits [n, k] and labels [n], and some, got {logits.shape} and {labels.shape}.")
    return logits, labels
