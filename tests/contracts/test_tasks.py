"""What every task promises; a new one joins by a line in the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import config, tasks

GENERATOR = np.random.default_rng(0)
SIZE = 6
CLASSES = GENERATOR.integers(0, 3, SIZE).astype(np.int32)
SOFT = GENERATOR.dirichlet(np.ones(3), SIZE).astype(np.float32)
TARGETS = GENERATOR.normal(size=(SIZE, 2)).astype(np.float32)
MAPS = GENERATOR.integers(-1, 3, (SIZE, 5, 4)).astype(np.int32)
CLEAN = GENERATOR.uniform(size=(SIZE, 5, 4, 2)).astype(np.float32)
# Task, shape of an output, labels, and how far a prediction may go and still have a likelihood in float32.
TASKS = {
    "classification": (tasks.Classification(3), (3,), CLASSES, 1e4),
    "soft labels": (tasks.Classification(3), (3,), SOFT, 1e4),
    "regression": (tasks.Regression(2, scale=(5.0, 0.1)), (4,), TARGETS, 1e4),
    "regression of means": (tasks.Regression(2, variance=False), (2,), TARGETS, 1e4),
    "segmentation": (tasks.Segmentation(3), (5, 4, 3), MAPS, 1e4),
    "denoising": (tasks.Denoising(), (5, 4, 2), CLEAN, 1e4),
}


@pytest.fixture(params=TASKS)
def case(request):
    task, outputs, labels, most = TASKS[request.param]
    return task, GENERATOR.normal(size=(SIZE, *outputs)).astype(np.float32), labels, most


def test_jit_is_eager_and_padding_does_not_matter(case):
    """Measures belong to the example: without its neighbours, which may be of any value, they are the same."""
    task, prediction, labels, _ = case
    eager = {**task.measures(prediction, labels), "log_likelihood": task.log_likelihood(prediction, labels)}
    padded = np.concatenate([prediction, np.full_like(prediction[:2], np.nan)])
    more = np.concatenate([labels, labels[:2]])
    compiled = jax.jit(lambda p, y: {**task.measures(p, y), "log_likelihood": task.log_likelihood(p, y)})
    for name, values in compiled(padded, more).items():
        assert values.shape == (SIZE + 2,)
        np.testing.assert_allclose(values[:SIZE], eager[name], rtol=1e-5, atol=1e-6)


def test_gradients_are_finite_where_predictions_saturate(case):
    task, prediction, labels, most = case
    for factor in (1.0, most):
        value, gradient = jax.value_and_grad(lambda p: task.log_likelihood(p, labels).sum())(
            jnp.asarray(prediction * factor)
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_nll_is_the_negative_log_likelihood(case):
    task, prediction, labels, _ = case
    measures = task.measures(prediction, labels)
    if "nll" in measures:
        np.testing.assert_allclose(measures["nll"], -task.log_likelihood(prediction, labels), rtol=1e-6)
    # In dB any sign is possible.
    assert all((values >= 0).all() for name, values in measures.items() if name not in ("nll", "psnr"))


def test_a_task_is_a_config(case):
    task, prediction, labels, _ = case
    assert config.from_json(config.to_json(task)) == task
    assert hash(config.from_json(config.to_json(task))) == hash(task)
    task.check(prediction, labels)
    with pytest.raises(ValueError, match=type(task).__name__):
        task.check(prediction[:, :-1], labels)
