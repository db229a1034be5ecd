"""OOD detection of other data sets with confidence scores and fitted detectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from robust_jax import config, metrics
from robust_jax.data import Evaluation
from robust_jax.data.source import DataSet
from robust_jax.declarations import Column
from robust_jax.detectors import Detector, Energy, Entropy, MaxProbability, MutualInformation, Score
from robust_jax.metrics import Interval
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, run_case
from robust_jax.suites.identity import digest
from robust_jax.suites.other_sets import evaluation_beside
from robust_jax.suites.store import Table
from robust_jax.types import Batch, LogitsFn, Row

NAME = "out_of_distribution"
NUM_RESAMPLES = 200
RESAMPLING_SEED = 0


@dataclasses.dataclass(frozen=True)
class OutOfDistribution(Suite):
    """Detection of other data sets by the scores of detectors, which are higher for unknown inputs.

    Rows are named ``SET: DETECTOR``, with the metrics of :func:`~robust_jax.metrics.detection_metrics` in both
    conventions; ``all: DETECTOR`` are the means over sets. A detector that is not defined for a predictor, as mutual
    information for one without members, has no rows.

    Raises:
        ValueError: if there are no sets or no detectors; when run, if a detector is fitted, ``fit_set`` is None and the
            context loads no training split.
    """

    sets: dict[str, Any]
    """Data sets by the name that rows give them; their test splits are used, and their labels are not."""
    detectors: tuple[Detector, ...] = (MaxProbability(), Entropy(), Energy(), MutualInformation())
    """Scores to compare."""
    fit_set: DataSet | None = None
    """Data set whose training split fitted detectors read; None for the one that is evaluated."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        if not self.sets:
            raise ValueError("Expected one data set or more in sets, got none.")
        if not self.detectors:
            raise ValueError("Expected one detector or more, got none.")

    def __hash__(self):
        # A dict has no hash of its own; the text is canonical.
        return hash(config.to_json(self))

    @property
    def num_cases(self) -> int:
        return 1 + len(self.sets)

    @property
    def columns(self) -> tuple[Column, ...]:
        names = [detector.name for detector in self.detectors]
        return (
            *(Column(f"OOD AUROC {n} %", f"all: {n}", "auroc", scale=100, direction="higher") for n in names),
            Column(f"OOD FPR95 {names[0]} (out) %", f"all: {names[0]}", "fpr95_out", scale=100),
        )

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields each set's rows when it is done, with 95 % bootstrap intervals.

        Both sides are resampled, each for itself.

        Raises:
            ValueError: if a set's images have another shape than the data's.
        """
        fields = {**context.fields(self.name), "severity": None}
        data = context.data
        # Before hours are spent on the sets that come first.
        others = {name: evaluation_beside(data, other.load("test"), name) for name, other in self.sets.items()}
        predictor = context.classifier()
        fit_data = self._fit_data(context, predictor)
        inside = self._scores(context, predictor, fit_data, data)
        context.advance()
        found: dict[tuple[str, str], list[_Resampled]] = {}
        count = data.num_examples
        for name, evaluation in others.items():
            outside = self._scores(context, predictor, fit_data, evaluation)
            context.advance()
            count += evaluation.num_examples
            for score in inside:
                for metric, resampled in _detection(inside[score], outside[score]).items():
                    found.setdefault((score, metric), []).append(resampled)
                    examples = data.num_examples + evaluation.num_examples
                    yield make_row(metric, resampled.interval, examples, **fields, case=f"{name}: {score}")
        for (score, metric), over_sets in found.items():
            mean = _Resampled(*(np.mean(parts, axis=0) for parts in zip(*over_sets, strict=True)))
            yield make_row(metric, mean.interval, count, **fields, case=f"all: {score}")

    def _chosen(self, predictor: LogitsFn) -> list[Detector]:
        return [detector for detector in self.detectors if detector.applies(predictor)]

    def _scores(self, context: Context, predictor: LogitsFn, fit_data: Evaluation | None, scored: Evaluation) -> Table:
        """Compute the scores of one set's images, or find them in the store."""
        chosen = self._chosen(predictor)

        def compute() -> Table:
            scores = {}
            for detector in chosen:
                batches = fit_data.batches() if fit_data is not None and detector.fitted else iter(())
                scores[detector.name] = detector.fit(predictor, batches)
            return run_case(partial(_score_batch, scores, predictor), scored)

        read = None if fit_data is None else fit_data.fingerprint
        return context.store.table(f"{NAME}_{digest(scored.fingerprint, chosen, read)}", "scores", compute)

    def _fit_data(self, context: Context, predictor: LogitsFn) -> Evaluation | None:
        """Examples that detectors are fitted on; None where none is fitted."""
        if not any(detector.fitted for detector in self._chosen(predictor)):
            return None
        if self.fit_set is not None:
            return evaluation_beside(context.data, self.fit_set.load("train"), "fit_set")
        if context.load is None:
            fitted = [detector.name for detector in self.detectors if detector.fitted]
            raise ValueError(f"Expected fit_set, or load in the context, the training data of the detectors {fitted}.")
        return context.load("train")


@jax.jit
def _score_batch(scores: dict[str, Score], predictor: LogitsFn, batch: Batch) -> dict[str, Float[Array, "b"]]:
    return {name: score(predictor, batch.image) for name, score in scores.items()}


class _Resampled(NamedTuple):
    """A metric, and its values on resampled examples."""

    value: float
    samples: Float[np.ndarray, "resamples"]

    @property
    def interval(self) -> Interval:
        return metrics.percentile_interval(self.value, self.samples)


def _detection(inside: Float[np.ndarray, "n"], outside: Float[np.ndarray, "m"]) -> dict[str, _Resampled]:
    generator = np.random.default_rng(RESAMPLING_SEED)
    draws = [
        metrics.detection_metrics(generator.choice(inside, len(inside)), generator.choice(outside, len(outside)))
        for _ in range(NUM_RESAMPLES)
    ]
    values = metrics.detection_metrics(inside, outside)
    return {name: _Resampled(value, np.array([draw[name] for draw in draws])) for name, value in values.items()}
