"""Universal perturbations on linear classifiers, where the best is known, and their measures by loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robust_jax import attacks, config

pytestmark = pytest.mark.long

SHAPE = (6, 5, 2)
WEIGHTS = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)


@jax.tree_util.Partial
def linear(images):
    return (images.reshape(len(images), -1) - 0.5) @ WEIGHTS / 3


def problem(size=96, spread=0.2):
    images = 0.5 + spread * (2 * np.random.default_rng(2).random((size, *SHAPE)) - 1)
    images = jnp.asarray(images, jnp.float32)
    return images, jnp.argmax(linear(images), axis=-1)


def targeted_objective(delta, images, target):
    return float(jnp.mean(attacks.cross_entropy(linear(images + delta[None]), jnp.full(len(images), target))))


@pytest.mark.parametrize(
    ("norm", "eps", "optimiser"),
    # Adam rescales each entry, which agrees with the box and not with the ball of L2.
    [("Linf", 0.05, None), ("L2", 0.3, None), ("Linf", 0.05, optax.adam(0.02)), ("L2", 0.3, optax.sgd(0.2))],
)
def test_two_classes_have_a_closed_form(norm, eps, optimiser):
    """Towards the one of two classes, the best direction is the same for all images, by the dual norm."""
    images, labels = problem()
    two = jax.tree_util.Partial(lambda images: linear(images)[:, :2])
    difference = (WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(SHAPE)
    best = eps * (np.sign(difference) if norm == "Linf" else difference / np.linalg.norm(difference))
    attack = attacks.UniversalPGD(norm=norm, eps=eps, steps=60, batch_size=32, optimiser=optimiser)
    delta = attack.fit(jax.random.key(0), two, images, jnp.minimum(labels, 1), target=1)
    if norm == "Linf":
        assert (np.abs(delta - best) < 1e-5).mean() > 0.97
    np.testing.assert_allclose(np.sum(delta * difference), np.sum(best * difference), rtol=0.01)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_it_stays_in_the_ball_and_misleads_unseen_images(norm):
    images, labels = problem(160)
    eps = {"Linf": 0.08, "L2": 0.5, "L1": 3.0}[norm]
    attack = attacks.UniversalPGD(norm=norm, eps=eps, steps=60, batch_size=32, relative_step=0.2)
    delta = attack.fit(jax.random.key(0), linear, images[:96], labels[:96])
    order = {"Linf": np.inf, "L2": 2, "L1": 1}[norm]
    assert np.linalg.norm(np.asarray(delta).reshape(-1), order) <= eps * (1 + 1e-5)
    seen = attacks.success_of(linear, images[:96], delta, labels[:96]).mean()
    unseen = attacks.success_of(linear, images[96:], delta, labels[96:]).mean()
    noise = eps * jnp.sign(jax.random.normal(jax.random.key(1), SHAPE)) if norm == "Linf" else None
    assert seen > 0.45
    assert unseen > 0.35
    if noise is not None:
        assert unseen > 2 * attacks.success_of(linear, images[96:], noise, labels[96:]).mean()


def test_batches_cover_the_images_and_depend_on_the_key_alone():
    images, labels = problem(64)
    attack = attacks.UniversalPGD(steps=8, batch_size=16, relative_step=0.05)
    delta = attack.fit(jax.random.key(0), linear, images, labels)
    np.testing.assert_array_equal(delta, attack.fit(jax.random.key(0), linear, images, labels))
    assert (delta != attack.fit(jax.random.key(1), linear, images, labels)).any()
    inside = jax.jit(lambda images: attack.fit(jax.random.key(0), linear, images, labels))(images)
    assert (np.abs(inside - delta) < 1e-6).mean() > 0.97
    # One step from zero on the whole set is the sign of its mean gradient.
    whole = attacks.UniversalPGD(eps=0.1, steps=1, batch_size=64, relative_step=0.5)
    gradient = jax.grad(
        lambda d: jnp.mean(attacks.cross_entropy(linear(images + d[None]), labels))
    )(jnp.zeros(SHAPE))  # fmt: skip
    np.testing.assert_allclose(
        whole.fit(jax.random.key(0), linear, images, labels), 0.05 * jnp.sign(gradient), atol=1e-7
    )


def test_clipped_loss_ignores_lost_images():
    """With a small beta, only images whose loss is below it count; of the others the gradient is zero."""
    images, labels = problem(64)
    losses = attacks.cross_entropy(linear(images), labels)
    beta = float(jnp.median(losses))
    attack = attacks.UniversalPGD(steps=1, batch_size=64, clip_loss=beta)
    low = losses < beta
    kept = attacks.UniversalPGD(steps=1, batch_size=64).fit(jax.random.key(0), linear, images[low], labels[low])
    np.testing.assert_allclose(attack.fit(jax.random.key(0), linear, images, labels), kept, atol=1e-7)


def test_radius_is_traced():
    images, labels = problem(64)
    traces = []

    def counting(images):
        traces.append(None)
        return linear(images)

    predictor = jax.tree_util.Partial(counting)
    attack = attacks.UniversalPGD(steps=3, batch_size=32)
    assert not attack.fit(jax.random.key(0), predictor, images, labels, eps=0.0).any()
    before = len(traces)
    attack.fit(jax.random.key(0), predictor, images, labels, eps=0.1)
    # Logits are looked at, by shape and value, on every call.
    assert len(traces) <= before + 3


def test_apply():
    images = jnp.stack([jnp.zeros(SHAPE), jnp.full(SHAPE, 0.95)])
    np.testing.assert_allclose(attacks.UniversalPGD.apply(jnp.full(SHAPE, 0.1), images)[:, 0, 0, 0], [0.1, 1.0])


def success(image, delta, label, targeted):
    logits = (np.clip(image + delta, 0, 1).reshape(-1) - 0.5) @ WEIGHTS.astype(float)
    return (logits.argmax() == label) == targeted


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("universal", [False, True])
def test_measures_by_loops(targeted, universal):
    images, labels = problem(12)
    classes = (labels + 1) % 4 if targeted else labels
    shape = SHAPE if universal else (12, *SHAPE)
    delta = jnp.asarray(0.3 * np.random.default_rng(4).normal(size=shape), jnp.float32)
    of = lambda i: np.asarray(delta if universal else delta[i], float)  # noqa: E731
    pairs = list(enumerate(zip(np.asarray(images, float), np.asarray(classes), strict=True)))

    whole = attacks.success_of(linear, images, delta, classes, targeted=targeted)
    np.testing.assert_array_equal(whole, [success(x, of(i), y, targeted) for i, (x, y) in pairs])

    patches = attacks.patch_success(linear, images, delta, classes, size=3, stride=2, targeted=targeted)
    assert patches.shape == (2, 2, 12)
    for row, column in np.ndindex(2, 2):
        mask = np.zeros((6, 5, 1))
        mask[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] = 1
        expected = [success(x, mask * of(i), y, targeted) for i, (x, y) in pairs]
        np.testing.assert_array_equal(patches[row, column], expected)

    moved = attacks.shift_success(linear, images, delta, classes, offsets=(-1, 0, 2), targeted=targeted)
    for row, down in enumerate((-1, 0, 2)):
        for column, right in enumerate((-1, 0, 2)):
            expected = [success(x, np.roll(of(i), (down, right), (0, 1)), y, targeted) for i, (x, y) in pairs]
            np.testing.assert_array_equal(moved[row, column], expected)
    np.testing.assert_array_equal(moved[1, 1], whole)


def test_component_is_its_config():
    attack = attacks.UniversalPGD(norm="L2", eps=0.5)
    assert config.from_json(config.to_json(attack)) == attack


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eps": -1.0}, "eps >= 0"),
        ({"norm": "linf"}, "Did you mean 'Linf'"),
        ({"norm": "L0"}, "Expected norm in"),
        ({"steps": 0}, "steps > 0"),
        ({"clip_loss": 0.0}, "clip_loss > 0"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        attacks.UniversalPGD(**fields)


def test_bad_input():
    images, labels = problem(8)
    fit = attacks.UniversalPGD(steps=1, batch_size=4).fit
    for change, message in (
        ({"images": 2 * images}, "Expected images in"),
        ({"labels": labels.at[-1].set(4)}, r"labels in \[0, 3\], got 4"),
        ({"target": 4}, r"labels in \[0, 3\], got 4"),
        ({"eps": jnp.ones(8)}, "one number"),
        ({"eps": -0.1}, "eps >= 0"),
    ):
        arguments = {"images": images, "labels": labels} | change
        with pytest.raises(ValueError, match=message):
            fit(jax.random.key(0), linear, **arguments)
    with pytest.raises(ValueError, match=r"size in \[1, 5\]"):
        attacks.patch_success(linear, images, images, labels, size=6, stride=1)
    with pytest.raises(ValueError, match="perturbation of shape"):
        attacks.success_of(linear, images, images[:3], labels)
