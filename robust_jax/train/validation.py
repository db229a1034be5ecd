"""Error, NLL and ECE on held-out training examples, after every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from robust_jax import data, metrics, models
from robust_jax.train.experiment import Experiment
from robust_jax.train.state import TrainState
from robust_jax.types import Batch


def make_validation(experiment: Experiment, mesh: Mesh) -> Callable[[TrainState], dict[str, float]] | None:
    """A function from the state to its validation error, NLL and ECE; ``None`` where no examples are held out.

    Raises:
        ValueError: when called, if the network is no classifier.
    """
    if not getattr(experiment.data, "validation", 0):
        return None
    source = experiment.data.load("validation")
    batch_size = min(experiment.execution.eval_batch_size, len(source))
    evaluation = data.evaluation(source, batch_size=batch_size, mesh=mesh)
    model = experiment.network()

    def validate(state: TrainState) -> dict[str, float]:
        predictor = models.predictor(model, state.variables())
        found = metrics.summarise_sums(metrics.merge_sums(_sums(predictor, batch) for batch in evaluation.batches()))
        return {f"validation_{name}": found[name] for name in ("error", "nll", "ece")}

    return validate


@jax.jit
def _sums(predictor: Any, batch: Batch) -> metrics.ClassifierSums:
    logits = predictor(batch.image)
    if logits.ndim != 2:
        raise ValueError(f"Expected logits [b, k] to validate, got shape {logits.shape}; hold no examples out.")
    return metrics.classifier_sums(logits, batch.label, batch.mask)
