"""The 19 corruptions of ImageNet-C at five severities (arXiv 1903.12261)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from robust_jax import corruptions
from robust_jax.declarations import Column
from robust_jax.metrics import common_corruptions as means
from robust_jax.suites.corruption_suite import CorruptionSuite, Summary


@dataclasses.dataclass(frozen=True)
class CommonCorruptions(CorruptionSuite):
    """Errors under the 15 common corruptions and the 4 extra ones at five severities, and what is made of them.

    Of the 15: ``mean_error_15``; mCE and relative mCE, divided by AlexNet's errors on ImageNet-C (on other data a
    figure of its own, not to be compared with published ones); the mean of each of the paper's groups. Of the 19:
    ``mean_error_19``. Both means once more without noise. Of all there are: the mean of each corruption, and of those
    that intervene on one variable of the imaging process. The other means, each severity's, the worst severity's,
    retained accuracy, NLL, Brier score and ECE, are over the 15, or where some of these are left out over all there
    are.

    References:
        Hendrycks & Dietterich, arXiv 1903.12261.
    """

    names: tuple[str, ...] = ("all",)
    """Corruptions, or sets of them: common (the 15), extra (the 4), all."""

    name: ClassVar[str] = "common_corruptions"

    @property
    def columns(self) -> tuple[Column, ...]:
        means = (
            Column("mean error 15 %", "all", "mean_error_15", scale=100),
            Column("mean error 19 %", "all", "mean_error_19", scale=100),
            Column("mean error %", "all", "mean_error", scale=100),
            Column("mCE (AlexNet) %", "all", "mCE_AlexNet", scale=100, digits=1),
        )
        found = self.summaries()
        return (
            *(column for column in means if (column.case, column.level, column.metric) in found),
            Column("corrupted NLL", "all", "mean_nll", digits=3, secondary=True),
        )

    @property
    def benchmark(self) -> tuple[str, ...]:
        names = self.corruption_names
        return corruptions.COMMON if set(corruptions.COMMON) <= set(names) else names

    def summaries(self) -> Mapping[tuple[str, float | None, str], Summary]:
        found, names = dict(super().summaries()), self.corruption_names
        for group, members in means.GROUPS.items():
            if set(members) <= set(names):
                found[f"group {group}", None, "mean_error"] = lambda _, e, over=members: means.mean_error(
                    e, names, over
                )
        if set(means.COMMON) <= set(names):
            del found["all", None, "mean_error"]
            found["all", None, "mean_error_15"] = lambda _, e: means.mean_error_15(e, names)
            found["all", None, "mean_error_15_without_noise"] = lambda _, e: means.mean_error_15_without_noise(e, names)
        if set(means.COMMON + means.EXTRA) <= set(names):
            found["all", None, "mean_error_19"] = lambda _, e: means.mean_error_19(e, names)
            found["all", None, "mean_error_19_without_noise"] = lambda _, e: means.mean_error_19_without_noise(e, names)
        if set(means.COMMON) <= set(names) and sorted(self.severities) == list(corruptions.SEVERITIES):
            found["all", None, "mCE_AlexNet"] = lambda _, e: means.alexnet_mce(e, names)
            found["all", None, "relative_mCE_AlexNet"] = lambda c, e: means.relative_alexnet_mce(e, c, names)
        return found
