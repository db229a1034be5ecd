"""Selective prediction: risk among the predictions one is most confident of. Host statistics, in float64."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from robust_jax.core.checks import check_fraction, check_non_negative


class RiskCoverage(NamedTuple):
    """Risk, the mean loss, among the share of examples of greatest confidence; from one example to all."""

    coverage: Float[np.ndarray, "n"]
    risk: Float[np.ndarray, "n"]


def risk_coverage(confidence: Float[np.ndarray, "n"], loss: Float[np.ndarray, "n"]) -> RiskCoverage:
    """The curve of risk over coverage (El-Yaniv & Wiener, 2010).

    Examples of equal confidence are taken to come in random order, so that their own order does not matter.

    Args:
        confidence: any score that is higher where the model is surer.
        loss: of each prediction, such as 1 where it is wrong.

    Raises:
        ValueError: if the two differ in length or are empty.
    """
    confidence, loss = np.asarray(confidence, np.float64), np.asarray(loss, np.float64)
    if confidence.shape != loss.shape or confidence.ndim != 1 or not confidence.size:
        raise ValueError(
            f"Expected as many confidences as losses, and some, got shapes {confidence.shape} and {loss.shape}."
        )
    _, group = np.unique(-confidence, return_inverse=True)
    means = np.bincount(group, loss) / np.bincount(group)
    order = np.argsort(group, kind="stable")
    number = np.arange(1, len(loss) + 1)
    return RiskCoverage(number / len(loss), np.cumsum(means[group[order]]) / number)


def aurc(confidence: Float[np.ndarray, "n"], loss: Float[np.ndarray, "n"]) -> float:
    """Area under the curve of risk over coverage, the mean of its risks (Geifman, Uziel & El-Yaniv, 2019)."""
    return float(np.mean(risk_coverage(confidence, loss).risk))


def excess_aurc(confidence: Float[np.ndarray, "n"], loss: Float[np.ndarray, "n"]) -> float:
    """E-AURC: the area less that of the best order of the same losses, which is computed and not approximated."""
    return aurc(confidence, loss) - aurc(-np.asarray(loss, np.float64), loss)


def augrc(confidence: Float[np.ndarray, "n"], loss: Float[np.ndarray, "n"]) -> float:
    r"""Area under generalised risk, the loss of what is accepted as a share of all examples, over coverage.

    With accuracy a and losses of 0 and 1 it is :math:`a (1 - a) (1 - \mathrm{AUROC}) + (1 - a)^2 / 2`, where AUROC is
    that of the confidence as a detector of right predictions.

    References:
        Traub et al., "Overcoming Common Flaws in the Evaluation of Selective Classification Systems" (arXiv
        2407.01032), equation 7.
    """
    coverage, risk = risk_coverage(confidence, loss)
    generalised = np.concatenate([[0], risk * coverage])
    return float(np.mean((generalised[:-1] + generalised[1:]) / 2))


def risk_at_coverage(confidence: Float[np.ndarray, "n"], loss: Float[np.ndarray, "n"], coverage: float) -> float:
    """The risk among the share of examples of greatest confidence, rounded up to whole examples.

    Raises:
        ValueError: if the coverage is not in [0, 1]; at 0 it is the risk of the first example.
    """
    check_fraction("coverage", coverage)
    risks = risk_coverage(confidence, loss).risk
    # A product that was whole in exact arithmetic must not become one more example.
    number = math.ceil(coverage * len(risks) - 1e-9)
    return float(risks[max(number, 1) - 1])


def coverage_at_risk(confidence: Float[np.ndarray, "n"], loss: Float[np.ndarray, "n"], risk: float) -> float:
    """The greatest coverage whose risk is not above ``risk``; 0 if there is none.

    Raises:
        ValueError: if the risk is negative.
    """
    check_non_negative("risk", risk)
    curve = risk_coverage(confidence, loss)
    return float(np.max(curve.coverage[curve.risk <= risk + 1e-12], initial=0.0))
