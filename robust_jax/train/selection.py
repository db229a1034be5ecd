"""Selection of the weights that are evaluated, by measures on held-out examples."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from robust_jax.attacks import Attack
from robust_jax.core.checks import check_choice


@dataclasses.dataclass(frozen=True)
class Best:
    """Evaluate the weights of the epoch with the best validation measure, in place of those of the last epoch.

    The examples are those that the data set holds out (its ``validation``), and the weights are the averaged ones
    where the experiment has an average. The earlier of two equal epochs is selected.

    Raises:
        ValueError: if ``mode`` is unknown; when run, if no examples are held out, if the task has no such measure, or
            if there is an attack and the task is not classification.

    References:
        Rice, Wong & Kolter, "Overfitting in adversarially robust deep learning" (arXiv 2002.11569), for selection by
        robust error.
    """

    metric: str = "error"
    """Validation measure, as logged without ``validation_``: "error", "nll" or "ece" of classifiers, "rmse", "nll",
    "mse", "psnr" or "mean_iou" of other tasks."""
    mode: Literal["min", "max"] = "min"
    """Whether the lowest or the highest value is the best."""
    attack: Attack | None = None
    """Attack on the held-out images; the measure is of the perturbed ones and logged as ``validation_robust_…``."""

    def __post_init__(self):
        check_choice("mode", self.mode, ("min", "max"))

    @property
    def logged_name(self) -> str:
        """Name of the measure in the log."""
        return f"validation_{'' if self.attack is None else 'robust_'}{self.metric}"

    def better(self, new: float, old: float) -> bool:
        """Return whether a value is better than another; NaN is worse than any."""
        if math.isnan(new):
            return False
        if math.isnan(old):
            return True
        return new < old if self.mode == "min" else new > old
