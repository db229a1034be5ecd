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
from robust_jax.tasks import Classification, Segmentation
from robust_jax.train.experiment import Experiment
from robust_jax.train.state import TrainState
from robust_jax.types import Batch, LogitsFn, Task


def make_validation(
    experiment: Experiment, mesh: Mesh, task: Task | None
) -> Callable[[TrainState], dict[str, float]] | None:
    """Return a function from the state to its validation measures; ``None`` where no examples are held out.

    Classifiers have error, NLL and ECE; other tasks the means of their measures, for ``squared_error`` the RMSE, and
    segmentation also ``mean_iou``, of the counts of all images.

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
        sums = {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
        confusion = sums.pop("confusion", None)
        means = {name: float(value) / len(source) for name, value in sums.items()}
        if confusion is not None:
            means["mean_iou"] = float(metrics.mean_iou(confusion))
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
def _measure_sums(task: Task, predictor: LogitsFn, batch: Batch) -> dict[str, Float[Array, "..."]]:
    prediction = predictor(batch.image)
    measures = task.measures(prediction, batch.label)
    sums = {name: jnp.sum(jnp.where(batch.mask, values, 0)) for name, values in measures.items()}
    if isinstance(task, Segmentation):
        sums["confusion"] = jnp.tensordot(batch.mask.astype(jnp.int32), task.confusion(prediction, batch.label), 1)
    return sums
