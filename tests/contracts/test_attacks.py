"""What every attack promises; a new one joins by a line in the table."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import first_of_its_class

from robust_jax import attacks, config
from robust_jax.core.keys import example_keys

NORMS = {
    "Linf": lambda delta: np.abs(delta).max(axis=(1, 2, 3)),
    "L2": lambda delta: np.sqrt((delta**2).sum(axis=(1, 2, 3))),
    "L1": lambda delta: np.abs(delta).sum(axis=(1, 2, 3)),
    "L0": lambda delta: np.abs(delta).max(axis=3).astype(bool).sum(axis=(1, 2)),
}
RADII = {"Linf": 0.03, "L2": 0.4, "L1": 4.0, "L0": 5.0}
ATTACKS = {
    **{f"pgd {norm}": attacks.PGD(norm=norm, eps=RADII[norm], steps=10) for norm in NORMS},
    "pgd restarts": attacks.PGD(eps=0.03, steps=4, restarts=2, keep="last", loss="dlr"),
    "pgd adam": attacks.PGD(eps=0.03, steps=10, optimiser=optax.adam(0.01)),
    "pgd ball then box": attacks.PGD(norm=attacks.L2(exact=False), eps=0.4, steps=10),
    "fgsm": attacks.FGSM(eps=0.03),
    "rfgsm": attacks.RFGSM(eps=0.03),
    "bim": attacks.BIM(eps=0.03),
    "mifgsm": attacks.MIFGSM(eps=0.03),
    "apgd": attacks.APGD(eps=0.03, steps=20),
    "apgd L2 fixed": attacks.APGD(norm="L2", eps=0.4, steps=20, parity="fixed"),
    "apgd dlr restarts": attacks.APGD(eps=0.03, steps=10, loss="dlr", restarts=2),
    "nifgsm": attacks.NIFGSM(eps=0.03),
    "pgd early stop": attacks.PGD(eps=0.03, steps=12, early_stop=True),
    "apgd L1": attacks.APGD(norm="L1", eps=4.0, steps=20),
    "apgd L1 large radii": attacks.APGD(norm="L1", eps=4.0, steps=20, large_radii=True),
    "apgd early stop": attacks.APGD(eps=0.03, steps=22, early_stop=True),
    **{f"fab {norm}": attacks.FAB(norm=norm, eps=2 * RADII[norm], steps=10) for norm in ("Linf", "L1")},
    "fab restarts": attacks.FAB(norm="L2", eps=0.8, steps=5, restarts=2, early_stop=True),
    "autoattack": attacks.AutoAttack(eps=0.03, steps=6, queries=20),
    **{f"square {norm}": attacks.Square(norm=norm, eps=RADII[norm], queries=40) for norm in ("Linf", "L2", "L1")},
    "spsa": attacks.SPSA(eps=0.03, steps=8, samples=40),
    "nes L2": attacks.NES(norm="L2", eps=0.4, steps=12, samples=40, width=0.02),
    "one pixel": attacks.OnePixel(eps=3.0, pixels=4, population=20, generations=8),
    # A walk on the boundary itself depends on rounding; with a large gamma it keeps off it.
    "hop skip jump": attacks.HopSkipJump(eps=2.0, steps=4, initial_samples=40, gamma=50.0),
    "boundary": attacks.BoundaryAttack(eps=4.0, steps=60),
    **{f"deepfool {norm}": attacks.DeepFool(norm=norm, eps=2 * RADII[norm]) for norm in ("Linf", "L2")},
    "ddn": attacks.DDN(eps=0.8, steps=30),
    "spatial draws": attacks.ParameterSearch(),
    "spatial grid": attacks.ParameterSearch(grid=(3, 1, 5), early_stop=True),
    "spatial first order": attacks.ParameterPGD(steps=8, restarts=2),
    "joint": attacks.ParameterPGD(threat=attacks.Joint(attacks.Spatial(), "L2", 0.4), steps=8),
    "pyramid": attacks.PyramidPGD(eps=0.02, threat=attacks.Pyramid(sides=(4, 2, 1)), random_target=False),
    "pyramid random target": attacks.PyramidPGD(eps=0.02, threat=attacks.Pyramid(sides=(4, 2, 1)), keep="best"),
    "carlini wagner L2": attacks.CarliniWagnerL2(eps=0.8, searches=4, steps=20, learning_rate=0.05, first_constant=0.1),
    "carlini wagner L0": attacks.CarliniWagnerL0(eps=40.0, steps=60, learning_rate=0.2, steps_per_constant=10),
    "carlini wagner Linf": attacks.CarliniWagnerLinf(eps=0.2, steps=60, learning_rate=0.05, first_constant=1.0),
    **{
        f"ead {rule}": attacks.EAD(rule=rule, eps=8.0, searches=4, steps=20, learning_rate=0.05, first_constant=0.1)
        for rule in ("EN", "L1")
    },
    "jsma": attacks.JSMA(eps=20.0, gamma=0.3, steps=30),
}
# Whose norm is of the parameters of a transform, and cannot be read off the image.
PARAMETERS = (attacks.ParameterSearch, attacks.ParameterPGD)
GRADIENT_FREE = (
    attacks.Square,
    attacks.SPSA,
    attacks.NES,
    attacks.OnePixel,
    attacks.ParameterSearch,
    attacks.HopSkipJump,
    attacks.BoundaryAttack,
)
pytestmark = pytest.mark.filterwarnings("ignore:AutoAttack")
UNTARGETED = (attacks.AutoAttack,)
# Whose first gradient is of the image itself.
AT_THE_IMAGE = (attacks.FGSM, attacks.BIM, attacks.DDN, attacks.DeepFool, attacks.FAB, attacks.JSMA)
SHAPE = (8, 7, 3)
TRACES = []


# Their loop is that of another (PGD, SPSA, CarliniWagnerL2, ParameterSearch) or of several, or compiles for long.
SLOW = (
    attacks.AutoAttack,
    attacks.BIM,
    attacks.BoundaryAttack,
    attacks.CarliniWagnerL0,
    attacks.CarliniWagnerLinf,
    attacks.EAD,
    attacks.HopSkipJump,
    attacks.JSMA,
    attacks.MIFGSM,
    attacks.NES,
    attacks.NIFGSM,
    attacks.ParameterPGD,
    attacks.PyramidPGD,
    attacks.RFGSM,
)


@pytest.fixture(scope="module", params=first_of_its_class(ATTACKS, SLOW))
def attack(request):
    """All tests of one in a row share its programs."""
    return request.param


# How an attack is vectorised its settings do not change.
ONE_OF_A_KIND = {type(attack): name for name, attack in reversed(ATTACKS.items())}.values()


def norms_of(attack, delta):
    name = attack.norm if isinstance(attack.norm, str) else type(attack.norm).__name__
    return NORMS[name](np.asarray(delta, np.float64))


def network(scale, images):
    """A small smooth network of fixed weights, its logits scaled; every time it is traced is counted."""
    TRACES.append(None)
    rng = np.random.default_rng(0)
    first = jnp.asarray(rng.normal(size=(3, 3, 3, 8)) / 3, jnp.float32)
    second = jnp.asarray(rng.normal(size=(8 * 56, 5)) / 8, jnp.float32)
    maps = jax.lax.conv_general_dilated(images - 0.5, first, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return scale * (jnp.tanh(maps).reshape(len(images), -1) @ second)


convolutional = jax.tree_util.Partial(network, jnp.float32(1))


def problem(size=6, seed=0):
    images = jnp.asarray(np.random.default_rng(seed).random((size, *SHAPE)), jnp.float32)
    labels = jnp.argmax(convolutional(images), axis=-1).at[-1].add(1) % 5
    return example_keys(jax.random.key(seed), jnp.arange(size)), images, labels


def test_result_is_feasible_and_says_what_it_is(attack):
    keys, images, labels = problem()
    result = attack.run(keys, convolutional, images, labels)
    norms = norms_of(attack, result.images - images) if not isinstance(attack, PARAMETERS) else result.norm
    assert norms.max() <= attack.eps * (1 + 1e-4) + 1e-6
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    np.testing.assert_allclose(result.norm, norms, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(result.success, jnp.argmax(convolutional(result.images), axis=-1) != labels)
    assert bool(result.success[-1]), "it was wrong to begin with"
    assert (result.gradients[:-1] > 0).all() != isinstance(attack, GRADIENT_FREE)
    assert (result.queries > 0).all()
    assert (np.asarray(result.queries) >= np.asarray(result.gradients)).all()
    assert not result.zero_gradient.any()
    assert result.warnings() == []
    gained = attacks.margin(convolutional(result.images), labels) - attacks.margin(convolutional(images), labels)
    assert (gained[:-1] > 0).mean() >= 0.8


def test_radius_zero_is_the_identity(attack):
    keys, images, labels = problem()
    np.testing.assert_allclose(attack(keys, convolutional, images, labels, eps=0.0), images, atol=1e-7)


def test_jit_and_the_batch_do_not_matter(attack):
    """Alone, in another order, beside itself, inside jit: an example's result is its own."""
    keys, images, labels = problem()
    whole = attack(keys, convolutional, images, labels)
    inside = jax.jit(lambda *problem: attack(problem[0], convolutional, *problem[1:]))(keys, images, labels)
    # Of L0, rounding in JAX 0.11 makes 6e-4 of one sub-pixel.
    np.testing.assert_allclose(inside, whole, atol=1e-3 if getattr(attack, "norm", None) == "L0" else 2e-4)
    order = np.array([4, 0, 0, 2, 5, 1])
    np.testing.assert_allclose(
        attack(keys[order], convolutional, images[order], labels[order]), whole[order], atol=2e-4
    )
    alone = attack(keys[1:2], convolutional, images[1:2], labels[1:2])
    np.testing.assert_allclose(alone, whole[1:2], atol=2e-4)


def test_radii_are_one_program(attack):
    """Of each example its own, equal to those of attacks of that radius, without compiling again."""
    keys, images, labels = problem()
    single = attack(keys, convolutional, images, labels)
    before = len(TRACES)
    both = attack(keys, convolutional, images, labels, eps=jnp.array([0.5, 1, 1, 0.5, 1, 2]) * attack.eps)
    other = dataclasses.replace(attack, eps=2 * attack.eps)(keys, convolutional, images, labels)
    # Logits are looked at, by shape and value, on every call.
    assert len(TRACES) <= before + 6
    np.testing.assert_allclose(both[-1], other[-1], atol=2e-4)
    np.testing.assert_allclose(both[1], single[1], atol=2e-4)


@pytest.mark.long
@pytest.mark.parametrize("attack", [ATTACKS[name] for name in ONE_OF_A_KIND], ids=ONE_OF_A_KIND)
def test_members_of_an_ensemble_by_vmap(attack):
    keys, images, labels = problem()
    scales = jnp.array([1.0, 2.0])

    def run(scale):
        return attack(keys, jax.tree_util.Partial(network, scale), images, labels)

    stacked = jax.vmap(run)(scales)
    for result, scale in zip(stacked, scales, strict=True):
        np.testing.assert_allclose(result, run(scale), atol=2e-4)


def test_targeted(attack):
    keys, images, labels = problem()
    targets = (labels + 2) % 5
    if isinstance(attack, UNTARGETED):
        with pytest.raises(ValueError, match="Expected no targets"):
            attack(keys, convolutional, images, labels, targets=targets)
        return
    clean = attacks.cross_entropy(convolutional(images), targets)
    result = attack.run(keys, convolutional, images, labels, targets=targets)
    logits = convolutional(result.images)
    np.testing.assert_array_equal(result.success, jnp.argmax(logits, axis=-1) == targets)
    found = attacks.cross_entropy(logits, targets)
    if isinstance(attack, PARAMETERS):
        # A few parameters do not lead to every class, but no farther than the image as it is.
        assert (result.success | (found <= clean + 1e-5)).all()
    else:
        assert (found < clean).mean() > 0.8


def half_precision(images):
    """Logits in bfloat16, whose gradient at a black patch is NaN."""
    patch = jnp.sqrt(jnp.sum(images[:, :2, :2] ** 2, axis=(1, 2, 3)))
    logits = 4 * network(1.0, images) + patch[:, None] * jnp.arange(5.0)[None]
    # XLA may leave out a conversion and back.
    return jax.lax.reduce_precision(logits, 8, 7).astype(jnp.bfloat16)


@pytest.mark.long
def test_half_precision_and_nan_gradients(attack):
    keys, images, _ = problem()
    images = images.at[0, :2, :2].set(0.0)
    labels = jnp.argmax(half_precision(images), axis=-1)
    result = attack.run(keys, jax.tree_util.Partial(half_precision), images, labels)
    assert {leaf.dtype for leaf in (result.images, result.norm, result.loss)} == {jnp.dtype(jnp.float32)}
    assert jnp.isfinite(result.images).all()
    norms = norms_of(attack, result.images - images) if not isinstance(attack, PARAMETERS) else result.norm
    np.testing.assert_allclose(result.norm, norms, rtol=1e-5, atol=1e-6)
    logits = np.asarray(half_precision(result.images), np.float64)
    gap = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2]
    # Rounding differs between programs, and some images are on the boundary.
    apart = gap > 2**-6 * np.abs(logits).max()
    np.testing.assert_array_equal(np.asarray(result.success)[apart], (logits.argmax(axis=1) != labels)[apart])
    assert not result.nan_gradient[1:].any()
    if type(attack) in AT_THE_IMAGE:
        assert result.nan_gradient[0]
        assert any("NaN or infinite gradients on 16.7%" in text for text in result.warnings())


@pytest.mark.parametrize("attack", [attacks.FGSM(eps=0.1), attacks.DDN(eps=0.5), attacks.DeepFool(steps=3)])
def test_logits_that_are_not_finite_are_no_success(attack):
    """Beyond a step of 0.001 the network overflows, and NaN is the largest of logits to argmax."""
    keys, images, labels = problem()

    def overflows(moved):
        far = jnp.max(jnp.abs(moved - images), axis=(1, 2, 3))[:, None] > 0.001
        return jnp.where(far, jnp.nan, convolutional(moved))

    labels = jnp.argmax(convolutional(images), axis=-1)
    result = attack.run(keys, overflows, images, labels)
    assert not result.success.any()
    assert jnp.isfinite(result.images).all()


SOFT = {name: ATTACKS[name] for name in ONE_OF_A_KIND if ATTACKS[name].soft_labels}


@pytest.mark.parametrize("attack", first_of_its_class(SOFT, {cls for cls in SLOW if cls.soft_labels}))
def test_soft_labels(attack):
    """One-hot labels are classes, to the bit; success is by the most probable class."""
    keys, images, labels = problem()
    loss = getattr(attack, "loss", None)
    if loss != "cross_entropy":
        attack = dataclasses.replace(attack, loss="cross_entropy")
    hard, same = (attack.run(keys, convolutional, images, y) for y in (labels, jax.nn.one_hot(labels, 5)))
    np.testing.assert_array_equal(hard.images, same.images)
    np.testing.assert_array_equal(hard.loss, same.loss)
    probs = 0.6 * jax.nn.one_hot(labels, 5) + 0.4 * jax.nn.one_hot((labels + 1) % 5, 5)
    soft = attack.run(keys, convolutional, images, probs)
    logits = convolutional(soft.images)
    np.testing.assert_array_equal(soft.success, jnp.argmax(logits, axis=-1) != labels)
    if not getattr(attack, "random_target", False):
        expected = -np.sum(probs * jax.nn.log_softmax(logits), axis=1)
        np.testing.assert_allclose(soft.loss, expected, rtol=1e-4)
        with pytest.raises(ValueError, match="use loss='cross_entropy'"):
            dataclasses.replace(attack, loss="margin").run(keys, convolutional, images, probs)


def test_component_is_its_config(attack):
    if getattr(attack, "optimiser", None) is None:
        assert config.from_json(config.to_json(attack)) == attack


BAD = {
    "images": ({"images": 2.0}, "Expected images in"),
    "one image": ({"images": jnp.zeros((8, 7, 3))}, r"\[b, h, w, c\]"),
    "negative eps": ({"eps": -1.0}, "Expected eps >= 0"),
    "nan eps": ({"eps": math.nan}, "Expected eps >= 0"),
    "eps shape": ({"eps": jnp.ones(4)}, "one for each image"),
    "label": ({"labels": jnp.full(6, 5)}, r"labels in \[0, 4\], got 5"),
    "negative label": ({"labels": jnp.full(6, -1)}, "labels >= 0"),
    "soft label": ({"labels": jnp.ones((6, 5))}, "sum to 1, got .* for example 0"),
    "negative soft label": ({"labels": jnp.full((6, 5), 0.5).at[:, 0].set(-1.0)}, "soft labels >= 0"),
    "soft label of other classes": ({"labels": jnp.full((6, 4), 0.25)}, "soft labels of 5 classes, got 4"),
    "soft label shape": ({"labels": jnp.full(6, 0.5)}, r"soft labels \[6, k\]"),
    "target is label": ({"targets": jnp.array([0, 0, 0, 0, 0, 0])}, "other than the labels"),
    "keys": ({"keys": jax.random.key(0)}, "6 keys"),
    "logits": ({"predictor": lambda images: images.sum((1, 2, 3))}, r"logits of shape \[6, k\]"),
    "infinite": ({"predictor": lambda images: jnp.full((6, 5), jnp.inf)}, "finite logits.*example 0"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_input(change, message):
    keys, images, labels = problem()
    labels = labels.at[0].set(0)
    arguments = {
        "keys": keys,
        "predictor": convolutional,
        "images": images,
        "labels": labels,
        "eps": 0.1,
        "targets": None,
    }
    arguments |= change
    if isinstance(arguments["images"], float):
        arguments["images"] = images * 2
    keys, predictor, images, labels = (arguments[name] for name in ("keys", "predictor", "images", "labels"))
    with pytest.raises(ValueError, match=message):
        attacks.PGD()(keys, predictor, images, labels, eps=arguments["eps"], targets=arguments["targets"])


def test_soft_labels_where_there_is_no_use_for_them():
    keys, images, labels = problem()
    with pytest.raises(ValueError, match="6 integer labels"):
        attacks.Square()(keys, convolutional, images, jax.nn.one_hot(labels, 5))


@pytest.mark.parametrize("field", [{"norm": "linf"}, {"loss": "cross_entrop"}, {"keep": "bset"}, {"start": "unifrom"}])
def test_unknown_names(field):
    with pytest.raises(ValueError, match="Did you mean"):
        attacks.PGD(**field)


@pytest.mark.parametrize("field", [{"eps": -1.0}, {"steps": 0}, {"restarts": 0}, {"step_size": 0.0}])
def test_numbers_out_of_range(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.PGD(**field)


def test_probabilities_are_warned_of():
    keys, images, labels = problem()
    with pytest.warns(UserWarning, match="probabilities"):
        attacks.FGSM()(keys, lambda images: jax.nn.softmax(convolutional(images)), images, labels)


def test_dependence_on_the_batch_is_warned_of():
    keys, images, labels = problem()
    in_training = lambda images: convolutional(images - images.mean(axis=(0, 1, 2), keepdims=True) + 0.5)  # noqa: E731
    with pytest.warns(UserWarning, match="depend on the others in its batch"):
        attacks.FGSM()(keys, in_training, images, labels)


def test_zero_gradients_are_told():
    keys, images, labels = problem()
    rounded = lambda images: jnp.round(convolutional(images) * 10)  # noqa: E731
    labels = jnp.argmax(rounded(images), axis=-1)
    result = attacks.FGSM().run(keys, rounded, images, labels)
    assert result.zero_gradient.all()
    assert "Zero gradients on 100.0%" in result.warnings()[0]
