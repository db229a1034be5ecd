"""Corruptions as interventions on the imaging process, both benchmarks together (arXiv 2112.00639)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from robust_jax import corruptions
from robust_jax.declarations import Column
from robust_jax.suites.corruption_suite import CorruptionSuite


@dataclasses.dataclass(frozen=True)
class Interventions(CorruptionSuite):
    """Errors under the corruptions of ImageNet-C and C-bar, and their mean for each variable that is intervened on.

    The variables are those of the imaging process, from the scene to the file: illumination, weather, optics, motion,
    sensor, processing, transmission; every corruption declares its own. Finished cases are shared with
    :class:`~robust_jax.suites.CommonCorruptions` and :class:`~robust_jax.suites.CorruptionsBar`.

    References:
        Drenkow, Sani, Shpitser & Unberath, arXiv 2112.00639: a corruption as a soft intervention.
    """

    names: tuple[str, ...] = ("all", "bar_cifar")
    """Corruptions, or sets of them: common, extra, all, bar_cifar, bar_imagenet."""

    name: ClassVar[str] = "interventions"

    @property
    def columns(self) -> tuple[Column, ...]:
        variables = dict.fromkeys(corruptions.COMPONENTS[name].variable for name in self.corruption_names)
        return (
            Column("error C and C-bar %", "all", "mean_error", scale=100),
            *(
                Column(f"{variable} %", f"variable {variable}", "mean_error", scale=100, digits=1)
                for variable in corruptions.VARIABLES
                if variable in variables
            ),
        )
