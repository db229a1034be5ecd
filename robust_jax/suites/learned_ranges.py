"""What a network with learned augmentations has learned of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import jax

from robust_jax import metrics
from robust_jax.declarations import Column
from robust_jax.models import AugNet
from robust_jax.predictors import Network
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row
from robust_jax.types import Row

NAME = "learned_ranges"


@dataclasses.dataclass(frozen=True)
class LearnedRanges(Suite):
    """The ``range`` and the ``weight`` of every operation of a :class:`~robust_jax.models.AugNet`, by layer.

    Nothing is said of other networks, and no image is looked at.
    """

    name: ClassVar[str] = NAME

    @property
    def columns(self) -> tuple[Column, ...]:
        shown = ("rotate", "translate_x", "translate_y")
        return tuple(Column(f"range of {name}", name, "range", digits=3, direction=None) for name in shown)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields two rows of every operation; the case is its name, with the number of its layer but for the first."""
        if isinstance(context.predictor, Network) and isinstance(context.predictor.model, AugNet):
            predictor, model = context.predictor, context.predictor.model
            ranges, weights = jax.device_get(model.learned(predictor.variables["params"]))
            fields = {**context.fields(self.name), "severity": None}
            for layer in range(model.num_layers):
                for i, name in enumerate(model.operations):
                    case = name if layer == 0 else f"{name} {layer + 1}"
                    for metric, values in (("range", ranges), ("weight", weights)):
                        value = metrics.Interval(float(values[layer, i]))
                        yield make_row(metric, value, context.data.num_examples, **fields, case=case)
        context.advance()
