"""AutoAttack: no weaker than its parts, leaves out what is broken, and says what broke what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.test_attacks import convolutional, problem

from robust_jax import attacks
from robust_jax.attacks.autoattack import CODES
from robust_jax.attacks.inputs import make_problem
from robust_jax.attacks.survivors import rows_of
from robust_jax.predictors import as_predictor

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:AutoAttack")]
SMALL = {
    "Linf": attacks.AutoAttack(eps=0.012, steps=10, queries=50),
    "L2": attacks.AutoAttack(norm="L2", eps=0.12, steps=10, queries=50),
    "L1": attacks.AutoAttack(norm="L1", eps=0.8, steps=10, queries=50),
    "plus": attacks.AutoAttack(version="plus", eps=0.012, steps=5, queries=20),
}


@pytest.mark.parametrize("attack", SMALL.values(), ids=SMALL)
def test_no_weaker_than_its_parts(attack):
    """Robust is what no part breaks, each alone, with its keys as a part of the whole."""
    # More than a batch of the least size where compiling is quick.
    size = 24 if attack == SMALL["Linf"] else 8
    keys, images, labels = problem(size)
    whole = attack.run(keys, convolutional, images, labels)
    assert 0 < whole.success[:-1].sum() < size - 1
    predictor = as_predictor(convolutional)
    parts = make_problem(keys, images, labels, attack.eps, None)
    broken = jnp.argmax(convolutional(images), axis=-1) != labels
    for number, name in enumerate(attack.stages):
        found = attacks.Stage(whole=attack, name=name).solve(predictor, parts)
        assert (whole.success | ~found.success).all(), name
        np.testing.assert_array_equal(whole.broken_by == CODES[name], found.success & ~broken, name)
        broken = broken | found.success
        np.testing.assert_array_equal(whole.robust_after(*attack.stages[: number + 1]), ~broken)
    np.testing.assert_array_equal(whole.success, broken)
    np.testing.assert_array_equal(whole.broken_by == 0, jnp.arange(size) == size - 1)
    np.testing.assert_allclose(whole.loss, attacks.margin(convolutional(whole.images), labels), atol=1e-5)


def test_settings_are_those_published():
    standard = attacks.AutoAttack(eps=0.1)
    assert standard.stages == ("apgd-ce", "apgd-t", "fab-t", "square")
    common = {"eps": 0.1, "early_stop": True}
    assert standard.stage("apgd-ce") == attacks.APGD(**common)
    assert standard.stage("apgd-t") == attacks.APGDT(**common, num_targets=9)
    assert standard.stage("fab-t") == attacks.FABT(**common, num_targets=9)
    assert standard.stage("square") == attacks.Square(eps=0.1, queries=5000)
    l1 = attacks.AutoAttack(norm="L1", eps=12.0)
    common = {"norm": "L1", "eps": 12.0, "early_stop": True}
    assert l1.stage("apgd-ce") == attacks.APGD(**common, restarts=5, large_radii=True)
    assert l1.stage("apgd-t") == attacks.APGDT(**common, num_targets=5, large_radii=True)
    plus = attacks.AutoAttack(version="plus")
    assert plus.stages == ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
    assert plus.stage("apgd-dlr") == attacks.APGD(early_stop=True, restarts=5, loss="dlr")
    assert plus.stage("fab") == attacks.FAB(eps=8 / 255, early_stop=True, restarts=5)
    assert plus.stage("apgd-t") == attacks.APGDT(early_stop=True)
    rand = attacks.AutoAttack(version="rand")
    assert rand.stages == ("apgd-ce", "apgd-dlr")
    assert rand.stage("apgd-ce").num_draws == 20


@pytest.mark.parametrize(("classes", "targets", "loss"), [(2, 1, "difference"), (3, 2, "difference"), (5, 4, None)])
def test_few_classes(classes, targets, loss):
    """Fewer targets, and where the targeted DLR is undefined, a difference of logits; with a warning."""
    keys, images, _ = problem()
    few = jax.tree_util.Partial(lambda images: convolutional(images)[:, :classes])
    labels = jnp.argmax(few(images), axis=-1)
    attack = attacks.AutoAttack(eps=0.05, steps=5, queries=10)
    stage = attack.stage("apgd-t", classes)
    assert (stage.num_targets, stage.loss) == (targets, loss or "targeted_dlr")
    with pytest.warns(UserWarning, match=f"{classes} classes, so {targets} targets"):
        result = attack.run(keys, few, images, labels)
    assert result.success.any()


def test_rows_are_padded_to_few_sizes():
    for count, size in [(1, 8), (8, 8), (9, 16), (33, 64), (65, 100), (100, 100)]:
        active = np.zeros(100, bool)
        active[np.random.default_rng(count).permutation(100)[:count]] = True
        rows = rows_of(active)
        assert len(rows) == size
        np.testing.assert_array_equal(np.unique(rows), np.flatnonzero(active))
    assert rows_of(np.zeros(100, bool)).size == 0
    assert len(rows_of(np.ones(3, bool))) == 3


@pytest.mark.parametrize("attack", [attacks.PGD(steps=5), SMALL["Linf"]], ids=["pgd", "autoattack"])
def test_sweep_is_a_run_at_each_radius(attack):
    """Beyond the radius that breaks an example, its result stays the same."""
    size = 24 if isinstance(attack, attacks.PGD) else 8
    keys, images, labels = problem(size)
    radii = (0.02, 0.005, 0.01)
    swept = attack.sweep(keys, convolutional, images, labels, radii)
    inside = jax.jit(lambda keys, images, labels: attack.sweep(keys, convolutional, images, labels, radii))
    broken, last = np.zeros(size, bool), None
    for place in np.argsort(radii):
        alone = attack.run(keys, convolutional, images, labels, eps=radii[place])
        at_radius = jax.tree.map(lambda leaf, place=place: leaf[place], swept)
        np.testing.assert_allclose(at_radius.images[~broken], alone.images[~broken], atol=2e-4)
        if last is not None:
            np.testing.assert_array_equal(at_radius.images[broken], last.images[broken])
        assert (at_radius.norm <= radii[place] * (1 + 1e-5) + 1e-6).all()
        broken, last = broken | np.asarray(alone.success), at_radius
        np.testing.assert_array_equal(at_radius.success, broken)
    np.testing.assert_array_equal(inside(keys, images, labels).success, swept.success)


@pytest.mark.parametrize(
    "field", [{"norm": "L3"}, {"version": "standart"}, {"steps": 0}, {"eps": -1.0}, {"queries": 0}]
)
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.AutoAttack(**field)


def test_no_radius_to_sweep():
    keys, images, labels = problem()
    with pytest.raises(ValueError, match="at least one radius"):
        attacks.PGD().sweep(keys, convolutional, images, labels, ())


def test_square_after_hidden_gradients_is_told():
    keys, images, _ = problem()
    hidden = jax.tree_util.Partial(lambda images: jnp.round(convolutional(images) * 50) / 50)
    labels = jnp.argmax(hidden(images), axis=-1)
    result = attacks.AutoAttack(eps=0.1, steps=3, queries=100).run(keys, hidden, images, labels)
    assert (result.broken_by == CODES["square"]).any()
    blind, square = result.warnings()
    assert "Zero gradients" in blind
    assert "Square broke" in square
    with pytest.raises(ValueError, match="Did you mean 'apgd-t'"):
        result.robust_after("apgdt")
