"""Virtual adversarial training against closed forms of linear models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from batch_norm_network import KEY, normalised, problem
from objective_values import evaluate

from robust_jax import config
from robust_jax.objectives import CrossEntropy, Vat
from robust_jax.types import Batch, Output


def linear(params, images, *, key=None, train=True, state=None):
    flat = images.reshape(len(images), -1)
    return Output(flat @ params, flat), {}


def with_unlabelled(batch, size=20, seed=7):
    images = 0.25 + 0.5 * jax.random.uniform(jax.random.key(seed), (size, 2, 2, 1))
    unlabelled = Batch(images, jnp.zeros(size, jnp.int32), jnp.arange(size) < size - 2, jnp.arange(size))
    return batch._replace(extras={"unlabelled": unlabelled})


@pytest.mark.parametrize(
    "transform", [pytest.param(lambda f: f, marks=pytest.mark.long), jax.jit], ids=["eager", "jit"]
)
@pytest.mark.parametrize("exact", [False, True])
def test_two_classes_in_closed_form(transform, exact):
    """The direction of a linear model of two classes is its difference of weights, after one iteration; the sign is
    that of the start."""
    _, batch = problem(classes=2)
    batch = with_unlabelled(batch)
    params = jax.random.normal(jax.random.key(5), (4, 2))
    objective = Vat(eps=0.3, exact=exact, entropy_weight=0.5)
    loss = transform(lambda params: evaluate(objective, KEY, linear, params, batch)[1])(params)
    unlabelled = batch.extras["unlabelled"]
    slope = np.asarray(params[:, 1] - params[:, 0], np.float64)
    margins = np.asarray(unlabelled.image, np.float64).reshape(20, -1)[:18] @ slope
    p = scipy.special.expit(margins)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))

    def divergence(sign):
        q = scipy.special.expit(margins + sign * 0.3 * np.linalg.norm(slope))
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    # Either sign for each example.
    low, high = (f(divergence(-1), divergence(1)) for f in (np.minimum, np.maximum))
    assert low.mean() * 0.99 <= loss.metrics["divergence"] <= high.mean() * 1.01
    np.testing.assert_allclose(loss.metrics["entropy"], entropy.mean(), rtol=1e-4)
    np.testing.assert_allclose(loss.penalty, loss.metrics["divergence"] + 0.5 * entropy.mean(), rtol=1e-4)
    one = jax.tree.map(lambda leaf: leaf[:1], unlabelled)
    single = evaluate(objective, KEY, linear, params, batch._replace(extras={"unlabelled": one}))[1]
    found = float(single.metrics["divergence"])
    assert min(abs(found - divergence(sign)[0]) for sign in (-1, 1)) < 1e-2 * found


def test_perturbations_have_their_norm():
    """A network that tells how far images are from a fixed one sees eps."""
    _, batch = problem(classes=2)
    batch = with_unlabelled(batch)
    seen = []

    def spy(params, images, *, key=None, train=True, state=None):
        if len(images) == 20 and not isinstance(images, jax.core.Tracer):
            seen.append(np.asarray(images))
        return linear(params, images)

    params = jax.random.normal(jax.random.key(5), (4, 2))
    Vat(eps=0.7)(KEY, spy, params, batch, (), None)
    sizes = [np.linalg.norm((images - seen[0]).reshape(20, -1), axis=1) for images in seen]
    np.testing.assert_allclose(sizes[-1], 0.7, rtol=1e-4)


def test_labels_of_unlabelled_images_and_padding_have_no_effect():
    params, batch = problem()
    batch = with_unlabelled(batch)
    unlabelled = batch.extras["unlabelled"]
    gradient = jax.jit(
        jax.grad(lambda params, batch: evaluate(Vat(statistics="running"), KEY, normalised, params, batch)[0])
    )
    plain = gradient(params, batch)
    other = unlabelled._replace(label=unlabelled.label + 1, image=unlabelled.image.at[18:].set(0.9))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        plain,
        gradient(params, batch._replace(extras={"unlabelled": other})),
    )
    moved = unlabelled._replace(image=unlabelled.image[::-1] ** 2)
    changed = gradient(params, batch._replace(extras={"unlabelled": moved}))
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), plain, changed))) > 1e-3


def test_weight_zero_is_cross_entropy():
    params, batch = problem()
    batch = with_unlabelled(batch)
    plain, neutral = (
        jax.value_and_grad(lambda params, o=objective: evaluate(o, KEY, normalised, params, batch)[0])(params)
        for objective in (CrossEntropy(), Vat(weight=0.0))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, neutral)


def test_running_averages_move_on_the_labelled_batch_alone():
    params, batch = problem()
    loss = evaluate(Vat(), KEY, normalised, params, with_unlabelled(batch))[1]
    jax.tree.map(np.testing.assert_array_equal, loss.model_state, normalised(params, batch.image)[1])


def test_no_gradient_passes_through_the_clean_branch():
    """That of the divergence at a fixed reference, by finite differences in the logits' bias."""
    _, batch = problem(classes=2)
    batch = with_unlabelled(batch)
    params = jax.random.normal(jax.random.key(5), (4, 2))

    def biased(bias, images, *, key=None, train=True, state=None):
        return Output(linear(params, images)[0].prediction + bias[None], images), {}

    gradient = jax.grad(lambda bias: evaluate(Vat(eps=0.5, exact=True), KEY, biased, bias, batch)[0])(jnp.zeros(2))
    unlabelled = batch.extras["unlabelled"]
    slope = np.asarray(params[:, 1] - params[:, 0], np.float64)
    margins = np.asarray(unlabelled.image, np.float64).reshape(20, -1)[:18] @ slope
    labelled = np.asarray(batch.image, np.float64).reshape(12, -1) @ slope
    supervised = np.mean(scipy.special.expit(labelled) - np.asarray(batch.label))
    p = scipy.special.expit(margins)
    step = 0.5 * np.linalg.norm(slope)
    # The gradient of KL(p || q) by the bias is q - p, with p fixed, and step's sign that of the example.
    ahead, behind = (scipy.special.expit(margins + sign * step) - p for sign in (1, -1))
    low, high = np.minimum(ahead, behind).mean(), np.maximum(ahead, behind).mean()
    assert low <= gradient[1] - supervised <= high
    assert abs(gradient[1] - supervised) > 1e-4


def test_it_is_a_config_and_refuses_what_it_cannot_use():
    params, batch = problem()
    assert config.from_json(config.to_json(Vat())) == Vat()
    with pytest.raises(ValueError, match=r"extra stream 'unlabelled'.*got none"):
        evaluate(Vat(), KEY, normalised, params, batch)
    for field in ({"xi": 0.0}, {"eps": -1.0}, {"statistics": "batch_moving"}, {"num_iterations": 0}):
        with pytest.raises(ValueError, match=next(iter(field))):
            Vat(**field)
