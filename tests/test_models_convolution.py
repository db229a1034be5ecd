"""Convolutions of the networks: derivatives are those of JAX's, and as fast inside loops of a CPU."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from robust_jax import models
from robust_jax.core.platform import compiled_for
from robust_jax.models.convolution import CANONICAL, convolve

CASES = {
    "3x3": (6, 3, 4, 3, 1, ((1, 1), (1, 1))),
    "stride 2, padded at the end": (7, 2, 3, 3, 2, ((0, 1), (0, 1))),
    "1x1, stride 2": (6, 2, 3, 1, 2, ((0, 0), (0, 0))),
    "patches": (8, 2, 3, 4, 4, "VALID"),
    "same": (7, 2, 3, 3, 2, "SAME"),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """Ours, JAX's, and operands, in float64."""
    size, inputs, outputs, kernel, stride, padding = CASES[request.param]
    given = {"window_strides": (stride, stride), "padding": padding, "dimension_numbers": CANONICAL}
    with jax.enable_x64(True):
        images = jax.random.normal(jax.random.key(0), (2, size, size, inputs), float)
        weights = jax.random.normal(jax.random.key(1), (kernel, kernel, inputs, outputs), float)
    return partial(_run, convolve, given), partial(_run, jax.lax.conv_general_dilated, given), (images, weights)


def _run(function, given, images, weights):
    return function(images, weights, **given)


def assert_equal_on(case, derived):
    ours, theirs, operands = case
    with jax.enable_x64(True):
        for found, expected in zip(derived(ours, *operands), derived(theirs, *operands), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def cubes(function, *operands):
    return jnp.sum(function(*operands) ** 3)


def test_values_and_derivatives_of_both_modes(case):
    assert_equal_on(case, lambda f, *given: (f(*given),))
    assert_equal_on(case, lambda f, *given: jax.grad(partial(cubes, f), (0, 1))(*given))
    assert_equal_on(case, lambda f, *given: jax.jvp(f, given, tuple(x**2 for x in given)))
    assert_equal_on(case, lambda f, x, w: jax.jvp(lambda x: f(x, w), (x,), (x**2,)))


def test_second_derivatives(case):
    ours, _, operands = case
    with jax.enable_x64(True):
        check_grads(ours, operands, order=2)
    assert_equal_on(case, lambda f, x, w: jax.jvp(jax.grad(lambda w: cubes(f, x, w)), (w,), (w**2,)))
    assert_equal_on(case, lambda f, x, w: (jax.grad(lambda x: jnp.sum(jax.grad(partial(cubes, f), 1)(x, w) ** 2))(x),))


def test_gradients_of_examples_and_of_members(case):
    of_weights = lambda f: jax.grad(lambda w, image: cubes(f, image[None], w))  # noqa: E731
    assert_equal_on(case, lambda f, x, w: (jax.vmap(of_weights(f), (None, 0))(w, x),))
    stack = lambda w: jnp.stack([w, w**2])  # noqa: E731
    assert_equal_on(case, lambda f, x, w: (jax.vmap(jax.grad(lambda w: cubes(f, x, w)))(stack(w)),))


def test_grouped_convolutions_are_those_of_jax():
    images, weights = jnp.arange(2 * 4 * 4 * 2.0).reshape(2, 4, 4, 2), jnp.ones((3, 3, 1, 2))
    given = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": CANONICAL, "feature_group_count": 2}
    expected = jax.lax.conv_general_dilated(images, weights, **given)
    np.testing.assert_array_equal(convolve(images, weights, **given), expected)


@pytest.fixture(scope="module")
def network():
    model = models.WideResNet(depth=10, width=1)
    params, state = models.init(model, jax.random.key(0), (16, 16, 3))
    return models.predictor(model, {"params": params, **state}), jnp.ones((2, 16, 16, 3))


def climb(predictor, images):
    return images + jax.grad(lambda images: jnp.sum(predictor(images) ** 2))(images)


def test_in_a_loop_every_convolution_is_in_the_order_of_the_fast_routine(network, optimised):
    """Otherwise a step in a loop takes several times as long as one outside."""
    predictor, images = network
    loop = jax.jit(lambda predictor, images: jax.lax.fori_loop(0, 3, lambda _, x: climb(predictor, x), images))
    layouts = re.findall(r" convolution\(.*dim_labels=(\S+?),", loop.lower(predictor, images).compile().as_text())
    assert len(layouts) == 18
    assert set(layouts) == {"b01f_01io->b01f"}


def test_gradients_of_images_compute_none_of_the_weights(network):
    predictor, images = network
    num = lambda function: jax.jit(function).lower(predictor, images).as_text().count("stablehlo.convolution")  # noqa: E731
    forward = num(lambda predictor, images: predictor(images))
    assert num(climb) == 2 * forward
    both = jax.grad(lambda predictor, images: jnp.sum(predictor(images) ** 2), (0, 1), allow_int=True)
    assert num(both) == 3 * forward


def test_accelerators_have_the_convolutions_of_jax(network):
    predictor, images = network
    with compiled_for("tpu"):
        lowered = jax.jit(climb).trace(predictor, images).lower(lowering_platforms=("tpu",)).as_text()
    assert "[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]" in lowered
    assert "[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]" not in jax.jit(climb).lower(predictor, images).as_text()
