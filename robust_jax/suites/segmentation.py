"""IoU of a segmentation network, clean and under common corruptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from robust_jax import corruptions, metrics
from robust_jax.core.mesh import to_host
from robust_jax.declarations import Column, Figure
from robust_jax.predictors import Predictor, as_predictor
from robust_jax.suites.base import Context
from robust_jax.suites.case import make_row, run_case
from robust_jax.suites.corruption_suite import CorruptionSuite
from robust_jax.suites.samples import Samples
from robust_jax.suites.store import Table
from robust_jax.tasks import Segmentation
from robust_jax.types import IGNORED, Batch, Row

MOVING = ("elastic_transform",)
"""Corruptions that move pixels by more than a blur."""


@dataclasses.dataclass(frozen=True)
class SegmentationSuite(CorruptionSuite):
    """Mean IoU, IoU of each class, pixel error and NLL, clean and under corruptions that move no pixel's label.

    IoUs are of the whole data set: intersections and unions are summed over its images before they are divided, and
    the mean is over the classes that occur. Means over corruptions are of the cases' values. Intervals resample images,
    each with its pixels in all cases; with a few images they are narrower than they should be.

    Raises:
        ValueError: as other corruption suites; or if a corruption moves pixels away from their labels.

    References:
        Kamann & Rother, "Benchmarking the Robustness of Semantic Segmentation Models" (arXiv 1908.05005), for the
        common corruptions of Hendrycks & Dietterich (arXiv 1903.12261) on segmentation.
    """

    names: tuple[str, ...] = tuple(name for name in corruptions.COMMON if name not in MOVING)
    """Corruptions, by default the common ones but ``elastic_transform``."""

    name: ClassVar[str] = "segmentation"

    def __post_init__(self):
        super().__post_init__()
        for name in self.corruption_names:
            if name in MOVING:
                raise ValueError(f"Expected corruptions under which label maps keep their place, got {name}.")

    @property
    def num_cases(self) -> int:
        return 1 + super().num_cases

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("mean IoU %", "clean", "mean_iou", scale=100, direction="higher"),
            Column("corrupted mean IoU %", "all", "mean_iou", scale=100, direction="higher"),
            Column("pixel error %", "clean", "error", scale=100),
            Column("corrupted pixel error %", "all", "error", scale=100),
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        # Its errors are of pixels, whose distribution over examples is not drawn.
        return ()

    def rows(self, context: Context) -> Iterator[Row]:
        """Yield the rows of the case ``clean`` and of each corruption and severity, then their means.

        Raises:
            ValueError: with shapes, if predictions and labels are not of every pixel; if images are too small for a
                corruption.
        """
        self._check_size(context.data)
        fields = context.fields(self.name)
        tables = []
        for name, severity in self._cases:
            tables.append(self._map_table(context, name, severity))
            context.advance()
            yield from _case_rows(tables[-1], context.data.class_names, **fields, case=name, severity=severity)
        count, num = len(tables[0]["nll"]), len(self.severities)
        found = np.stack([table["confusion"] for table in tables], axis=1)
        for i, name in enumerate(self.corruption_names):
            yield from _mean_rows(found[:, 1 + i * num :][:, :num], count, **fields, case=name)
        yield from _mean_rows(found[:, 1:], count, **fields, case="all")

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """Return the first images, their label maps and the predicted ones, with the IoU of each image."""
        data = context.data
        batch, task = next(iter(data.batches())), Segmentation(data.num_classes)
        predicted, measures = to_host(_predict(task, as_predictor(context.predictor), batch))
        images, label = (np.asarray(to_host(part)) for part in (batch.image, batch.label))
        shown = [np.round(255 * np.broadcast_to(images, (*images.shape[:3], 3))).astype(np.uint8)]
        shown += [draw_maps(maps, data.num_classes) for maps in (label, predicted)]
        texts = [f"IoU {iou:.2f}" for iou in measures["image_iou"][:num_images]]
        return Samples(
            images=np.stack(shown, axis=1)[:num_images],
            titles=["image", "label", "prediction"],
            predictions=[["", "", text] for text in texts],
            confidences=None,
            labels=["" for _ in texts],
        )

    @property
    def _cases(self) -> list[tuple[str, float | None]]:
        return [("clean", None), *((name, s) for name in self.corruption_names for s in self.severities)]

    def _map_table(self, context: Context, name: str, severity: float | None) -> Table:
        """Confusion counts [n, k, k] and NLL [n] of every example."""
        task, predictor = Segmentation(context.data.num_classes), as_predictor(context.predictor)

        def program(batch: Batch) -> dict[str, Array]:
            seen = batch if severity is None else self._corrupt(context.key, name, severity, batch)
            return _measure(task, predictor, seen)

        corruption = () if severity is None else (context.key, self.preset, self.compat, self._fields(name))
        folder = context.folder("segmentation", task, *corruption)
        case = name if severity is None else f"{name} {severity:g}"
        return context.store.table(folder, case, lambda: run_case(program, context.data))


@partial(jax.jit, static_argnums=0)
def _measure(task: Segmentation, predictor: Predictor, batch: Batch) -> dict[str, Array]:
    logits = predictor(batch.image)
    return {
        "confusion": task.confusion(logits, batch.label),
        "nll": -task.log_likelihood(logits, batch.label),
    }


@partial(jax.jit, static_argnums=0)
def _predict(
    task: Segmentation, predictor: Predictor, batch: Batch
) -> tuple[Int[Array, "b h w"], dict[str, Float[Array, "b"]]]:
    logits = predictor(batch.image)
    return jnp.argmax(logits, axis=-1), task.measures(logits, batch.label)


def _case_rows(table: Table, class_names: tuple[str, ...], **columns) -> Iterator[Row]:
    confusion, count = table["confusion"], len(table["nll"])
    statistics = {
        "mean_iou": metrics.mean_iou,
        "error": metrics.pixel_error,
        **{f"iou_{name}": lambda c, i=i: metrics.class_iou(c)[..., i] for i, name in enumerate(class_names)},
    }
    for metric, interval in _intervals(confusion, statistics).items():
        yield make_row(metric, interval, count, **columns)
    yield make_row("nll", metrics.bootstrap_interval(table["nll"]), count, **columns)


def _mean_rows(confusion: Int[np.ndarray, "n c k k"], count: int, **columns) -> Iterator[Row]:
    """Rows of the means over cases."""
    statistics = {
        "mean_iou": lambda c: metrics.mean_iou(c).mean(axis=-1),
        "error": lambda c: metrics.pixel_error(c).mean(axis=-1),
    }
    for metric, interval in _intervals(confusion, statistics).items():
        yield make_row(metric, interval, count, **columns, severity=None)


def _intervals(
    confusion: Int[np.ndarray, "n *s"], statistics: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> dict[str, metrics.Interval]:
    """Values of the summed counts, and bootstrap intervals over images; ratios of means are those of sums."""
    shape = confusion.shape[1:]
    found = {
        name: (lambda means, f=f: f(means.reshape(*means.shape[:-1], *shape)), "percentile")
        for name, f in statistics.items()
    }
    return metrics.bootstrap_intervals(confusion.reshape(len(confusion), -1), found)


def draw_maps(maps: Int[np.ndarray, "b h w"], num_classes: int) -> UInt8[np.ndarray, "b h w 3"]:
    """Draw label maps in greys from black, class 0, to white, the last; ignored pixels are red."""
    greys = np.round(255 * np.arange(num_classes) / max(num_classes - 1, 1)).astype(np.uint8)
    drawn = np.repeat(greys[np.maximum(maps, 0)][..., None], 3, axis=-1)
    drawn[maps == IGNORED] = (255, 0, 0)
    return drawn
