"""Networks against published parameter counts, NumPy and hand-unrolled solvers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from products import product_precisions
from tables import long_if, long_unless

from robust_jax import config, models
from robust_jax.models.layers import FilterResponseNorm
from robust_jax.models.ode_net import Dynamics

KEY = jax.random.key(0)
TINY = {
    "resnet": models.ResNet(stage_sizes=(1, 1), width=8),
    "wide_resnet": models.WideResNet(depth=10, width=1, dropout=0.3),
    "vit": models.ViT(width=16, depth=2, heads=2, dropout=0.1, stochastic_depth=0.5),
    "mlp_mixer": models.MlpMixer(width=16, depth=2, token_width=8, channel_width=32),
    "ode_net": models.ODENet(width=8, downsamplings=1, num_steps=2),
    "mlp": models.Mlp(widths=(8, 6)),
    "unet": models.UNet(10, widths=(6, 8), dropout=0.1),
    "pixel_logistic": models.PixelLogistic(10, window=3),
    "frn": models.WideResNet(depth=10, width=1, norm="frn"),
}
IMAGENET = {"num_classes": 1000}


@functools.cache
def variables_of(name):
    params, state = models.init(TINY[name], KEY, (8, 8, 3))
    return params, state


def images(count: int = 4, side: int = 8) -> jax.Array:
    return jax.random.uniform(jax.random.key(1), (count, side, side, 3))


@pytest.mark.parametrize(
    ("model", "side", "count"),
    [
        (models.resnet18(), 32, 11_173_962),
        (models.resnet50(stem="imagenet", **IMAGENET), 224, 25_557_032),
        (models.cifar_resnet(20), 32, 269_722),
        (models.WideResNet(depth=28, width=10), 32, 36_479_194),
        (models.ViT(size="B", patch_size=16, **IMAGENET), 224, 86_567_656),
        (models.MlpMixer(size="B", patch_size=16, **IMAGENET), 224, 59_880_472),
    ],
)
def test_published_parameter_counts(model, side, count):
    params, _ = jax.eval_shape(lambda key: models.init(model, key, (side, side, 3)), KEY)
    assert models.num_parameters(params) == count


@pytest.mark.parametrize("name", long_unless(["mlp", "wide_resnet"], TINY))
def test_products_have_full_precision_on_every_device(name):
    """Forward and backward, in training and not, unless JAX is told otherwise."""
    params, state = variables_of(name)
    forward = models.forward_fn(TINY[name], state)

    def loss(params, images, key):
        trained = forward(params, images, key=key)[0].prediction
        return jnp.sum(trained) + jnp.sum(models.predictor(TINY[name], {"params": params, **state})(images))

    run = jax.grad(loss, (0, 1))
    assert product_precisions(run, params, images(), KEY) == {"HIGHEST"}
    with jax.default_matmul_precision("tensorfloat32"):
        assert "HIGH" in product_precisions(run, params, images(), KEY)


@pytest.mark.parametrize("name", TINY)
def test_component_is_a_value_and_its_json_comes_back(name):
    model = TINY[name]
    assert config.from_json(config.to_json(model)) == model
    assert hash(model.clone()) == hash(model)
    assert type(model).__name__ in repr(model)


@pytest.mark.parametrize("name", long_if(["ode_net", "vit"], TINY))
def test_bfloat16_trains_with_float32_parameters_and_logits(name):
    model = TINY[name].clone(dtype="bfloat16")
    params, state = variables_of(name)
    x = images()

    @jax.jit
    def gradient(params):
        def loss(params):
            output, new_state = models.forward_fn(model, state)(params, x, key=KEY)
            return (output.prediction**2).sum(), (output, new_state)

        return jax.grad(loss, has_aux=True)(params)

    grads, (output, new_state) = gradient(params)
    pixelwise = isinstance(TINY[name], models.UNet | models.PixelLogistic)
    assert output.prediction.shape == ((4, 8, 8, 10) if pixelwise else (4, 10))
    assert output.features.shape[0] == 4
    assert {leaf.dtype for leaf in jax.tree.leaves((params, grads, output, new_state))} == {jnp.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(grads)))
    assert jax.tree.structure(new_state) == jax.tree.structure(state)


@pytest.mark.parametrize("name", long_if(["ode_net", "vit"], TINY))
def test_prediction_does_not_depend_on_the_batch(name):
    model = TINY[name]
    params, state = variables_of(name)
    run = jax.jit(lambda f, x: f(x))
    predictor = models.predictor(model, {"params": params, **state})
    whole, alone = run(predictor, images()), run(predictor, images()[2:3])
    assert jnp.ptp(whole) > 0
    np.testing.assert_allclose(whole[2:3], alone, atol=1e-5)


@pytest.mark.parametrize("name", ["wide_resnet", "vit"])
def test_training_is_random_by_key_only(name):
    model = TINY[name]
    params, state = variables_of(name)
    forward = models.forward_fn(model, state)
    run = jax.jit(lambda key: forward(params, images(), key=key)[0].prediction)
    np.testing.assert_array_equal(run(KEY), run(KEY))
    assert not np.allclose(run(KEY), run(jax.random.key(5)))
    with pytest.raises(ValueError, match="expected a key"):
        forward(params, images())


def test_predictor_does_not_retrace_for_new_weights_and_vmaps_to_an_ensemble():
    model, traces = TINY["resnet"], []
    params, state = variables_of("resnet")
    members = [(params, state), (jax.tree.map(lambda leaf: 0.5 * leaf, params), state)]
    predictors = [models.predictor(model, {"params": p, **s}) for p, s in members]

    @jax.jit
    def run(f, x):
        traces.append(None)
        return f(x)

    logits = jnp.stack([run(f, images()) for f in predictors])
    run(models.predictor(model.clone(), predictors[0].variables), images())
    assert len(traces) == 1
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *predictors)
    np.testing.assert_allclose(jax.vmap(lambda f: f(images()))(stacked), logits, atol=1e-5)
    np.testing.assert_allclose(predictors[0].output(images()).prediction, logits[0], atol=1e-5)


def test_running_statistics_match_numpy_and_rest_in_evaluation():
    model = models.ResNet(stage_sizes=(1,), width=8, mean=(0.0,), std=(1.0,))
    params, state = models.init(model, KEY, (8, 8, 3))
    forward = jax.jit(models.forward_fn(model, state), static_argnames="train")
    _, new_state = forward(params, images(), train=True)
    stem = jax.lax.conv_general_dilated(
        images(), params["stem_conv"]["kernel"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    running = new_state["batch_stats"]["stem_norm"]
    np.testing.assert_allclose(running["mean"], 0.1 * np.mean(stem, (0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * np.var(stem, (0, 1, 2)), atol=1e-5)
    _, kept = forward(params, images(), train=False)
    jax.tree.map(np.testing.assert_array_equal, kept, state)


@pytest.mark.long
def test_euler_equals_the_loop_written_out():
    model = models.ODENet(width=8, downsamplings=0, solver="euler", num_steps=3)
    params, _ = models.init(model, KEY, (8, 8, 3))
    x = (images() - 0.5) / 0.25
    state = jax.lax.conv_general_dilated(
        x, params["stem_conv"]["kernel"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    for step in range(3):
        state = state + Dynamics(8, "float32").apply({"params": params["dynamics"]}, step / 3, state) / 3
    mean = _group_mean(state)
    var = _group_mean((state - mean) ** 2)
    active = jax.nn.relu((state - mean) / jnp.sqrt(var + 1e-5))
    output = jax.jit(functools.partial(model.apply, {"params": params}))(images())
    np.testing.assert_allclose(output.features, active.mean((1, 2)), atol=1e-4)
    np.testing.assert_array_equal(output.extras["num_function_evaluations"], [3.0] * 4)


@pytest.mark.long
def test_adaptive_steps_approach_fine_fixed_ones():
    fine = models.ODENet(width=8, solver="heun", num_steps=64)
    params, _ = models.init(fine, KEY, (8, 8, 3))
    expected = fine.apply({"params": params}, images()).prediction
    adaptive = fine.clone(adaptive=True, solver="tsit5", rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(adaptive.apply({"params": params}, images()).prediction, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: models.ResNet(stem="cifer"), "Did you mean 'cifar'"),
        (lambda: models.ResNet(stage_sizes=()), "stage_sizes"),
        (lambda: models.WideResNet(depth=27), "6n \\+ 4"),
        (lambda: models.cifar_resnet(21), "6n \\+ 2"),
        (lambda: models.init(models.resnet18(), KEY, (4, 4, 3)), "8×8"),
        (lambda: models.init(models.ResNet(mean=(0.1, 0.2), std=(1.0, 1.0)), KEY, (32, 32, 3)), "one per channel"),
        (lambda: models.ViT().init(KEY, jnp.zeros((8, 8, 3))), r"\[b, h, w, c\]"),
    ],
)
def test_errors_say_what_was_expected(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def _group_mean(x):
    """Mean over space and the one channel of each of 8 groups."""
    return x.mean((1, 2), keepdims=True)


def test_filter_response_norm_matches_numpy_and_starts_as_the_relu():
    x = np.asarray(jax.random.normal(KEY, (2, 3, 5, 4))) + 0.5
    scale, bias, threshold = (np.float32(np.linspace(low, 1, 4)) for low in (0.5, -1, -0.5))
    params = {"scale": scale, "bias": bias, "threshold": threshold}
    expected = x / np.sqrt((x**2).mean(axis=(1, 2), keepdims=True) + 1e-6) * scale[None, None, None]
    expected = expected + bias[None, None, None]
    with_threshold, without = (FilterResponseNorm(threshold=each, dtype="float32") for each in (True, False))
    np.testing.assert_allclose(without.apply({"params": {"scale": scale, "bias": bias}}, x), expected, atol=1e-5)
    found = with_threshold.apply({"params": params}, x)
    np.testing.assert_allclose(found, np.maximum(expected, threshold[None, None, None]), atol=1e-5)
    start = with_threshold.init(KEY, x)
    unlearned = without.apply({"params": {name: start["params"][name] for name in ("scale", "bias")}}, x)
    np.testing.assert_array_equal(with_threshold.apply(start, x), np.maximum(unlearned, 0))


@pytest.mark.parametrize("fields", [{}, {"variant": "preact", "zero_init_residual": True}], ids=["v1", "preact"])
def test_filter_response_norm_has_a_threshold_where_a_relu_would_follow(fields):
    model = models.ResNet(stage_sizes=(1, 1), width=4, norm="frn", **fields)
    params, state = jax.eval_shape(lambda key: models.init(model, key, (8, 8, 3)), KEY)
    assert state == {}
    norms = {f"{outer}/{name}": leaf for outer, inner in params.items() for name, leaf in {"": inner, **inner}.items()}
    norms = {name: leaf for name, leaf in norms.items() if isinstance(leaf, dict) and "scale" in leaf}
    without = {name for name, leaf in norms.items() if "threshold" not in leaf}
    # The last of a branch and of a projection are added to each other first.
    added = {"stage1_block1/norm2", "stage2_block1/norm2", "stage2_block1/shortcut_norm"}
    assert without == (set() if fields else added)
    assert len(norms) == (5 if fields else 6)
