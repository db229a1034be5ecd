"""Errors and calibration as images shift further: corrupted, turned, rolled (arXiv 1906.02530)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.data import Evaluation
from robust_jax.declarations import Column, Curves, Figure, Panel
from robust_jax.images.geometry import rotate_translate
from robust_jax.suites.base import Context
from robust_jax.suites.case import make_row, measure_batch, metric_rows, run_case
from robust_jax.suites.class_probabilities import class_probability_rows
from robust_jax.suites.clean import clean_table
from robust_jax.suites.corruption_suite import CorruptionSuite, MeanCalibration
from robust_jax.suites.selective import selective_rows
from robust_jax.suites.store import Table
from robust_jax.suites.translation import translated
from robust_jax.types import Batch, Images, PRNGKey, Row

SHIFTS = {"corruptions": "corrupted", "rotation": "rotated", "translation": "translated"}
"""Kinds of shift, as cases of means are called, and what images are under each."""
GEOMETRY_CAPTION = "Rotated and translated images, against how far; bands are 95 % intervals."
COVERAGE_CAPTION = "Error among the predictions of greatest confidence, against their fraction of all; bands are 95 %."
MEANS = ("error", "nll", "brier", "entropy")


@dataclasses.dataclass(frozen=True)
class Calibration(CorruptionSuite):
    """Error, NLL, Brier score, ECE and entropy of predictions, by shift and severity.

    Cases: ``clean``, of severity 0; every corruption; ``rotation``, whose severity is in degrees; ``translation``,
    whose severity is in pixels. Each kind of shift there is, ``corruptions``, ``rotation`` or ``translation``, has the
    means over its cases. Of clean images also the calibrated NLL, calibration errors of other kinds, the parts of the
    Brier score, and the curve of risk over coverage with the areas under it. Finished cases of corruptions are shared
    with :class:`~robust_jax.suites.CommonCorruptions`.

    Raises:
        ValueError: as :class:`~robust_jax.suites.CommonCorruptions`; if there is no shift at all, or one by 0; when
            run, if a translation is as wide as the images.

    References:
        Ovadia et al., "Can You Trust Your Model's Uncertainty?" (arXiv 1906.02530), section 4.
    """

    names: tuple[str, ...] = ("common",)
    """Corruptions, or sets of them: common, extra, all, bar_cifar, bar_imagenet; may be empty."""
    rotations: tuple[float, ...] = ()
    """Degrees, clockwise; published: 15, 30, …, 180. What comes in is black."""
    translations: tuple[int, ...] = ()
    """Pixels to the right; published: 2, 4, …, 14 of MNIST. What leaves comes in at the other side."""

    name: ClassVar[str] = "calibration"
    baseline: ClassVar[str | None] = "clean"

    def __post_init__(self):
        if self.names:
            super().__post_init__()
        elif not (self.rotations or self.translations):
            raise ValueError("Expected names of corruptions, rotations or translations, got none.")
        for name in ("rotations", "translations"):
            if 0 in getattr(self, name):
                raise ValueError(f"Expected {name} other than 0, got {name}={getattr(self, name)!r}.")

    @property
    def num_cases(self) -> int:
        return 1 + super().num_cases + len(self.rotations) + len(self.translations)

    @property
    def columns(self) -> tuple[Column, ...]:
        shifted = [(case, title) for case, title in SHIFTS.items() if self._cases(case)]
        return (
            Column("calibrated NLL", "clean", "calibrated_nll", level=0.0, digits=3, secondary=True),
            *(
                column
                for case, title in shifted
                for column in (
                    Column(f"NLL, {title}", case, "mean_nll", digits=3, secondary=True),
                    Column(f"ECE %, {title}", case, "mean_ece", scale=100, secondary=True),
                )
            ),
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        panels = tuple(
            Panel("", ("clean", shift), metric, f"{shift}, {unit}", title, scale)
            for shift, unit in (("rotation", "degrees"), ("translation", "pixels"))
            if self._cases(shift)
            for metric, title, scale in (("error", "error %", 100), ("nll", "NLL", 1), ("ece", "ECE %", 100))
        )
        coverage = Panel("", ("coverage",), "risk", "coverage", "error %")
        return (
            # Without names of corruptions there are neither cases of them nor means over them.
            *(figure for figure in super().figures[:1] if self.names),
            *([Curves("Calibration of rotated and translated images", GEOMETRY_CAPTION, panels)] if panels else []),
            Curves("Risk and coverage", COVERAGE_CAPTION, (coverage,)),
        )

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields each case's rows when it is done, then the means; all with 95 % bootstrap intervals."""
        self._check_size(context.data)
        fields = context.fields(self.name)
        table = clean_table(context)
        context.advance()
        yield from _case_rows(table, **fields, case="clean", severity=0.0)
        yield from class_probability_rows(context, **fields, case="clean", severity=0.0)
        yield from selective_rows(table, **fields)
        for shift in SHIFTS:
            means = MeanCalibration(MEANS)
            cases = self._cases(shift)
            for name, severity in cases:
                compute = self._case if shift == "corruptions" else _shifted_case
                table = compute(context, name, severity)
                context.advance()
                means.add(table)
                yield from _case_rows(table, **fields, case=name, severity=float(severity))
            for metric, interval in means.intervals().items() if cases else ():
                yield make_row(metric, interval, context.data.num_examples, **fields, case=shift, severity=None)

    def _cases(self, shift: str) -> list[tuple[str, float]]:
        if shift == "corruptions":
            return [(name, severity) for name in self.corruption_names for severity in self.severities]
        return [(shift, extent) for extent in (self.rotations if shift == "rotation" else self.translations)]

    def _check_size(self, data: Evaluation) -> None:
        super()._check_size(data)
        width = data.image_shape[1]
        if any(abs(shift) >= width for shift in self.translations):
            raise ValueError(f"Expected translations below {width}, the images' width, got {self.translations!r}.")

    def _sample_columns(self, key: PRNGKey, batch: Batch) -> dict[str, Images]:
        columns = super()._sample_columns(key, batch) if self.names else {}
        for name, extents in (("rotation", self.rotations), ("translation", self.translations)):
            if extents:
                extent = sorted(extents)[len(extents) // 2]
                columns[f"{name} {extent:g}"] = _shifted(name, jnp.float32(extent), batch.image)
        return columns


def _case_rows(table: Table, **fields) -> Iterator[Row]:
    yield from metric_rows(table, **fields)
    yield make_row("entropy", metrics.bootstrap_interval(table["entropy"]), len(table["entropy"]), **fields)


def _shifted_case(context: Context, name: str, extent: float) -> Table:
    """Measures ``[n]`` of images turned or moved alike."""

    def compute() -> Table:
        classifier, by = context.classifier(), jnp.float32(extent)

        def program(batch: Batch) -> dict[str, Array]:
            # Laid out as the clean images are, the network does not compile again.
            images = jax.device_put(_shifted(name, by, batch.image), batch.image.sharding)
            return measure_batch(classifier, batch._replace(image=images))

        return run_case(program, context.data)

    return context.store.table(context.folder("shifts"), f"{name} {extent:g}", compute)


@partial(jax.jit, static_argnums=0)
def _shifted(name: str, extent: Float[Array, ""], images: Images) -> Images:
    if name == "rotation":
        return jax.vmap(partial(rotate_translate, dx=0.0, dy=0.0, degrees=extent))(images)
    return translated("wrap", images, jnp.stack([extent, jnp.zeros_like(extent)]).astype(jnp.int32))
