"""Recalibration against scipy and scikit-learn; held-out examples, where networks go, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special
from sklearn.isotonic import IsotonicRegression as Reference
from sklearn.linear_model import LogisticRegression

from robust_jax import config, data, models, train
from robust_jax.core.mesh import data_mesh
from robust_jax.posteriors import IsotonicRegression, TemperatureScaling, VectorScaling
from robust_jax.predictors import ensemble
from robust_jax.types import Batch, Output

METHODS = (TemperatureScaling(), VectorScaling(), IsotonicRegression())
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Logits are the pixels, times a number."""

    def apply(self, variables, images, *, train):
        assert not train
        logits = variables["params"] * images.reshape(images.shape[0], -1)
        return Output(logits, logits)


def examples(size=400, classes=3, *, seed=0, overconfidence=2.5):
    """Overconfident logits, and labels of the calibrated ones."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(size, classes))
    probs = special.softmax(logits, axis=1)
    labels = np.array([generator.choice(classes, p=p) for p in probs])
    return np.float32(overconfidence * logits), labels


def batches_of(logits, labels, *, size=150):
    """Padded with what must not count."""
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        missing = size - len(labels[part])
        images = np.pad(logits[part], ((0, missing), (0, 0)), constant_values=np.nan)[:, None, :, None]
        mask = np.arange(size) < size - missing
        yield Batch(jnp.asarray(images), jnp.asarray(np.pad(labels[part], (0, missing))), jnp.asarray(mask), None)


def fitted(method, logits, labels):
    return method.fit(None, Pixels(), {"params": jnp.float32(1)}, batches_of(logits, labels))


def predict(state, logits):
    return np.asarray(state(jnp.asarray(logits)[:, None, :, None]))


def mean_nll(logits, labels):
    return -np.mean(special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels])


LOGITS, LABELS = examples()
OTHERS, _ = examples(seed=1)


def test_temperature_is_scipys_optimum():
    state = fitted(TemperatureScaling(), LOGITS, LABELS)
    found = optimize.minimize(lambda t: mean_nll(LOGITS / t[0], LABELS), [1.0], method="Nelder-Mead", tol=1e-8)
    np.testing.assert_allclose(1 / state.scale, found.x, rtol=1e-4)
    assert 2 < found.x[0] < 3
    np.testing.assert_allclose(predict(state, OTHERS), OTHERS / found.x[0], rtol=1e-4)


def test_vector_is_scipys_optimum():
    state = fitted(VectorScaling(), LOGITS, LABELS)

    def loss(numbers):
        return mean_nll(LOGITS * numbers[:3] + numbers[3:], LABELS)

    found = optimize.minimize(loss, np.full(6, 0.1), method="BFGS")
    expected = special.softmax(OTHERS * found.x[:3] + found.x[3:], axis=1)
    np.testing.assert_allclose(special.softmax(predict(state, OTHERS), axis=1), expected, atol=2e-4)
    assert state.shift.sum() == pytest.approx(0, abs=1e-4)
    assert loss(np.concatenate([state.scale, state.shift])) < mean_nll(LOGITS, LABELS) - 0.1


def test_vector_of_two_classes_is_logistic_regression():
    logits, labels = examples(classes=2)
    state = fitted(VectorScaling(), logits, labels)
    reference = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(logits, labels)
    others, _ = examples(classes=2, seed=1)
    found = special.softmax(predict(state, others), axis=1)
    np.testing.assert_allclose(found, reference.predict_proba(others), atol=1e-3)


def test_isotonic_is_scikit_learns():
    state = fitted(IsotonicRegression(floor=1e-3), LOGITS, LABELS)
    # Of float32 scikit-learn merges probabilities that are closer than 1e-6.
    known = special.softmax(LOGITS, axis=1).astype(float)
    for logits in (LOGITS, OTHERS):
        probs, expected = special.softmax(logits, axis=1), np.empty((400, 3))
        for c in range(3):
            reference = Reference(y_min=1e-3, y_max=1, out_of_bounds="clip").fit(known[:, c], c == LABELS)
            expected[:, c] = reference.predict(probs[:, c])
        found = np.exp(predict(state, logits))
        # Where it jumps, a probability that differs in its last bit may fall to either side.
        wrong = np.abs(found - expected / expected.sum(axis=1, keepdims=True)).max(axis=1) > 1e-4
        assert wrong.mean() < 0.02
    lowest = fitted(IsotonicRegression(), LOGITS, LABELS).values.min()
    assert lowest == pytest.approx(1 / 402)


@every_method
def test_it_helps_on_other_examples_and_passes_where_networks_do(method):
    state = fitted(method, LOGITS, LABELS)
    others, labels = examples(2000, seed=2)
    assert mean_nll(predict(state, others), labels) < mean_nll(others, labels) - 0.1
    images = jnp.asarray(others[:6])[:, None, :, None]
    logits = state(images)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(state, images), logits, atol=1e-5)
    gradient = jax.grad(lambda x: state(x)[:, 0].sum())(images)
    assert jnp.isfinite(gradient).all()
    second = fitted(method, *examples(seed=3))
    together = ensemble([state, second])
    expected = np.stack([logits, second(images)])
    np.testing.assert_allclose(jax.vmap(lambda f: f(images))(together.stacked), expected, atol=1e-5)


@every_method
def test_any_classifier_is_recalibrated(method):
    members = [
        jax.tree_util.Partial(Pixels().apply, {"params": jnp.float32(scale)}, train=False) for scale in (0.5, 1.5)
    ]
    parts = [jax.tree_util.Partial(lambda f, x: f(x).prediction, member) for member in members]
    state = method.recalibrate(lambda x: (parts[0](x) + parts[1](x)) / 2, batches_of(LOGITS, LABELS))
    np.testing.assert_allclose(predict(state, OTHERS), predict(fitted(method, LOGITS, LABELS), OTHERS), atol=2e-3)


@pytest.mark.long
def test_an_experiment_fits_it_to_what_is_held_out():
    assert {train.predictive.fit_splits(method) for method in METHODS} == {("validation",)}
    method = TemperatureScaling()
    experiment = train.Experiment(
        data=data.Digits(validation=300),
        model=models.ResNet(stage_sizes=(1,), width=4),
        optimiser=train.Sgd(learning_rate=0.1),
        epochs=1,
        batch_size=256,
        posterior=method,
    )
    found = train.fit_predictor(experiment)
    (member,) = found.members
    held_out = data.evaluation(experiment.data.load("validation"), batch_size=500, mesh=data_mesh())
    state = method.fit(None, member.model, member.variables, held_out.batches())
    images = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1))
    np.testing.assert_allclose(found.predictor(images), state(images), rtol=1e-5)
    assert config.from_json(config.to_json(experiment)) == experiment
    with pytest.raises(ValueError, match="in the validation split"):
        train.fit_predictor(dataclasses.replace(experiment, data=data.Digits()))


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        *((method, lambda z, y: (z[:0], y[:0]), "got none") for method in METHODS),
        *((method, lambda z, y: (np.where(z > 0, np.inf, z), y), "finite logits") for method in METHODS),
        *((method, lambda z, y: (z, z.argmax(axis=1)), "predictions are right") for method in METHODS[:2]),
        (VectorScaling(), lambda z, y: (z[:5], y[:5]), "6 held-out examples or more for 3 classes, got 5"),
        *((method, lambda z, y: (z, np.minimum(y, 1)), "every class, got none of 2") for method in METHODS[1:]),
        *((method, lambda z, y: (z, np.float32(y)), "classes as labels") for method in METHODS),
    ],
)
def test_bad_input(method, change, message):
    with pytest.raises(ValueError, match=message):
        fitted(method, *change(LOGITS, LABELS))


def test_bad_floor():
    with pytest.raises(ValueError, match="floor > 0"):
        IsotonicRegression(floor=0)
