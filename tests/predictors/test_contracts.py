"""What every predictor has in common: through jit as an argument, no retrace, vmap over stacked arrays, members."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from robust_jax import models, predictors
from robust_jax.posteriors.isotonic import Isotonic
from robust_jax.posteriors.laplace_posterior import LaplacePredictive
from robust_jax.posteriors.monte_carlo_dropout import MonteCarloDropoutPosterior
from robust_jax.predictors import as_predictor
from robust_jax.types import Output

KEY = jax.random.key(0)
IMAGES = jax.random.uniform(jax.random.key(1), (5, 4, 4, 1))


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear model with the interface of a network; with a key, inputs are dropped."""

    def apply(self, variables, images, *, train, rngs=None):
        inputs = images.reshape(len(images), -1)
        if rngs is not None:
            inputs = inputs * jax.random.bernoulli(rngs["dropout"], 0.5, inputs.shape[1:])[None]
        return Output(inputs @ variables["params"], inputs)


@dataclasses.dataclass(frozen=True)
class TwoHeads:
    """A network that computes two members at once."""

    def apply(self, variables, images, *, train):
        logits = jnp.einsum("bi,mik->mbk", images.reshape(len(images), -1), variables["params"])
        mean = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(2)
        return Output(mean, mean, {"member_logits": logits})


def kernel(seed):
    return jax.random.normal(jax.random.key(seed), (16, 3))


def network(seed):
    return predictors.Network(Linear(), {"params": kernel(seed)})


def brighten(key, image):
    return image + jax.random.uniform(key)


def halve(images):
    return images / 2


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def noisy(weights, keys, images):
    return linear(weights, images + jax.vmap(jax.random.uniform)(keys)[:, None, None, None])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Normal:
    """In place of a Laplace posterior: normal logits of each image."""

    weights: jax.Array

    def distribution(self, images):
        mean = images.reshape(len(images), -1) @ self.weights
        return mean, jnp.broadcast_to(jnp.eye(3), (len(images), 3, 3))


def double_head(seed):
    return predictors.MemberNetwork(TwoHeads(), {"params": jnp.stack([kernel(seed), kernel(seed + 1)])})


PREDICTORS = {
    "network": network,
    "member network": double_head,
    "ensemble": lambda seed: predictors.ensemble([network(seed), network(seed + 1)]),
    "ensemble by vmap": lambda seed: predictors.ensemble([network(seed), network(seed + 1)], member_map="vmap"),
    "ensemble of logits": lambda seed: predictors.ensemble([network(seed), network(seed + 1)], of="logits"),
    "ensemble of log-probabilities": lambda seed: predictors.ensemble([network(seed), network(9)], of="log_probs"),
    "mixture": lambda seed: predictors.ensemble([network(seed), double_head(seed)]),
    "mixture of logits": lambda seed: predictors.ensemble([network(seed), double_head(seed)], of="logits"),
    "scaled": lambda seed: predictors.Scaled(network(seed), jnp.full(1, 0.5 + seed), jnp.zeros(1)),
    "bpda": lambda seed: predictors.Bpda(network(seed), jnp.round, halve),
    "randomised": lambda seed: predictors.Randomised(
        jax.tree_util.Partial(noisy, kernel(seed))
    ).bind(jax.random.key(seed)),
    "through": lambda seed: predictors.through(network(seed), brighten).bind(jax.random.key(seed)),
    "vote": lambda seed: predictors.Vote(predictors.through(network(seed), brighten), jax.random.key(seed), 4),
    "partial": lambda seed: jax.tree_util.Partial(linear, kernel(seed)),
    "isotonic": lambda seed: Isotonic(
        network(seed), jnp.tile(jnp.linspace(0, 1, 4), (3, 1)), jnp.tile(jnp.linspace(0.1, 0.9, 4), (3, 1))
    ),
    "laplace predictive": lambda seed: LaplacePredictive(Normal(kernel(seed)), jax.random.key(seed), "monte_carlo", 4),
    "dropout": lambda seed: MonteCarloDropoutPosterior({"params": kernel(seed)}, Linear(), 3).bind(
        jax.random.key(seed)
    ),
}  # fmt: skip
every_predictor = pytest.mark.parametrize("make", PREDICTORS.values(), ids=PREDICTORS)


@every_predictor
def test_is_an_argument_of_jit_and_new_weights_do_not_retrace(make):
    traces = []

    @jax.jit
    def run(predictor, images):
        traces.append(1)
        assert as_predictor(predictor) is predictor
        return predictor(images)

    alone = [run(make(seed), IMAGES) for seed in (0, 2)]
    assert len(traces) == 1
    for logits, seed in zip(alone, (0, 2), strict=True):
        np.testing.assert_allclose(logits, make(seed)(IMAGES), rtol=1e-5, atol=1e-5)
    assert not np.allclose(*alone)


@every_predictor
def test_stacked_arrays_are_an_ensemble_under_vmap(make):
    several = [make(seed) for seed in (0, 2, 4)]
    stacked = predictors.stack([jax.tree.map(jnp.asarray, one) for one in several])
    found = jax.vmap(lambda predictor: predictor(IMAGES))(stacked)
    np.testing.assert_allclose(found, [one(IMAGES) for one in several], rtol=1e-5, atol=1e-5)


@every_predictor
def test_logits_depend_on_their_image_alone(make):
    predictor = make(0)
    whole = predictor(IMAGES)
    np.testing.assert_allclose(predictor(IMAGES[3:4]), whole[3:4], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(predictor(IMAGES[::-1]), whole[::-1], rtol=1e-5, atol=1e-5)


@every_predictor
def test_members_average_to_the_prediction(make):
    predictor = make(0)
    if not isinstance(predictor, predictors.HasMembers):
        assert type(predictor).__name__ not in ("Ensemble", "Mixture", "MemberNetwork", "MonteCarloDropoutPosterior")
        return
    logits = np.asarray(predictor.members(IMAGES), np.float64)
    of = predictor.of if isinstance(predictor, predictors.Ensemble | predictors.Mixture) else "probs"
    mean = {
        "probs": np.log(special.softmax(logits, axis=-1).mean(axis=0)),
        "logits": logits.mean(axis=0),
        "log_probs": special.log_softmax(logits, axis=-1).mean(axis=0),
    }[of]
    np.testing.assert_allclose(predictor(IMAGES), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predictor.combine(predictor.members(IMAGES)), mean, rtol=1e-4, atol=1e-5)


def test_capabilities_are_declared():
    assert isinstance(network(0), predictors.HasFeatures)
    assert not isinstance(network(0), predictors.HasMembers)
    np.testing.assert_allclose(network(0).output(IMAGES).features, IMAGES.reshape(5, -1))
    assert isinstance(predictors.Randomised(noisy), predictors.Draws)
    assert not isinstance(predictors.Scaled(network(0), jnp.ones(1), jnp.zeros(1)), predictors.Draws)
    film = models.FilmEnsemble(models.ResNet(stage_sizes=(1,), width=4), num_members=2)
    assert isinstance(models.predictor(film, {}), predictors.HasMembers)
    assert not isinstance(models.predictor(film.network, {}), predictors.HasMembers)


def test_functions_are_compared_by_value_or_by_identity():
    """Equal hashable callables share one program; unhashable ones share it only with themselves."""
    traces = []

    @jax.jit
    def run(predictor, images):
        traces.append(1)
        return predictor(images)

    for _ in range(2):
        run(as_predictor(halve), IMAGES)
    assert len(traces) == 1
    unhashable = Unhashable(2.0)
    for _ in range(2):
        np.testing.assert_allclose(run(as_predictor(unhashable), IMAGES), 2 * IMAGES)
    assert len(traces) == 2
    np.testing.assert_allclose(run(as_predictor(Unhashable(2.0)), IMAGES), 2 * IMAGES)
    assert len(traces) == 3


@dataclasses.dataclass
class Unhashable:
    scale: float

    def __call__(self, images):
        return self.scale * images


def test_pytrees_of_arrays_stay_and_others_are_wrapped():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Theirs:
        weights: jax.Array
        activation: object

        def __call__(self, images):
            return self.activation(images.reshape(len(images), -1) @ self.weights)

    with_function = Theirs(kernel(0), jax.nn.relu)
    wrapped = as_predictor(with_function)
    assert isinstance(wrapped, predictors.Function)
    expected = jax.nn.relu(IMAGES.reshape(5, -1) @ kernel(0))
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(wrapped, IMAGES), expected, rtol=1e-5, atol=1e-5)
    of_arrays = predictors.Scaled(network(0), jnp.ones(1), jnp.zeros(1))
    assert as_predictor(of_arrays) is of_arrays


def test_fields_are_wrapped_at_construction():
    plain = lambda images: images.sum((1, 2)) * jnp.arange(3.0)[None]  # noqa: E731
    run = jax.jit(lambda f, x: f(x))
    for predictor in (
        predictors.Scaled(plain, jnp.ones(1), jnp.zeros(1)),
        predictors.Bpda(plain, jnp.round),
        predictors.through(plain, brighten).bind(KEY),
        predictors.Randomised(lambda keys, images: plain(images)).bind(KEY),
    ):
        assert run(predictor, IMAGES).shape == (5, 3)


def test_one_draw_is_shared_by_all_images():
    bound = predictors.through(network(0), brighten).bind(KEY)
    expected = network(0)(IMAGES + jax.random.uniform(KEY))
    np.testing.assert_allclose(bound(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_bad_input():
    with pytest.raises(TypeError, match="a callable from images to logits, got str"):
        as_predictor("resnet")
    with pytest.raises(ValueError, match="num_draws > 0"):
        predictors.Vote(predictors.through(network(0), brighten), KEY, 0)
    with pytest.raises(ValueError, match="Expected a Randomised predictor, got Network"):
        predictors.Vote(network(0), KEY)
    with pytest.raises(ValueError, match="keys=None"):
        predictors.through(network(0), brighten)(IMAGES)
    with pytest.raises(ValueError, match="key=None"):
        MonteCarloDropoutPosterior({"params": kernel(0)}, Linear(), 3)(IMAGES)
    for kind in (partial(predictors.Ensemble, network(0)), partial(predictors.Mixture, (network(0),))):
        with pytest.raises(ValueError, match="Did you mean 'log_probs'"):
            kind(of="log_prob")
