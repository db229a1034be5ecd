"""How well the predictor's own doubts tell the test images from images of other data sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax import config, metrics
from robust_jax.metrics import Interval
from robust_jax.predictors import HasMembers, Predictor
from robust_jax.suites.case import RowLabels, admitted, make_row, run_case
from robust_jax.suites.other_sets import evaluation_beside
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.types import Batch, Evaluation, LogitsFn, PRNGKey, Row

NAME = "out_of_distribution"
NUM_RESAMPLES = 200
RESAMPLING_SEED = 0


@dataclasses.dataclass(frozen=True)
class OutOfDistribution:
    r"""Detection of other data sets by scores that are higher where the prediction is less sure.

    Scores are ``max_probability``, :math:`-\max_k p_k`; ``entropy`` of the prediction; ``energy``,
    :math:`-\log \sum_k e^{z_k}`; and of an ensemble ``mutual_information`` between class and member. The energy of an
    ensemble is the mean of its members', since its own logits are log-probabilities. Rows are named
    ``SET: SCORE``, with the metrics of :func:`~robust_jax.metrics.detection_metrics` in both conventions, and
    ``all: SCORE`` are the means over sets.

    Raises:
        ValueError: if there are no sets.

    References:
        Hendrycks & Gimpel (arXiv 1610.02136) for the probability; Liu et al. (arXiv 2010.03759) for the energy.
    """

    sets: dict[str, Any]
    """Data sets by the name that rows give them; their test splits are used, and their labels are not."""

    def __post_init__(self):
        if not self.sets:
            raise ValueError("Expected one data set or more in sets, got none.")

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
        inside = _scores(predictor, data, data, store)
        advance()
        found: dict[tuple[str, str], list[_Resampled]] = {}
        count = data.num_examples
        for name, evaluation in others.items():
            outside = _scores(predictor, data, evaluation, store)
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


def _scores(predictor: LogitsFn, data: Evaluation, scored: Evaluation, store: CaseStore) -> Table:
    """Scores of one set's images, by a predictor of the data's classes."""
    folder = f"{NAME}_{digest(identity(scored))}"
    table = store.get(folder, "scores")
    if table is None:
        table = run_case(partial(_score_batch, admitted(predictor, data)), scored)
        store.put(folder, "scores", table)
    return table


@jax.jit
def _score_batch(predictor: Predictor, batch: Batch) -> dict[str, Float[Array, "b"]]:
    if not isinstance(predictor, HasMembers):
        logits = predictor(batch.image)
        found = {"energy": -jax.nn.logsumexp(logits, axis=-1)}
    else:
        members = predictor.members(batch.image)
        logits = predictor.combine(members)
        found = {
            "energy": -jnp.mean(jax.nn.logsumexp(members, axis=-1), axis=0),
            "mutual_information": metrics.mutual_information(members),
        }
    return {"max_probability": -metrics.confidence(logits), "entropy": metrics.entropy(logits), **found}


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
