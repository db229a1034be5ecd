"""Measures of the task on held-out training examples, after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from robust_jax import data, metrics, models
from robust_jax.core.checks import check_choice
from robust_jax.core.keys import RunKeys, example_keys
from robust_jax.core.mesh import to_host
from robust_jax.tasks import Classification, Segmentation
from robust_jax.train.experiment import Experiment
from robust_jax.train.state import TrainState
from robust_jax.types import Batch, LogitsFn, Shaped, Task

Measures = dict[str, float]
CLASSIFIER = ("error", "nll", "ece")


def holds_out(experiment: Experiment) -> bool:
    """Return whether the data set holds out examples for validation."""
    return bool(getattr(experiment.data, "validation", 0))


def check_selection(experiment: Experiment, task: Task | None, prediction: Shaped, label: Shaped) -> None:
    """Check that the experiment's selection can be made.

    Args:
        experiment: what is trained.
        task: its task.
        prediction: shape of the network's prediction for a batch of one.
        label: shape of a batch of one label.

    Raises:
        ValueError: if no examples are held out, there is no such measure, or an attack has no classes to change.
    """
    selection = experiment.selection
    if selection is None:
        return
    if not holds_out(experiment):
        raise ValueError(
            f"Expected held-out examples to select weights by, such as validation=1000 in "
            f"{type(experiment.data).__name__}, got none."
        )
    if isinstance(task, Classification):
        names = CLASSIFIER
    elif task is None:
        raise ValueError("Expected a task whose measures select weights, got task=None.")
    elif selection.attack is not None:
        raise ValueError(
            f"Expected classification for a selection by attacked images, got task {type(task).__name__}; "
            "set selection.attack to None."
        )
    else:
        measured = jax.eval_shape(task.measures, prediction, label)
        names = tuple("rmse" if name == "squared_error" else name for name in measured)
        names += ("mean_iou",) * isinstance(task, Segmentation)
    check_choice("selection.metric", selection.metric, names)


def make_validation(experiment: Experiment, mesh: Mesh, task: Task | None) -> Callable[[TrainState], Measures] | None:
    """Return a function from the state to its validation measures; ``None`` where no examples are held out.

    Classifiers have error, NLL and ECE, and with an attack in ``experiment.selection`` also those of attacked images;
    other tasks have the means of their measures, for ``squared_error`` the RMSE, and segmentation also
    ``mean_iou``, of the counts of all images.

    Raises:
        ValueError: if the predictions have no task.
    """
    if not holds_out(experiment):
        return None
    source = experiment.data.load("validation")
    batch_size = min(experiment.execution.eval_batch_size, len(source))
    evaluation = data.evaluation(source, batch_size=batch_size, mesh=mesh)
    model = experiment.network()
    if task is None:
        raise ValueError(
            f"Expected a task to validate {type(model).__name__} by, got task=None; name one or hold no examples out."
        )

    def validate_task(state: TrainState) -> Measures:
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

    attack = None if experiment.selection is None else experiment.selection.attack
    key = RunKeys(jax.random.key(experiment.seed)).validation()

    def attacked(predictor: LogitsFn, batch: Batch) -> Batch:
        assert attack is not None
        return batch._replace(image=attack(example_keys(key, batch.id), predictor, batch.image, batch.label))

    def validate(state: TrainState) -> Measures:
        predictor = models.predictor(model, state.variables())
        found = _summary(predictor, evaluation.batches())
        measures = {f"validation_{name}": found[name] for name in CLASSIFIER}
        if attack is not None:
            found = _summary(predictor, (attacked(predictor, batch) for batch in evaluation.batches()))
            measures |= {f"validation_robust_{name}": found[name] for name in CLASSIFIER}
        return measures

    return validate


def _summary(predictor: LogitsFn, batches: Iterable[Batch]) -> Mapping[str, float]:
    return metrics.summarise_sums(metrics.merge_sums(_sums(predictor, batch) for batch in batches))


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
