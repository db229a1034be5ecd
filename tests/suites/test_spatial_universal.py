"""Errors under rotations and translations, and what universal perturbations do, recomputed outside the suites."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import attacks, config, data, predictors, suites
from robust_jax.core.keys import example_keys, named_key
from robust_jax.core.mesh import data_mesh

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(192, 16)) / 6, RNG.normal(size=(16, 3))


@jax.tree_util.Partial
def network(images):
    hidden = jnp.tanh((images.reshape(len(images), -1) - 0.5) @ jnp.asarray(FIRST, jnp.float32))
    return hidden @ jnp.asarray(SECOND, jnp.float32)


def examples():
    images = np.uint8(255 * np.random.default_rng(1).random((40, 8, 8, 3)))
    labels = np.asarray(jnp.argmax(network(jnp.asarray(images / 255, jnp.float32)), axis=-1)).astype(np.int64)
    labels[:3] = (labels[:3] + 1) % 3
    return images, labels


def evaluation(batch_size=16):
    source = data.Arrays(test=examples(), name="toy").load("test")
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh())


def arrays():
    images, labels = examples()
    return jnp.asarray(images / 255, jnp.float32), jnp.asarray(labels)


def by_case(rows, metric="error"):
    return {row.case: row for row in rows if row.metric == metric}


@pytest.mark.long
def test_spatial_errors():
    suite = suites.Spatial(attacks.Spatial(shift=0.1, degrees=20.0), draws=4, first_order_steps=3, grid=(2, 2, 3))
    store = suites.CaseStore()
    progress = []
    rows = list(
        suite.rows(
            suites.Context(KEY, network, evaluation(40), store=store, advance=lambda share=1.0: progress.append(share))
        )
    )
    errors = by_case(rows)
    assert list(errors) == ["random", "worst of 4", "first order", "grid"]
    np.testing.assert_allclose(sum(progress), suite.num_cases)
    images, labels = arrays()
    keys = example_keys(named_key(KEY, "adversarial"), jnp.arange(40))
    for case, attack in suite.attacks.items():
        expected = attack.run(keys, network, images, labels).success
        np.testing.assert_allclose(errors[case].value, expected.mean())
        correct = np.asarray(jnp.argmax(network(images), axis=-1) == labels)
        rate = by_case(rows, "success_rate")[case]
        assert rate.count == correct.sum() == 37
        np.testing.assert_allclose(rate.value, np.asarray(expected)[correct].mean())
    keys = example_keys(named_key(KEY, "spatial"), jnp.arange(40))
    points = jax.vmap(lambda key, image: suite.threat.random(key, image, 1.0))(keys, images)
    turned = jax.vmap(suite.threat.apply)(points, images)
    wrong = jnp.argmax(network(turned), axis=-1) != labels
    np.testing.assert_allclose(errors["random"].value, wrong.mean())
    assert errors["random"].value < errors["worst of 4"].value

    def refuse(images):
        raise AssertionError("finished cases are read from the store")

    again = list(suite.rows(suites.Context(KEY, jax.tree_util.Partial(refuse), evaluation(40), store=store)))
    assert again == rows


def test_spatial_cases_can_be_left_out():
    suite = suites.Spatial(draws=0, grid=None)
    assert suite.num_cases == 1
    assert [row.case for row in suite.rows(suites.Context(KEY, network, evaluation()))] == ["random"]
    assert config.from_json(config.to_json(suite)) == suite


@pytest.mark.long
def test_spatial_votes():
    """The majority is counted by hand; the store of the classifier's own cases is left alone."""
    suite = suites.Spatial(attacks.Spatial(shift=0.1, degrees=20.0), draws=3, grid=None, votes=5)
    store = suites.CaseStore()
    plain = list(dataclasses.replace(suite, votes=0).rows(suites.Context(KEY, network, evaluation(), store=store)))
    rows = list(suite.rows(suites.Context(KEY, network, evaluation(), store=store)))
    errors = by_case(rows)
    assert list(errors) == ["clean, vote of 5", "random, vote of 5", "worst of 3, vote of 5"]
    images, labels = arrays()
    keys = [jax.random.fold_in(named_key(named_key(KEY, "vote"), "draw"), number) for number in range(5)]
    votes = np.zeros((40, 3))
    for key in keys:
        point = suite.threat.random(key, images[0], 1.0)
        turned = jax.vmap(suite.threat.apply, (None, 0))(point, images)
        votes[np.arange(40), np.argmax(network(turned), axis=-1)] += 1
    decided = np.sort(votes, axis=1)[:, -1] > np.sort(votes, axis=1)[:, -2]
    turned = predictors.through(network, lambda key, image: transformed(suite, key, image))
    voting = predictors.Vote(turned, named_key(KEY, "vote"), 5)
    logits = voting(images)
    np.testing.assert_allclose(jnp.exp(logits).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(np.argmax(logits, axis=1)[decided], votes.argmax(axis=1)[decided])
    assert decided.mean() > 0.5
    wrong = np.argmax(logits, axis=1) != labels
    np.testing.assert_allclose(errors["clean, vote of 5"].value, wrong.mean())
    assert errors["clean, vote of 5"].value <= errors["worst of 3, vote of 5"].value
    assert (
        list(dataclasses.replace(suite, votes=0).rows(suites.Context(KEY, network, evaluation(), store=store))) == plain
    )
    with pytest.raises(ValueError, match="Expected a Randomised predictor"):
        predictors.Vote(network, KEY, 3)


def transformed(suite, key, image):
    return suite.threat.apply(suite.threat.random(key, image, 1.0), image)


def counted(target):
    images, labels = (values[16:36] for values in arrays())
    counts = (np.asarray(labels) != target) & (np.asarray(jnp.argmax(network(images), axis=-1)) != target)
    return images[counts], labels[counts], np.arange(16, 36)[counts]


SETTINGS = {"num_fit": 16, "num_test": 20, "patch": 4, "stride": 2, "offsets": (-1, 0, 2), "targets": (0, 2)}
UNIVERSAL = attacks.UniversalPGD(eps=0.15, steps=10, batch_size=8)
SINGLE = attacks.PGD(eps=0.05, steps=5, start="zero")


@pytest.mark.long
@pytest.mark.parametrize("attack", [UNIVERSAL, SINGLE], ids=["universal", "per image"])
def test_universal_metrics(attack):
    suite = suites.Universal(attack, **SETTINGS)
    rows = {row.metric: row for row in suite.rows(suites.Context(KEY, network, evaluation()))}
    images, labels = arrays()
    parts = {"whole": [], "other": [], "patch": [], "moved": []}
    for target in suite.targets:
        key = jax.random.fold_in(named_key(KEY, "universal"), target)
        some, classes, ids = counted(target)
        targets = jnp.full(len(some), target)
        if attack == UNIVERSAL:
            delta = attack.fit(key, network, images[:16], labels[:16], target=target)
            delta = jnp.broadcast_to(delta, some.shape)
        else:
            delta = attack(example_keys(key, jnp.asarray(ids)), network, some, classes, targets=targets) - some
        of = lambda delta: np.asarray(jnp.argmax(network(jnp.clip(some + delta, 0, 1)), -1) == target)  # noqa: B023, E731
        parts["whole"].append(of(delta))
        parts["other"].append(of(jnp.roll(delta, -1, axis=0)))
        masks = np.zeros((9, 1, 8, 8, 1), np.float32)
        for place, (row, column) in enumerate(np.ndindex(3, 3)):
            masks[place, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] = 1
        parts["patch"].append(np.any([of(mask * delta) for mask in masks], axis=0))
        offsets = [(i, j) for i in (-1, 0, 2) for j in (-1, 0, 2) if (i, j) != (0, 0)]
        parts["moved"].append(np.mean([of(jnp.roll(delta, offset, (1, 2))) for offset in offsets], axis=0))
    means = {name: np.concatenate(values).mean() for name, values in parts.items()}
    assert rows["success_rate"].count == sum(len(part) for part in parts["whole"])
    assert rows["success_rate"].severity == attack.eps
    assert means["whole"] > 0
    for metric, expected in {
        "success_rate": means["whole"],
        "transfer_rate": means["other"],
        "locality": means["patch"] / means["whole"],
        "translation_invariance": means["moved"] / means["whole"],
    }.items():
        np.testing.assert_allclose(rows[metric].value, expected, atol=1e-6)
        assert rows[metric].low <= rows[metric].value <= rows[metric].high
    if attack == UNIVERSAL:
        assert rows["transfer_rate"].value == rows["success_rate"].value


@pytest.mark.long
def test_universal_goes_on_where_it_was_and_shows_samples():
    suite = suites.Universal(UNIVERSAL, **SETTINGS)
    store = suites.CaseStore()
    rows = list(suite.rows(suites.Context(KEY, network, evaluation(), store=store)))

    def refuse(images):
        raise AssertionError("finished targets are read from the store")

    assert list(suite.rows(suites.Context(KEY, jax.tree_util.Partial(refuse), evaluation(), store=store))) == rows
    for one in (suite, suites.Universal(SINGLE, **SETTINGS), suites.Spatial(grid=None)):
        samples = one.samples(suites.Context(KEY, network, evaluation()), num_images=3)
        assert samples.images.shape[0] == 3
        assert len(samples.titles) == samples.images.shape[1] == 3
    assert config.from_json(config.to_json(suite)) == suite


def test_no_success_has_no_ratio():
    suite = suites.Universal(attacks.UniversalPGD(eps=0.0, steps=1), **SETTINGS)
    rows = {row.metric: row.value for row in suite.rows(suites.Context(KEY, network, evaluation()))}
    assert rows == {"success_rate": 0.0, "transfer_rate": 0.0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": ()}, "at least one target"),
        ({"offsets": (0,)}, "other than 0"),
        ({"patch": 0}, "patch > 0"),
        ({"num_fit": 40}, "more than num_fit=40"),
        ({"targets": (3,)}, r"targets in \[0, 2\]"),
    ],
)
def test_bad_input(fields, message):
    with pytest.raises(ValueError, match=message):
        list(suites.Universal(UNIVERSAL, **SETTINGS | fields).rows(suites.Context(KEY, network, evaluation())))


def test_bad_spatial_fields():
    for fields in ({"draws": -1}, {"first_order_steps": -1}, {"grid": (3, 3)}):
        with pytest.raises(ValueError, match=r"draws|first_order_steps|grid"):
            suites.Spatial(**fields)
