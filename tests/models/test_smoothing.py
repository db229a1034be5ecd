"""Spatial smoothing: the layer against loops, and where networks have it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import long_unless

from robust_jax import config, models

KEY = jax.random.key(0)
MAPS = 20 * jax.random.normal(KEY, (2, 5, 4, 3))
NETWORKS = {
    "v1": models.ResNet(stage_sizes=(1, 1), width=4),
    "preact": models.ResNet(stage_sizes=(1, 1), width=4, variant="preact"),
    "wide": models.WideResNet(depth=10, width=1),
}


def by_hand(maps, temperature):
    bounded = np.maximum(temperature * np.tanh(np.float64(maps) / temperature), 0)
    found = np.zeros_like(bounded)
    for i in range(bounded.shape[1]):
        for j in range(bounded.shape[2]):
            for above in (0, 1):
                for left in (0, 1):
                    if i >= above and j >= left:
                        found[:, i, j] += bounded[:, i - above, j - left] / 4
    return found


@pytest.mark.parametrize("temperature", [10.0, 2.5])
def test_smooth_equals_loops_and_keeps_the_shape(temperature):
    expected = by_hand(MAPS, temperature)
    assert expected.max() < temperature
    run = lambda x: models.smooth(x, temperature=temperature)  # noqa: E731
    np.testing.assert_allclose(run(MAPS), expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(run)(MAPS), expected, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(run)(MAPS[:, None])[:, 0], expected, atol=1e-5)
    gradient = jax.grad(lambda x: run(x).sum())(MAPS)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("name", long_unless(["preact"], NETWORKS))
def test_smoothed_networks_have_the_same_variables_and_other_predictions(name):
    plain = NETWORKS[name]
    smoothed = plain.clone(smoothing=10.0)
    params, state = models.init(plain, KEY, (8, 8, 3))
    variables = {"params": params, **state}
    own_params, own_state = models.init(smoothed, KEY, (8, 8, 3))
    jax.tree.map(np.testing.assert_array_equal, variables, {"params": own_params, **own_state})
    images = jax.random.uniform(KEY, (2, 8, 8, 3))
    logits = [models.predictor(model, variables)(images) for model in (plain, smoothed)]
    assert jnp.abs(logits[0] - logits[1]).max() > 1e-3
    assert config.from_json(config.to_json(smoothed)) == smoothed


def test_resnet_smooths_after_each_stage():
    """Against the stages run one by one, on parameters of the whole."""
    plain = NETWORKS["v1"]
    params, state = models.init(plain, KEY, (8, 8, 3))
    variables = {"params": params, **state}
    images = jax.random.uniform(KEY, (2, 8, 8, 3))

    def smoothed(*stages):
        def smooth(layer, *args, **kwargs):
            maps = layer.call(*args, **kwargs)
            return models.smooth(maps) if layer.path in [(stage,) for stage in stages] else maps

        return smooth

    with models.intercepted([smoothed("stage1_block1", "stage2_block1")]):
        expected = plain.apply(variables, images, train=False).prediction
    found = models.predictor(plain.clone(smoothing=10.0), variables)(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The wide network's last maps are smoothed by nothing but the pooling.
    wide = NETWORKS["wide"]
    params, state = models.init(wide, KEY, (8, 8, 3))
    with models.intercepted([smoothed(*WIDE_STAGES)]):
        expected = wide.apply({"params": params, **state}, images, train=False).prediction
    found = models.predictor(wide.clone(smoothing=10.0), {"params": params, **state})(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


WIDE_STAGES = ("stage1_block1", "stage2_block1")


def test_bad_input():
    for make in (models.ResNet, models.WideResNet):
        with pytest.raises(ValueError, match="smoothing > 0"):
            make(smoothing=0.0)
