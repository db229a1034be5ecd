"""What a network with learned augmentations has learned of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax

from robust_jax import metrics
from robust_jax.models import AugNet
from robust_jax.predictors import Network
from robust_jax.suites.case import RowLabels, make_row
from robust_jax.suites.store import CaseStore
from robust_jax.types import Evaluation, LogitsFn, PRNGKey, Row

NAME = "learned_ranges"


@dataclasses.dataclass(frozen=True)
class LearnedRanges:
    """The ``range`` and the ``weight`` of every operation of a :class:`~robust_jax.models.AugNet`, by layer.

    Nothing is said of other networks, and no image is looked at.
    """

    @property
    def num_cases(self) -> int:
        return 1

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
        """Yields two rows of every operation; the case is its name, from the second layer on with the layer's number.

        Args:
            key: not used.
            predictor: a :class:`~robust_jax.predictors.Network`; no other has rows.
            data: what the rows are labelled with.
            store: not used.
            labels: of the rows.
            advance: called at the end.
        """
        del key, store
        if isinstance(predictor, Network) and isinstance(predictor.model, AugNet):
            model = predictor.model
            ranges, weights = jax.device_get(model.learned(predictor.variables["params"]))
            columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME, "severity": None}
            for layer in range(model.num_layers):
                for i, name in enumerate(model.operations):
                    case = name if layer == 0 else f"{name} {layer + 1}"
                    for metric, values in (("range", ranges), ("weight", weights)):
                        value = metrics.Interval(float(values[layer, i]))
                        yield make_row(metric, value, data.num_examples, **columns, case=case)
        advance()
