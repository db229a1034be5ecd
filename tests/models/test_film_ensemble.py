"""FiLM-Ensemble: each member is the network with norms of its own, and they are trained side by side."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_values import evaluate
from scipy import stats

from robust_jax import config, metrics, models
from robust_jax.mathematics.mixtures import mixture_logits
from robust_jax.objectives import CrossEntropy, Repeated, plain_loss
from robust_jax.predictors import ensemble
from robust_jax.types import Batch

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
SHAPE = (8, 8, 3)
IMAGES = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
LABELS = jnp.arange(6) % 10
NETWORKS = {
    "resnet": models.ResNet(stage_sizes=(1,), width=4),
    "wide_resnet": models.WideResNet(depth=10, width=1),
}
run = jax.jit(lambda f, *args: f(*args))
every_network = pytest.mark.parametrize("name", NETWORKS)


def variables_of(model, seed=0):
    params, state = models.init(model, jax.random.key(seed), SHAPE)
    # Statistics that differ between members and channels, and a head that says something.
    state = jax.tree.map(lambda leaf: leaf + jnp.linspace(0, 0.3, leaf.size), state)
    return {"params": params, **state}


def of_member(variables, plain, member, members):
    """The variables of one member alone."""
    params, state = jax.eval_shape(lambda key: models.init(plain, key, SHAPE), KEY)
    return jax.tree.map(
        lambda leaf, own: leaf if leaf.shape == own.shape else leaf.reshape(members, -1)[member],
        variables,
        {"params": params, **state},
    )


@every_network
def test_one_member_is_the_network(name):
    plain = NETWORKS[name]
    film = models.FilmEnsemble(plain, num_members=1)
    variables = variables_of(plain)
    found = run(models.predictor(film, variables), IMAGES)
    np.testing.assert_allclose(found, jax.nn.log_softmax(run(models.predictor(plain, variables), IMAGES)), atol=1e-5)
    state = {"batch_stats": variables["batch_stats"]}
    outputs = [jax.jit(models.forward_fn(model, state))(variables["params"], IMAGES) for model in (plain, film)]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), *outputs)
    jax.tree.map(lambda one, own: np.testing.assert_equal(one.shape, own.shape), variables_of(film), variables)


@every_network
def test_members_are_the_network_with_norms_of_their_own(name):
    plain = NETWORKS[name]
    film = models.FilmEnsemble(plain, num_members=3)
    variables = variables_of(film)
    predictor = models.predictor(film, variables)
    together = jax.jit(lambda f, x: f.members(x))(predictor, IMAGES)
    alone = [run(models.predictor(plain, of_member(variables, plain, i, 3)), IMAGES) for i in range(3)]
    np.testing.assert_allclose(together, jnp.stack(alone), atol=1e-5)
    assert jnp.abs(together[0] - together[1]).max() > 1e-3
    logits = run(predictor, IMAGES)
    np.testing.assert_allclose(logits, mixture_logits(jnp.stack(alone)), atol=1e-5)
    np.testing.assert_allclose(run(predictor, IMAGES[4:]), logits[4:], atol=1e-5)
    assert (metrics.mutual_information(together) > 0).all()


def test_training_equals_each_member_alone():
    plain = NETWORKS["wide_resnet"]
    film = models.FilmEnsemble(plain, num_members=2)
    variables = variables_of(film)
    state = {"batch_stats": variables["batch_stats"]}
    batch = Batch(IMAGES, LABELS, jnp.arange(6) < 5, jnp.arange(6))

    def loss_fn(params):
        return evaluate(Repeated(2), KEY, models.forward_fn(film, state), params, batch)

    (loss, aux), gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(variables["params"])
    losses, states = [], []
    for member in range(2):
        own = of_member(variables, plain, member, 2)
        forward = models.forward_fn(plain, {"batch_stats": own["batch_stats"]})
        one, own_aux = jax.jit(partial(evaluate, CrossEntropy()), static_argnums=1)(KEY, forward, own["params"], batch)
        losses.append(one)
        states.append(own_aux.model_state)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    expected = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *states)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), aux.model_state, expected)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["stem_conv"]))


def test_scales_and_shifts_start_uniformly_within_the_bound():
    model = models.FilmEnsemble(models.ResNet(stage_sizes=(1,), width=256), num_members=8, gain=2.0)
    norm = models.init(model, KEY, SHAPE)[0]["stem_norm"]
    bound = 2 * np.sqrt(6 / (8 + 256))
    for name in ("scale", "bias"):
        assert norm[name].shape == (8 * 256,)
        assert stats.kstest(np.asarray(norm[name]), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert not np.allclose(norm["scale"], norm["bias"])


def test_repeats_stand_in_a_row():
    seen = {}

    def objective(key, forward, params, batch, state, context):
        seen["batch"] = batch
        return plain_loss(jnp.zeros(len(batch.id)), {}, state, {})

    batch = Batch(IMAGES, jax.nn.one_hot(LABELS, 10), jnp.arange(6) < 5, jnp.arange(6))
    evaluate(Repeated(3, objective), KEY, None, None, batch)
    np.testing.assert_array_equal(seen["batch"].id, np.arange(18) // 3)
    np.testing.assert_array_equal(seen["batch"].label[3:6], np.asarray(batch.label)[[1, 1, 1]])
    assert seen["batch"].image.shape == (18, *SHAPE)
    assert config.from_json(config.to_json(Repeated(2))) == Repeated(2)


def test_passes_where_networks_and_ensembles_do():
    film = models.FilmEnsemble(NETWORKS["resnet"], num_members=2)
    first, second = variables_of(film), variables_of(film, seed=3)
    predictors = [models.predictor(film, variables) for variables in (first, second)]
    traces = []

    @jax.jit
    def traced(f, x):
        traces.append(1)
        return f(x)

    alone = [traced(predictor, IMAGES) for predictor in predictors]
    assert len(traces) == 1
    together = run(ensemble(predictors), IMAGES)
    np.testing.assert_allclose(together, mixture_logits(jnp.stack(alone)), atol=1e-5)
    half = run(models.predictor(film.clone(dtype="bfloat16"), first), IMAGES)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, alone[0], atol=0.05)
    assert config.from_json(config.to_json(film)) == film


def test_bad_input():
    with pytest.raises(ValueError, match="num_members > 0"):
        models.FilmEnsemble(NETWORKS["resnet"], num_members=0)
    with pytest.raises(ValueError, match="gain > 0"):
        models.FilmEnsemble(NETWORKS["resnet"], gain=0.0)
    with pytest.raises(ValueError, match="num_repeats > 0"):
        Repeated(0)
    with pytest.raises(ValueError, match="network with batch norms"):
        models.init(models.FilmEnsemble(models.ResNet(stage_sizes=(1,), width=4, norm="group")), KEY, SHAPE)
    film = models.FilmEnsemble(NETWORKS["resnet"], num_members=4)
    variables = variables_of(film)
    with pytest.raises(ValueError, match="divides among 4 members, got 6"):
        models.forward_fn(film, {"batch_stats": variables["batch_stats"]})(variables["params"], IMAGES)
