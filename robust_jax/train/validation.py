"""Measures of the task on held-out training examples, after every epoch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from robust_jax import data, metrics, models
from robust_jax.core.mesh import to_host
from robust_jax.tasks import Classification
from robust_jax.train.experiment import Experiment
from robust_jax.train.state import TrainState
from robust_jax.types import Batch, LogitsFn, Task


def make_validation(
    experiment: Experiment, mesh: Mesh, task: Task | None
) -> Callable[[TrainState], dict[str, float]] | None:
    """Return a function from the state to its validation measures; ``None`` where no examples are held out.

    Classifiers have error, NLL and ECE; other tasks the means of their measures, and for ``squared_error`` the RMSE.

    Raises:
        ValueError: if the predictions have no task.
    """
    if not getattr(experiment.data, "validation", 0):
        return None
    source = experiment.data.load("validation")
    batch_size = min(experiment.execution.eval_batch_size, len(source))
    evaluation = data.evaluation(source, batch_size=batch_size, mesh=mesh)
    model = experiment.network()
    if task is None:
        raise ValueError(
            f"Expected a task to validate {type(model).__name__} by, got task=None; name one or hold no examples out."
        )

    def validate_task(state: TrainState) -> dict[str, float]:
        predictor = models.predictor(model, state.variables())
        parts = to_host([_measure_sums(task, predictor, batch) for batch in evaluation.batches()])
        means = {name: float(np.sum([part[name] for part in parts])) / len(source) for name in parts[0]}
        if "squared_error" in means:
            means["rmse"] = means.pop("squared_error") ** 0.5
        return {f"validation_{name}": value for name, value in means.items()}

    if not isinstance(task, Classification):
        return validate_task

    def validate(state: TrainState) -> dict[str, float]:
        predictor = models.predictor(model, state.variables())
        found = metrics.summarise_sums(metrics.merge_sums(_sums(predictor, batch) for batch in evaluation.batches()))
        return {f"validation_{name}": found[name] for name in ("error", "nll", "ece")}

    return validate


@jax.jit
def _sums(predictor: LogitsFn, batch: Batch) -> metrics.ClassifierSums:
    return metrics.classifier_sums(predictor(batch.image), batch.label, batch.mask)


@partial(jax.jit, static_argnums=0)
def _measure_sums(task: Task, predictor: LogitsFn, batch: Batch) -> dict[str, Float[Array, ""]]:
    measures = task.measures(predictor(batch.image), batch.label)
    return {name: jnp.sum(jnp.where(batch.mask, values, 0)) for name, values in measures.items()}
