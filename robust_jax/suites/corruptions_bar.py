"""ImageNet-C-bar and CIFAR-10-C-bar: corruptions unlike those of ImageNet-C (arXiv 2102.11273)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from robust_jax import corruptions, metrics
from robust_jax.declarations import Column
from robust_jax.metrics import Interval
from robust_jax.suites.base import Context
from robust_jax.suites.corruption_suite import CorruptionSuite


@dataclasses.dataclass(frozen=True)
class CorruptionsBar(CorruptionSuite):
    """Errors under the ten corruptions of C-bar at five severities, their mean, and its difference to that on C.

    The difference, ``mean_error_bar_minus_15``, is there where :class:`~robust_jax.suites.CommonCorruptions` has been
    run before, with the same settings: a method whose gain on C does not carry over to C-bar was made for C.

    References:
        Mintun, Kirillov & Xie, arXiv 2102.11273.
    """

    names: tuple[str, ...] = ("bar_cifar",)
    """Corruptions, or sets of them: bar_cifar for small images, bar_imagenet for large ones."""

    name: ClassVar[str] = "corruptions_bar"

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("C-bar error %", "all", "mean_error", scale=100),
            Column("C-bar − C %", "all", "mean_error_bar_minus_15", scale=100),
        )

    def _comparisons(self, context: Context, values: Float[np.ndarray, "n m"]) -> dict[str, Interval]:
        common = []
        for name in corruptions.COMMON:
            for severity in self.severities:
                table = context.store.get(*self._place(context, name, severity))
                if table is None:
                    return {}
                common.append(table["error"])
        difference = values[:, 1:].mean(axis=1) - np.mean(common, axis=0)
        return {"mean_error_bar_minus_15": metrics.bootstrap_interval(difference)}
