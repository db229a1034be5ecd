"""The engine of gradient attacks: any loss, any start, under jit, vmap and in a training step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from tables import long_unless

from robust_jax import attacks
from robust_jax.core.keys import example_keys

SHAPE = (5, 4, 2)
WEIGHTS = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)), jnp.float32)
TRACES = []


def logits_of(weights, images):
    TRACES.append(None)
    return jnp.tanh(images.reshape(len(images), -1) - 0.5) @ weights


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def problem(size=6):
    images = jnp.asarray(0.3 + 0.4 * np.random.default_rng(1).random((size, *SHAPE)), jnp.float32)
    labels = jnp.argmax(logits_of(WEIGHTS, images), axis=-1)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, labels


def classify(weights, labels, images):
    logits = logits_of(weights, images)
    return attacks.cross_entropy(logits, labels), logits


@pytest.mark.parametrize("norm", long_unless(["Linf"], ["Linf", "L2", "L1", "L0"]))
@pytest.mark.parametrize("keep", ["best", "last"])
def test_pgd_is_it_with_a_loss_of_logits(norm, keep):
    keys, images, labels = problem()
    eps = {"Linf": 0.05, "L2": 0.4, "L1": 2.0, "L0": 5.0}[norm]
    settings = {"steps": 7, "momentum": 0.5, "keep": keep, "relative_step": 0.3}
    attack = attacks.PGD(norm=norm, eps=eps, **settings)
    found = attack.run(keys, Partial(logits_of, WEIGHTS), images, labels)
    # Restarts have keys of their own.
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
    raw = attacks.maximise(keys, Partial(classify, WEIGHTS, labels), images, eps, norm, **settings)
    success = raw.aux.argmax(axis=-1) != labels
    # PGD prefers a success to a higher loss.
    same = np.asarray(success == found.success) if keep == "best" else np.ones(6, bool)
    np.testing.assert_allclose(raw.images[same], found.images[same], atol=1e-6)
    np.testing.assert_allclose(raw.loss[same], found.loss[same], rtol=1e-5)
    assert same.sum() >= 5
    np.testing.assert_allclose(raw.aux, logits_of(WEIGHTS, raw.images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("norm", "dual", "start"), [("Linf", 1, "uniform"), ("L2", 2, "zero")])
def test_linear_loss_reaches_its_maximum(norm, dual, start):
    keys, images, _ = problem()
    slope = WEIGHTS[:, 0].reshape(1, *SHAPE)
    found = attacks.maximise(
        keys, lambda x: jnp.sum(x * slope, axis=(1, 2, 3)), images, 0.1, norm, steps=10, start=start
    )
    gained = found.loss - jnp.sum(images * slope, axis=(1, 2, 3))
    np.testing.assert_allclose(gained, 0.1 * np.linalg.norm(slope.ravel(), dual), rtol=1e-4)
    assert found.aux == ()


def test_best_is_no_less_than_every_iterate():
    """A step of twice the ball overshoots; the best iterate is at least as good as the start and the last."""
    keys, images, labels = problem()
    loss_fn = Partial(classify, WEIGHTS, labels)
    runs = [
        attacks.maximise(keys, loss_fn, images, 0.2, "L2", steps=n, relative_step=2.0, start="zero")
        for n in range(1, 10)
    ]
    losses = [loss_fn(images)[0], *(run.loss for run in runs)]
    best = attacks.maximise(keys, loss_fn, images, 0.2, "L2", steps=9, relative_step=2.0, start="zero", keep="best")
    np.testing.assert_allclose(best.loss, np.max(losses, axis=0), rtol=1e-5)
    np.testing.assert_allclose(best.loss, loss_fn(best.images)[0], rtol=1e-5)


def test_starts():
    """A step too short to matter leaves the start in sight."""
    keys, images, _ = problem(64)
    size = lambda start, eps=0.5, norm="Linf": (  # noqa: E731
        attacks.maximise(
            keys, lambda x: x.sum((1, 2, 3)), images, eps, norm, steps=1, step_size=1e-7, start=start
        ).images
        - images
    )
    assert abs(size("zero")).max() < 1e-6
    noise = size(attacks.Gaussian(0.01))
    np.testing.assert_allclose(noise.std(), 0.01, rtol=0.03)
    np.testing.assert_allclose(noise.mean(), 0, atol=1e-3)
    assert abs(size(attacks.Gaussian(0.01), eps=0.001)).max() <= 0.001 + 1e-6
    uniform = size("uniform", eps=0.1)
    np.testing.assert_allclose(uniform.std(), 0.1 / np.sqrt(3), rtol=0.03)
    given = jnp.full(images.shape, 0.02)
    np.testing.assert_allclose(size(given), given, atol=1e-6)
    for norm in ("L2", "L1"):
        assert attacks.THREATS[norm].norm(size(attacks.Gaussian(0.3), 0.2, norm)[0]) <= 0.2 * (1 + 1e-4)


@pytest.mark.parametrize("norm", long_unless(["L2"], ["Linf", "L2", "L1", "L0"]))
def test_gaussian_start_of_an_attack_is_feasible(norm):
    keys, images, labels = problem()
    attack = attacks.PGD(norm=norm, eps=2.0 if norm == "L0" else 0.01, steps=3, start=attacks.Gaussian(1.0))
    found = attack.run(keys, Partial(logits_of, WEIGHTS), images, labels)
    assert (found.norm <= attack.eps * (1 + 1e-4)).all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1


def test_jit_vmap_and_radii_of_examples():
    keys, images, labels = problem()
    eps = jnp.array([0.0, 0.01, 0.02, 0.05, 0.1, 0.2])

    def run(weights, eps, index):
        return attacks.maximise(
            keys[index],
            Partial(classify, weights, labels[index]),
            images[index],
            eps[index],
            "L2",
            steps=6,
            keep="best",
        ).images

    everything = jnp.arange(6)
    whole = run(WEIGHTS, eps, everything)
    np.testing.assert_array_equal(whole[0], images[0])
    assert (attacks.L2().norm(whole[4] - images[4]) > 0.099).all()
    np.testing.assert_allclose(jax.jit(run)(WEIGHTS, eps, everything), whole, atol=1e-6)
    np.testing.assert_allclose(run(WEIGHTS, eps, jnp.array([3])), whole[3:4], atol=1e-6)
    members = jax.vmap(lambda scale: run(scale * WEIGHTS, eps, everything))(jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(members[0], whole, atol=1e-5)
    np.testing.assert_allclose(members[1], run(-WEIGHTS, eps, everything), atol=1e-5)


def test_new_weights_compile_nothing():
    keys, images, labels = problem()
    attacks.maximise(keys, Partial(classify, WEIGHTS, labels), images, 0.1, steps=3)
    before = len(TRACES)
    attacks.maximise(keys, Partial(classify, 2 * WEIGHTS, labels), images, 0.2, steps=3)
    assert len(TRACES) <= before + 1, "the loss's shape is looked at"


def test_no_gradient_passes_through_it():
    """In a training step the weights are differentiated through the loss at the fixed images alone."""
    keys, images, labels = problem()

    def attacked(weights):
        return attacks.maximise(keys, Partial(classify, weights, labels), images, 0.1, steps=4).images

    def loss(weights):
        return jnp.sum(attacks.cross_entropy(logits_of(weights, attacked(weights)), labels))

    fixed = attacked(WEIGHTS)
    expected = jax.grad(lambda weights: jnp.sum(attacks.cross_entropy(logits_of(weights, fixed), labels)))(WEIGHTS)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(WEIGHTS), expected, rtol=1e-4, atol=1e-5)
    closed = jax.grad(
        lambda weights: jnp.sum(
            attacks.maximise(keys, lambda x: classify(weights, labels, x), images, 0.1, steps=2).images
        )
    )
    np.testing.assert_array_equal(closed(WEIGHTS), 0)


def test_an_optimiser_moves_instead():
    """Two steps of Adam, whose first two are of nearly the learning rate along signs, against optax by hand."""
    keys, images, labels = problem()
    adam = optax.adam(0.01)
    loss_fn = Partial(classify, WEIGHTS, labels)
    found = attacks.maximise(keys, loss_fn, images, 0.5, steps=2, start="zero", optimiser=adam)
    delta, state = jnp.zeros_like(images), adam.init(images)
    for _ in range(2):
        gradient = jax.grad(lambda delta: -loss_fn(images + delta)[0].sum())(delta)
        change, state = adam.update(gradient, state)
        delta += change
    np.testing.assert_allclose(found.images, images + delta, atol=1e-6)


def test_a_stopped_gradient_leaves_an_example_alone():
    """A loss may so hold still what is misclassified already."""
    keys, images, labels = problem()
    wrong = labels.at[2].set((labels[2] + 1) % 3)

    def loss_fn(images):
        logits = logits_of(WEIGHTS, images)
        loss = attacks.cross_entropy(logits, wrong)
        return jnp.where(logits.argmax(axis=-1) == wrong, loss, jax.lax.stop_gradient(loss))

    found = attacks.maximise(keys, loss_fn, images, 1e-5, steps=3, start="zero")
    np.testing.assert_array_equal(found.zero_gradient, np.arange(6) == 2)
    np.testing.assert_array_equal(found.images[2], images[2])


def test_nan_gradients_count_as_zero_and_are_told():
    keys, images, _ = problem()
    images = images.at[0].set(0.0).at[1, 0, 0, 0].set(0.0)

    def norms(images):
        return jnp.sqrt(jnp.sum(images**2, axis=(1, 2, 3))) + jnp.sqrt(images[:, 0, 0, 0])

    for keep in ("last", "best"):
        found = attacks.maximise(keys, norms, images, 0.1, steps=3, start="zero", keep=keep)
        np.testing.assert_array_equal(found.nan_gradient, np.arange(6) < 2)
        assert jnp.isfinite(found.images).all()
        np.testing.assert_array_equal(found.images[0], images[0])
        np.testing.assert_allclose(found.images[1, 1:], images[1, 1:] + 0.1, atol=1e-6)
        np.testing.assert_allclose(found.images[2:], images[2:] + 0.1, atol=1e-6)


def test_losses_of_half_precision():
    keys, images, labels = problem()

    def half(images):
        return classify(WEIGHTS.astype(jnp.bfloat16), labels, images.astype(jnp.bfloat16))[0]

    found = attacks.maximise(keys, half, images, 0.05, steps=3)
    assert found.loss.dtype == found.images.dtype == jnp.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps > 0"),
        ({"steps": 1, "step_size": 0.0}, "step_size > 0"),
        ({"steps": 1, "start": "unifrom"}, "Did you mean 'uniform'"),
        ({"steps": 1, "keep": "first"}, "keep"),
        ({"steps": 1, "threat": "linf"}, "Did you mean"),
        ({"steps": 1, "eps": -1.0}, "eps >= 0"),
    ],
)
def test_bad_settings(settings, message):
    keys, images, _ = problem()
    settings = {"threat": "Linf", "eps": 0.1} | settings
    with pytest.raises(ValueError, match=message):
        attacks.maximise(keys, lambda x: x.sum((1, 2, 3)), images, **settings)
    with pytest.raises(ValueError, match="sigma > 0"):
        attacks.Gaussian(0.0)


def test_a_loss_that_is_not_per_example():
    keys, images, _ = problem()
    with pytest.raises(ValueError, match=r"loss of shape \[6\].*got shape \(\)"):
        attacks.maximise(keys, jnp.sum, images, 0.1, steps=1)
