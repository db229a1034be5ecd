"""What every objective must do: one line of the table for each."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_values import START
from tables import long_if

from robust_jax import attacks, config, data, models, objectives, train
from robust_jax.objectives import mean_loss
from robust_jax.types import Batch, Objective, Output

KEY = jax.random.key(0)
SIZE = 8
IMAGES = 0.2 + 0.6 * jax.random.uniform(jax.random.key(1), (SIZE, 2, 3, 1))
CLASSES = jnp.arange(SIZE) % 3
PGD = attacks.PGD(eps=0.05, steps=2, relative_step=0.5)
NEAR = dataclasses.replace(PGD, start=attacks.Gaussian(0.001), keep="last")


@dataclasses.dataclass(frozen=True)
class Flip:
    """An augmentation without parameters."""

    def __call__(self, key, image):
        return jnp.where(jax.random.bernoulli(key), image[::-1], image)


@dataclasses.dataclass(frozen=True)
class Case:
    """An objective, its neutral setting, which is cross-entropy, and what it reads."""

    objective: Objective
    neutral: Objective | None = None
    outputs: int = 3
    labels: jax.Array | None = None
    extras: bool = False
    kind: str = "linear"


TARGETS = jnp.linspace(-1, 1, SIZE)[:, None]
CASES = {
    "cross_entropy": Case(objectives.CrossEntropy(label_smoothing=0.1), objectives.CrossEntropy()),
    "adversarial": Case(objectives.Adversarial(PGD), objectives.Adversarial(PGD, weight=0.0)),
    "mart": Case(objectives.Mart(NEAR)),
    "trades": Case(objectives.Trades(NEAR), objectives.Trades(NEAR, beta=0.0)),
    "vat": Case(objectives.Vat(eps=0.1), objectives.Vat(eps=0.1, weight=0.0), extras=True),
    "jensen_shannon": Case(objectives.JensenShannon(Flip()), objectives.JensenShannon(Flip(), weight=0.0)),
    "dign": Case(objectives.Dign(), objectives.Dign(weight=0.0)),
    "noisy_mix": Case(objectives.NoisyMix()),
    "pure_noise": Case(objectives.PureNoise(counts=(9, 3, 1)), objectives.PureNoise(counts=(5, 5, 5))),
    "repeated": Case(objectives.Repeated(2), objectives.Repeated(1)),
    "invariance": Case(objectives.Invariance(), objectives.Invariance(weight=0.0), kind="invariant"),
    "denoising": Case(objectives.Denoising(), kind="image"),
    "denoising pairs": Case(objectives.Denoising(sigma=None), labels=IMAGES**2, kind="image"),
    "gaussian_nll": Case(objectives.GaussianNll(), outputs=2, labels=TARGETS),
    "adversarial_gaussian_nll": Case(objectives.AdversarialGaussianNll(), outputs=2, labels=TARGETS),
}
every_objective = pytest.mark.parametrize("name", long_if(["noisy_mix"], CASES))


def forward_of(kind):
    """A linear network; with the invariance that AugNet tells; or one that returns images."""

    def forward(params, images, *, key=None, train=True, interceptors=(), state=None):
        flat = images.reshape(len(images), -1)
        if kind == "image":
            return Output(images * jnp.tanh(params.mean()), flat), {}
        extras = {"invariance": jnp.ones(len(images)) * jnp.tanh(params.mean())} if kind == "invariant" else {}
        return Output(flat @ params, flat, extras), {}

    return forward


def problem(case, scale=1.0):
    params = scale * jax.random.normal(jax.random.key(2), (6, case.outputs))
    labels = CLASSES if case.labels is None else case.labels
    batch = Batch(IMAGES, labels, jnp.arange(SIZE) < 6, jnp.arange(SIZE))
    if case.extras:
        other = Batch(IMAGES[:5] * 0.9, jnp.zeros(5, jnp.int32), jnp.ones(5, bool), jnp.arange(5))
        batch = batch._replace(extras={"unlabelled": other})
    return params, batch


def evaluated(case, objective=None):
    """``(key, params, batch) -> value, loss, gradient``, not compiled."""
    objective = case.objective if objective is None else objective

    def run(key, params, batch):
        _, state = objective.init(key, params, batch)

        def scalar(params):
            loss = objective(key, forward_of(case.kind), params, batch, state, START)
            return mean_loss(loss, batch.mask), loss

        (value, loss), gradient = jax.value_and_grad(scalar, has_aux=True)(params)
        return value, loss, gradient

    return run


def test_every_objective_is_in_the_table():
    exported = {getattr(objectives, name) for name in objectives.__all__}
    kinds = {kind for kind in exported if isinstance(kind, type) and Objective in kind.__mro__[1:]}
    assert kinds - {objectives.InnerMaximisation} == {type(case.objective) for case in CASES.values()}


@every_objective
def test_laws(name):
    """Compiled once for all weights, deterministic in the key, a finite loss per example, no part for padding."""
    case = CASES[name]
    traced = []

    @jax.jit
    def run(key, params, batch):
        traced.append(1)
        return evaluated(case)(key, params, batch)

    params, batch = problem(case)
    value, loss, gradient = run(KEY, params, batch)
    assert loss.per_example.shape == (SIZE,)
    assert loss.penalty.shape == ()
    assert all(jnp.ndim(metric) == 0 for metric in loss.metrics.values())
    np.testing.assert_array_equal(run(KEY, params, batch)[0], value)
    # Saturated: probabilities are 0 and 1 to all digits.
    for scale in (1.0, 1e3):
        found = run(KEY, problem(case, scale)[0], batch)
        assert jnp.isfinite(found[0]), scale
        assert jnp.isfinite(found[2]).all(), scale
    padded = batch._replace(image=jnp.where(batch.mask[:, None, None, None], batch.image, 0.123))
    np.testing.assert_allclose(run(KEY, params, padded)[0], value, rtol=1e-4)
    assert len(traced) == 1
    eager = evaluated(case)(KEY, params, batch)
    np.testing.assert_allclose(eager[0], value, rtol=1e-4)
    np.testing.assert_allclose(eager[2], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.neutral is not None])
def test_neutral_settings_are_cross_entropy(name):
    case = CASES[name]
    params, batch = problem(case)
    plain = evaluated(case, objectives.CrossEntropy())(KEY, params, batch)
    neutral = jax.jit(evaluated(case, case.neutral))(KEY, params, batch)
    np.testing.assert_allclose(neutral[0], plain[0], rtol=1e-5)
    np.testing.assert_allclose(neutral[2], plain[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name != "jensen_shannon"])
def test_survives_saving(name):
    objective = CASES[name].objective
    extra = {stream: train.Stream(data.Digits()) for stream in objective.streams}
    experiment = train.Experiment(data=data.Digits(), model=models.Mlp(), objective=objective, extra=extra)
    assert config.from_json(config.to_json(experiment)) == experiment
