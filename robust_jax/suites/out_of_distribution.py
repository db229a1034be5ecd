"""OOD detection of other data sets with confidence scores and fitted detectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from robust_jax import config, metrics
from robust_jax.data.source import DataSet
from robust_jax.detectors import Detector, Energy, Entropy, MaxProbability, MutualInformation, Score
from robust_jax.metrics import Interval
from robust_jax.predictors import Predictor
from robust_jax.suites.case import RowLabels, admitted, make_row, run_case
from robust_jax.suites.other_sets import evaluation_beside
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.types import Batch, Evaluation, LogitsFn, PRNGKey, Row

NAME = "out_of_distribution"
NUM_RESAMPLES = 200
RESAMPLING_SEED = 0


@dataclasses.dataclass(frozen=True)
class OutOfDistribution:
    """Detection of other data sets by the scores of detectors, which are higher for unknown inputs.

    Rows are named ``SET: DETECTOR``, with the metrics of :func:`~robust_jax.metrics.detection_metrics` in both
    conventions; ``all: DETECTOR`` are the means over sets. A detector that is not defined for a predictor, as mutual
    information for one without members, has no rows.

    Raises:
        ValueError: if there are no sets or no detectors, or a detector is fitted and ``fit_set`` is None.
    """

    sets: dict[str, Any]
    """Data sets by the name that rows give them; their test splits are used, and their labels are not."""
    detectors: tuple[Detector, ...] = (MaxProbability(), Entropy(), Energy(), MutualInformation())
    """Scores to compare."""
    fit_set: DataSet | None = None
    """Data set whose training split fitted detectors read."""

    def __post_init__(self):
        if not self.sets:
            raise ValueError("Expected one data set or more in sets, got none.")
        if not self.detectors:
            raise ValueError("Expected one detector or more, got none.")
        fitted = [detector.name for detector in self.detectors if detector.fitted]
        if fitted and self.fit_set is None:
            raise ValueError(f"Expected fit_set, the training data of the detectors {fitted}, got fit_set=None.")

    def __hash__(self):
        # A dict has no hash of its own; the text is canonical.
        return hash(config.to_json(self))

    @property
    def num_cases(self) -> int:
        return 1 + len(self.sets)

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
        """Yields each set's rows when it is done, with 95 % bootstrap intervals.

        Both sides are resampled, each for itself.

        Args:
            key: not used.
            predictor: any callable from images to logits.
            data: the images of the data's own distribution.
            store: where finished cases are kept and looked for.
            labels: of the rows.
            advance: called after every set, and after the data.

        Raises:
            ValueError: if a set's images have another shape than the data's.
        """
        del key
        store = store or CaseStore()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME, "severity": None}
        # Before hours are spent on the sets that come first.
        others = {name: evaluation_beside(data, other.load("test"), name) for name, other in self.sets.items()}
        predictor = admitted(predictor, data)
        inside = self._scores(predictor, data, data, store)
        advance()
        found: dict[tuple[str, str], list[_Resampled]] = {}
        count = data.num_examples
        for name, evaluation in others.items():
            outside = self._scores(predictor, data, evaluation, store)
            advance()
            count += evaluation.num_examples
            for score in inside:
                for metric, resampled in _detection(inside[score], outside[score]).items():
                    found.setdefault((score, metric), []).append(resampled)
                    examples = data.num_examples + evaluation.num_examples
                    yield make_row(metric, resampled.interval, examples, **columns, case=f"{name}: {score}")
        for (score, metric), over_sets in found.items():
            mean = _Resampled(*(np.mean(parts, axis=0) for parts in zip(*over_sets, strict=True)))
            yield make_row(metric, mean.interval, count, **columns, case=f"all: {score}")

    def _scores(self, predictor: Predictor, data: Evaluation, scored: Evaluation, store: CaseStore) -> Table:
        """Compute the scores of one set's images, or find them in the store."""
        chosen = [detector for detector in self.detectors if detector.applies(predictor)]
        settings = [config.to_json(chosen), "" if self.fit_set is None else config.to_json(self.fit_set)]
        folder = f"{NAME}_{digest(identity(scored), settings)}"
        table = store.get(folder, "scores")
        if table is None:
            scores = {detector.name: detector.fit(predictor, self._fit_batches(data, detector)) for detector in chosen}
            table = run_case(partial(_score_batch, scores, predictor), scored)
            store.put(folder, "scores", table)
        return table

    def _fit_batches(self, data: Evaluation, detector: Detector) -> Iterator[Batch]:
        if not detector.fitted or self.fit_set is None:
            return iter(())
        return evaluation_beside(data, self.fit_set.load("train"), "fit_set").batches()


@jax.jit
def _score_batch(scores: dict[str, Score], predictor: Predictor, batch: Batch) -> dict[str, Float[Array, "b"]]:
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
