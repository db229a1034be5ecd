"""Errors and calibration as images shift further: corrupted, turned, rolled (arXiv 1906.02530)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.images.geometry import rotate_translate
from robust_jax.suites.case import RowLabels, admitted, make_row, measure_batch, metric_rows, run_case
from robust_jax.suites.class_probabilities import class_probability_rows
from robust_jax.suites.clean import clean_table
from robust_jax.suites.corruption_suite import CorruptionSuite, MeanCalibration
from robust_jax.suites.selective import selective_rows
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.suites.translation import translated
from robust_jax.types import Batch, Evaluation, Images, LogitsFn, PRNGKey, Row

SHIFTS = ("corruptions", "rotation", "translation")
"""Kinds of shift, as cases of means are called."""
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

    suite_name: ClassVar[str] = "calibration"

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

    def rows(
        self,
        key: PRNGKey,
        predictor: LogitsFn,
        data: Evaluation,
        *,
        store: CaseStore | None = None,
        labels: RowLabels = RowLabels(),
        advance: Callable[[], None] = lambda: None,
    ) -> Iterator[Row]:
        """Yields each case's rows when it is done, then the means; all with 95 % bootstrap intervals.

        Args:
            key: of the corruptions.
            predictor: any callable from images to logits.
            data: the examples.
            store: where finished cases are kept and looked for.
            labels: of the rows.
            advance: called after every case.
        """
        self._check_size(data)
        store = store or CaseStore()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": self.suite_name}
        table = clean_table(predictor, data, store)
        advance()
        yield from _case_rows(table, **columns, case="clean", severity=0.0)
        yield from class_probability_rows(predictor, data, store, **columns, case="clean", severity=0.0)
        yield from selective_rows(table, **columns)
        for shift in SHIFTS:
            means = MeanCalibration(MEANS)
            cases = self._cases(shift)
            for name, severity in cases:
                compute = self._case if shift == "corruptions" else _shifted_case
                table = compute(key, predictor, data, store, name, severity)
                advance()
                means.add(table)
                yield from _case_rows(table, **columns, case=name, severity=float(severity))
            for metric, interval in means.intervals().items() if cases else ():
                yield make_row(metric, interval, data.num_examples, **columns, case=shift, severity=None)

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


def _case_rows(table: Table, **columns) -> Iterator[Row]:
    yield from metric_rows(table, **columns)
    yield make_row("entropy", metrics.bootstrap_interval(table["entropy"]), len(table["entropy"]), **columns)


def _shifted_case(
    key: PRNGKey, predictor: LogitsFn, data: Evaluation, store: CaseStore, name: str, extent: float
) -> Table:
    """Measures ``[n]`` of images turned or moved alike; the key is not used."""
    del key
    place = f"shifts_{digest(identity(data))}", f"{name} {extent:g}"
    table = store.get(*place)
    if table is None:
        classifier, extent = admitted(predictor, data), jnp.float32(extent)

        def program(batch: Batch) -> dict[str, Array]:
            # Laid out as the clean images are, the network does not compile again.
            images = jax.device_put(_shifted(name, extent, batch.image), batch.image.sharding)
            return measure_batch(classifier, batch._replace(image=images))

        table = run_case(program, data)
        store.put(*place, table)
    return table


@partial(jax.jit, static_argnums=0)
def _shifted(name: str, extent: Float[Array, ""], images: Images) -> Images:
    if name == "rotation":
        return jax.vmap(partial(rotate_translate, dx=0.0, dy=0.0, degrees=extent))(images)
    return translated("wrap", images, jnp.stack([extent, jnp.zeros_like(extent)]).astype(jnp.int32))
