"""Histogram equalisation before a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import config, models
from robust_jax.images.histogram import clahe

NETWORK = models.ResNet(stage_sizes=(1,), width=4)
EQUALISED = models.Equalised(NETWORK, tiles=(2, 2))
IMAGES = jax.random.uniform(jax.random.key(1), (3, 16, 16, 3))


def logits(model, images, params, state):
    return models.predictor(model, {"params": params, **state})(images)


def test_variables_are_those_of_the_network():
    for model in (EQUALISED, EQUALISED.clone(dtype="bfloat16")):
        wrapped, alone = (models.init(m, jax.random.key(0), (16, 16, 3)) for m in (model, NETWORK))
        assert jax.tree.structure(wrapped) == jax.tree.structure(alone)
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(wrapped), jax.tree.leaves(alone), strict=True))


@pytest.mark.long
def test_the_network_sees_equalised_images():
    variables = models.init(NETWORK, jax.random.key(0), (16, 16, 1))
    images = IMAGES[..., :1]
    expected = jnp.stack([clahe(image[..., 0], clip_limit=2.0, tiles=(2, 2))[..., None] for image in images])
    np.testing.assert_allclose(
        logits(EQUALISED, images, *variables), logits(NETWORK, expected, *variables), rtol=1e-4, atol=1e-5
    )


def test_loss_of_contrast_is_made_good():
    """Of the change that contrast makes to the logits, little is left."""
    variables = models.init(NETWORK, jax.random.key(0), (16, 16, 3))
    pale = 0.5 + 0.4 * (IMAGES - 0.5)
    change, plain = (
        float(jnp.abs(logits(model, pale, *variables) - logits(model, IMAGES, *variables)).mean())
        for model in (models.Equalised(NETWORK, tiles=(2, 2), clip_limit=40.0), NETWORK)
    )
    assert change < 0.5 * plain


def test_precision_is_passed_on():
    variables = models.init(NETWORK, jax.random.key(0), (16, 16, 3))
    full, half = (logits(model, IMAGES, *variables) for model in (EQUALISED, EQUALISED.clone(dtype="bfloat16")))
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(full, half, rtol=0.05, atol=0.05)


def test_component_is_its_config():
    assert config.from_json(config.to_json(EQUALISED)) == EQUALISED
    for fields in ({"clip_limit": 0.0}, {"tiles": (0, 1)}):
        with pytest.raises(ValueError, match=f"Expected {next(iter(fields))} > 0"):
            models.Equalised(NETWORK, **fields)
