"""The inner maximisation of training: any loss of outputs, batch-norm statistics, schedules, and who gets gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_norm_network import DECAY, KEY, RUNNING, normalised, problem
from jax.tree_util import Partial
from objective_values import START, evaluate

from robust_jax import attacks, models
from robust_jax.core.keys import example_keys
from robust_jax.objectives import Adversarial, CrossEntropy, perturb, warm_up


def cross_entropy_of(labels, output):
    return attacks.cross_entropy(output.prediction, labels)


PGD = attacks.PGD(eps=0.05, steps=3, keep="last")


def ascent_by_hand(params, batch, network, start):
    """Signs of the gradient of the cross-entropy, three times."""
    images, state = start, RUNNING
    for _ in range(3):

        def loss(images, state=state):
            output, after = network(images, state)
            return cross_entropy_of(batch.label, output).sum(), after

        gradient, state = jax.grad(loss, has_aux=True)(images)
        images = images + 0.05 * 2.5 / 3 * jnp.sign(gradient)
        images = jnp.clip(jnp.clip(images, batch.image - 0.05, batch.image + 0.05), 0, 1)
    return images, state


@pytest.mark.parametrize("statistics", ["running", "batch", "batch_moving"])
@pytest.mark.parametrize(
    "transform", [pytest.param(lambda f: f, marks=pytest.mark.long), jax.jit], ids=["eager", "jit"]
)
def test_statistics_by_hand(statistics, transform):
    params, batch = problem()
    zero = attacks.PGD(eps=0.05, steps=3, keep="last", start="zero")

    def run(params, batch):
        loss_fn = Partial(cross_entropy_of, batch.label)
        return perturb(KEY, normalised, params, batch, zero, loss_fn, statistics=statistics)

    found = transform(run)(params, batch)

    def network(images, state):
        if statistics == "running":
            return normalised(params, images, train=False)
        return normalised(params, images, train=True, state=state)

    expected, state = ascent_by_hand(params, batch, network, batch.image)
    np.testing.assert_allclose(found.images, expected, atol=1e-6)
    if statistics == "batch_moving":
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found.model_state, state)
    else:
        assert found.model_state is None


def test_statistics_matter():
    params, batch = problem()

    @partial(jax.jit, static_argnums=0)
    def run(statistics):
        return perturb(KEY, normalised, params, batch, PGD, statistics=statistics).images

    images = [run(statistics) for statistics in ("running", "batch", "batch_moving")]
    assert abs(images[0] - images[1]).max() > 0.01
    np.testing.assert_allclose(images[1], images[2], atol=1e-6)


def test_a_networks_own_state_is_threaded():
    """Passes that read the state of the pass before move the averages as separate training steps would."""
    model = models.WideResNet(depth=10, width=1, num_classes=3)
    params, state = models.init(model, jax.random.key(0), (8, 8, 3))
    images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    forward = models.forward_fn(model, state)
    _, once = forward(params, images, key=KEY)
    _, twice = forward(params, 0.5 * images, key=KEY, state=once)
    _, expected = models.forward_fn(model, once)(params, 0.5 * images, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, twice, expected)
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), once, twice)))
    output, unchanged = forward(params, images, train=False, state=twice)
    jax.tree.map(np.testing.assert_array_equal, unchanged, twice)
    assert (output.prediction != forward(params, images, train=False)[0].prediction).any()


def test_labels_loss_is_the_attacks_own():
    params, batch = problem()
    found = perturb(KEY, normalised, params, batch, PGD)
    predictor = Partial(lambda params, images: normalised(params, images, train=False)[0].prediction, params)
    expected = PGD(example_keys(KEY, batch.id), predictor, batch.image, batch.label)
    np.testing.assert_array_equal(found.images, expected)
    same = perturb(KEY, normalised, params, batch, PGD, Partial(cross_entropy_of, batch.label))
    np.testing.assert_allclose(same.images, expected, atol=1e-6)


def test_an_example_is_its_id():
    params, batch = problem()
    whole = perturb(KEY, normalised, params, batch, PGD).images
    part = perturb(KEY, normalised, params, jax.tree.map(lambda leaf: leaf[4:9], batch), PGD).images
    np.testing.assert_allclose(part, whole[4:9], atol=1e-6)


@pytest.mark.parametrize("statistics", ["running", "batch", "batch_moving"])
def test_no_gradient_passes(statistics):
    params, batch = problem()

    def through(params):
        loss_fn = lambda output: cross_entropy_of(batch.label, output) + jnp.sum(params["second"] ** 2)  # noqa: E731
        found = perturb(KEY, normalised, params, batch, PGD, loss_fn, statistics=statistics)
        return jnp.sum(found.images) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(found.model_state))

    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), jax.grad(through)(params))


def test_warm_up_scales_the_radius():
    params, batch = problem()
    objective = Adversarial(PGD, weight=1.0, warm_up=0.5)
    sizes = []
    for progress in (0.0, 0.25, 0.5, 0.9):
        scale = warm_up(jnp.float32(progress), 0.5)
        moved = perturb(KEY, normalised, params, batch, PGD, scale=scale).images
        sizes.append(abs(moved - batch.image).max())
    np.testing.assert_allclose(sizes, [0, 0.025, 0.05, 0.05], atol=1e-6)
    start, _ = evaluate(objective, KEY, normalised, params, batch)
    clean, _ = evaluate(CrossEntropy(), KEY, normalised, params, batch)
    np.testing.assert_allclose(start, clean, rtol=1e-6)
    later = START._replace(progress=jnp.float32(0.7))
    np.testing.assert_allclose(
        evaluate(objective, KEY, normalised, params, batch, context=later)[0],
        evaluate(Adversarial(PGD, weight=1.0), KEY, normalised, params, batch)[0],
        rtol=1e-6,
    )
    assert warm_up(0.0, 0.0) == 1


def test_passes_of_the_loss():
    """Separate passes move the averages twice, clean first; a joint one once, by the statistics of the mixture."""
    params, batch = problem()
    moved = perturb(jax.random.split(KEY)[0], normalised, params, batch, PGD).images
    separate, joint = (
        evaluate(Adversarial(PGD, passes=passes), KEY, normalised, params, batch)[1] for passes in ("separate", "joint")
    )
    _, state = normalised(params, batch.image)
    output, state = normalised(params, moved, state=state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), separate.model_state, state)
    adversarial = cross_entropy_of(batch.label, output).mean()
    np.testing.assert_allclose(separate.metrics["adversarial_cross_entropy"], adversarial, rtol=1e-5)
    _, state = normalised(params, jnp.concatenate([batch.image, moved]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), joint.model_state, state)


def test_moving_averages_of_the_attack_reach_the_loss():
    params, batch = problem()
    fast = attacks.RFGSM(eps=0.05)
    objective = Adversarial(fast, weight=1.0, statistics="batch_moving", passes="separate")
    loss = evaluate(objective, KEY, normalised, params, batch)[1]
    # Three moves, by one gradient, the clean and the adversarial images; two without the attack's.
    mean = jnp.mean(batch.image.reshape(12, 4) @ params["first"], axis=0)
    still = evaluate(Adversarial(fast, weight=1.0, passes="separate"), KEY, normalised, params, batch)[1]
    for moves, found in ((3, loss), (2, still)):
        ratio = found.model_state["mean"] / mean
        np.testing.assert_allclose(jnp.median(ratio), 1 - DECAY**moves, rtol=0.05)


def test_soft_labels_train_with_attacks():
    params, batch = problem()
    soft = batch._replace(label=jax.nn.one_hot(batch.label, 3))
    objective = Adversarial(PGD)
    np.testing.assert_array_equal(
        evaluate(objective, KEY, normalised, params, soft)[0], evaluate(objective, KEY, normalised, params, batch)[0]
    )


def test_bad_input():
    params, batch = problem()
    with pytest.raises(ValueError, match=r"Expected attacks.PGD .* got APGD"):
        perturb(KEY, normalised, params, batch, attacks.APGD(), statistics="batch_moving")
    with pytest.raises(ValueError, match="Did you mean 'running'"):
        perturb(KEY, normalised, params, batch, PGD, statistics="runing")
    with pytest.raises(ValueError, match="Did you mean 'joint'"):
        Adversarial(PGD, passes="jiont")
    with pytest.raises(ValueError, match="restarts=1"):
        perturb(KEY, normalised, params, batch, attacks.PGD(restarts=2), Partial(cross_entropy_of, batch.label))
