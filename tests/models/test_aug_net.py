"""Learned augmentations: what operations do, what is averaged, and where the gradient points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_values import evaluate

from robust_jax import config, data, models, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.models.aug_net import OPERATIONS
from robust_jax.objectives import CrossEntropy, Invariance
from robust_jax.types import Batch

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
NETWORK = models.ResNet(stage_sizes=(1,), width=4, norm="group")
IMAGES = jax.random.uniform(jax.random.key(1), (5, 12, 12, 3))
SMOOTH = jnp.asarray(
    np.stack(np.meshgrid(*[np.linspace(0.2, 0.7, 12)] * 2, [0.1, 0.0, 0.05]), -1).sum(-1) / 1.5, jnp.float32
)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_the_identity_at_0_and_differentiable(name):
    operation = OPERATIONS[name]
    np.testing.assert_allclose(operation(IMAGES[0], jnp.float32(0)), IMAGES[0], atol=1e-5)
    changed = operation(IMAGES[0], jnp.float32(0.4))
    assert not np.allclose(changed, IMAGES[0], atol=1e-2)
    assert changed.min() >= 0
    assert changed.max() <= 1
    # A change of a smooth image, by the gradient and by a difference.
    weights = jax.random.normal(KEY, SMOOTH.shape)
    value = lambda s: jnp.sum(weights * operation(SMOOTH, s))  # noqa: E731
    slope = jax.grad(value)(jnp.float32(0.1))
    np.testing.assert_allclose(slope, (value(0.105) - value(0.095)) / 0.01, rtol=0.15, atol=0.1)


def variables_with(model, **changes):
    params, state = models.init(model, KEY, (12, 12, 3))
    params = {**params, **{name: jnp.full_like(params[name], value) for name, value in changes.items()}}
    return params, state


def predict(model, variables, images):
    return jax.jit(lambda predictor, images: predictor(images))(models.predictor(model, variables), images)


def test_without_ranges_it_is_the_network():
    model = models.AugNet(NETWORK, num_layers=2)
    params, state = variables_with(model, ranges=0.0)
    logits = predict(model, {"params": params, **state}, IMAGES)
    expected = jax.nn.log_softmax(predict(NETWORK, {"params": params["network"]}, IMAGES))
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    trained, _ = jax.jit(models.forward_fn(model, state))(params, IMAGES, key=KEY)
    np.testing.assert_allclose(jax.nn.log_softmax(trained.prediction), expected, atol=1e-4)
    np.testing.assert_allclose(trained.extras["invariance"], 0)


def test_evaluation_averages_copies_of_single_operations():
    """With one operation of a known range the copies can be made by hand."""
    model = models.AugNet(NETWORK, operations=("translate_x",), num_copies=3)
    params, state = variables_with(model, ranges=0.5)
    logits = []
    for key in jax.random.split(jax.random.key(0), 3):
        strength = 0.5 * jax.random.uniform(jax.random.split(key)[1], (1, 1), minval=-1.0)[0, 0]
        moved = jax.vmap(lambda x, s=strength: OPERATIONS["translate_x"](x, s))(IMAGES)
        logits.append(jax.nn.log_softmax(predict(NETWORK, {"params": params["network"]}, moved)))
    found = predict(model, {"params": params, **state}, IMAGES)
    np.testing.assert_allclose(found, np.mean(logits, axis=0), atol=1e-4)
    np.testing.assert_allclose(predict(model, {"params": params, **state}, IMAGES[1:3]), found[1:3], atol=1e-5)


def test_reward_widens_and_loss_decides():
    model = models.AugNet(NETWORK, operations=("rotate", "brightness"))
    params, state = variables_with(model, ranges=0.2)
    batch = Batch(IMAGES, jnp.arange(5) % 3, jnp.ones(5, bool), jnp.arange(5))
    forward = models.forward_fn(model, state)

    def run(weight):
        loss = lambda params: evaluate(Invariance(weight), KEY, forward, params, batch)  # noqa: E731
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    (loss, aux), gradient = run(2.0)
    (plain, _), without = run(0.0)
    expected, _ = evaluate(CrossEntropy(), KEY, forward, params, batch)
    np.testing.assert_allclose(plain, expected, rtol=1e-6)
    norm = np.linalg.norm([0.1, 0.1])
    np.testing.assert_allclose(aux.metrics["invariance"], norm, rtol=1e-5)
    np.testing.assert_allclose(loss, plain - 2 * norm, rtol=1e-5)
    # d/dμ of ‖w ⊙ μ‖ with w = 1/2 each.
    np.testing.assert_allclose(without["ranges"] - gradient["ranges"], 2 * 0.5 * 0.1 / norm, rtol=1e-4)
    assert jnp.abs(without["ranges"]).max() > 0


def test_ranges_beyond_1_are_1_and_can_come_back():
    model = models.AugNet(NETWORK, operations=("rotate",))
    params, state = variables_with(model, ranges=1.7)
    forward = models.forward_fn(model, state)
    invariance = lambda p: forward(p, IMAGES, key=KEY)[0].extras["invariance"].mean()  # noqa: E731
    np.testing.assert_allclose(invariance(params), 1.0)
    np.testing.assert_allclose(jax.grad(invariance)(params)["ranges"], 1.0)


def test_gradients_are_finite_where_no_range_is_left():
    model = models.AugNet(NETWORK, operations=("rotate", "translate_x"))
    params, state = variables_with(model, ranges=0.0)
    rngs = {"dropout": KEY}

    @jax.grad
    def slope(params):
        output, _ = model.apply({"params": params, **state}, IMAGES, train=True, rngs=rngs, mutable=list(state))
        return output.extras["invariance"].mean() + output.prediction.sum()

    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slope(params)))


def test_component():
    model = models.AugNet(NETWORK)
    assert config.from_json(config.to_json(model)) == model
    params, state = models.init(model, KEY, (12, 12, 3))
    half, _ = models.init(model.clone(dtype="bfloat16"), KEY, (12, 12, 3))
    assert jax.tree.structure(half) == jax.tree.structure(params)
    with pytest.raises(ValueError, match="expected a key"):
        models.forward_fn(model, state)(params, IMAGES)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: models.AugNet(NETWORK, operations=("rotat",)), "Did you mean 'rotate'"),
        (lambda: models.AugNet(NETWORK, num_copies=0), "num_copies"),
        (lambda: models.AugNet(NETWORK, initial_range=0.0), "initial_range"),
        (lambda: Invariance(weight=-1.0), "weight"),
    ],
)
def test_bad_input(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def test_reward_needs_a_network_that_tells():
    params, state = models.init(NETWORK, KEY, (12, 12, 3))
    batch = Batch(IMAGES, jnp.arange(5) % 3, jnp.ones(5, bool), jnp.arange(5))
    with pytest.raises(ValueError, match="'invariance' among its extras"):
        evaluate(Invariance(), KEY, models.forward_fn(NETWORK, state), params, batch)


def test_what_was_learned_is_told():
    model = models.AugNet(NETWORK, operations=("rotate", "brightness"), num_layers=2)
    params, state = models.init(model, KEY, (12, 12, 3))
    params = {**params, "ranges": jnp.array([[0.1, 0.2], [1.5, 0.4]]), "weights": jnp.array([[0.0, 1.0], [0.0, 0.0]])}
    images = np.uint8(255 * np.asarray(IMAGES))
    source = data.Arrays(test=(images, np.arange(5) % 3), name="toy").load("test")
    evaluation = data.evaluation(source, batch_size=5, mesh=data_mesh(jax.devices()[:1]))
    tell = lambda predictor: list(suites.LearnedRanges().rows(suites.Context(KEY, predictor, evaluation)))  # noqa: E731
    found = {(row.case, row.metric): row.value for row in tell(models.predictor(model, {"params": params, **state}))}
    ranges = {case: value for (case, metric), value in found.items() if metric == "range"}
    np.testing.assert_allclose(
        [ranges[c] for c in ("rotate", "brightness", "rotate 2", "brightness 2")], [0.1, 0.2, 1, 0.4]
    )
    np.testing.assert_allclose(found["brightness", "weight"], np.e / (1 + np.e), rtol=1e-5)
    assert tell(models.predictor(NETWORK, {"params": params["network"]})) == []
