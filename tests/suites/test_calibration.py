"""Calibration by shift and the members' diversity against plain loops; what is shared, resumed and refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, special, stats

from robust_jax import config, corruptions, data, metrics, suites
from robust_jax.core.keys import named_key
from robust_jax.core.mesh import data_mesh
from robust_jax.predictors import ensemble

SIZE = 30
SHAPE = (12, 14, 1)
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (SIZE, *SHAPE)).astype(np.uint8)
PIXELS = IMAGES / 255
WEIGHTS = GENERATOR.normal(size=(2, math.prod(SHAPE), 3)).astype(np.float32)
LABELS = (PIXELS.reshape(SIZE, -1) @ WEIGHTS[0] + GENERATOR.normal(size=(SIZE, 3))).argmax(axis=1)
KEY = jax.random.key(3)
SUITE = suites.Calibration(("brightness",), severities=(2, 4), rotations=(30.0, -90.0), translations=(3,))


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


MEMBERS = [jax.tree_util.Partial(linear, jnp.asarray(weights)) for weights in WEIGHTS]


def evaluation(batch_size=8, num_devices=1):
    source = data.Arrays(test=(IMAGES, LABELS), name="toy", class_names=("a", "b", "c")).load("test")
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:num_devices]))


def rows_of(suite, predictor=MEMBERS[0], *, store=None, **options):
    return list(suite.rows(suites.Context(KEY, predictor, evaluation(**options), store=store or suites.CaseStore())))


@pytest.fixture(scope="module")
def rows():
    return rows_of(SUITE)


def find(rows, case, metric, severity=None):
    (row,) = [row for row in rows if (row.case, row.metric, row.severity) == (case, metric, severity)]
    return row


def turned(images, degrees):
    # Scipy turns against the clock where rows go down.
    return np.stack([ndimage.rotate(i, -degrees, reshape=False, order=1, mode="grid-constant") for i in images])


def brightened(severity):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(named_key(KEY, "brightness"), jnp.arange(SIZE))
    return np.asarray(corruptions.corrupt_batch(keys, jnp.asarray(PIXELS, jnp.float32), "brightness", severity))


SHIFTED = {
    ("clean", 0.0): lambda: PIXELS,
    ("brightness", 2.0): lambda: brightened(2),
    ("brightness", 4.0): lambda: brightened(4),
    ("rotation", -90.0): lambda: turned(PIXELS, -90),
    ("rotation", 30.0): lambda: turned(PIXELS, 30),
    ("translation", 3.0): lambda: np.roll(PIXELS, 3, axis=2),
}


@pytest.mark.parametrize("place", SHIFTED, ids=lambda place: f"{place[0]} {place[1]:g}")
def test_cases_against_a_loop(rows, place):
    probs = special.softmax(SHIFTED[place]().reshape(SIZE, -1) @ WEIGHTS[0], axis=1)
    wrong = probs.argmax(axis=1) != LABELS
    expected = {
        "error": wrong.mean(),
        "nll": -np.log(probs[np.arange(SIZE), LABELS]).mean(),
        "brier": np.mean(((probs - np.eye(3)[LABELS]) ** 2).sum(axis=1)),
        "ece": metrics.expected_calibration_error(probs.max(axis=1), ~wrong),
        "entropy": stats.entropy(probs, axis=1).mean(),
    }
    for metric, value in expected.items():
        row = find(rows, place[0], metric, place[1])
        assert row.value == pytest.approx(value, rel=1e-3, abs=1e-4)
        assert row.count == SIZE
    assert len({row.value for row in rows if row.metric == "nll"}) == len(SHIFTED)


def test_means_are_those_of_the_cases(rows):
    kinds = {"corruptions": ["brightness"], "rotation": ["rotation"], "translation": ["translation"]}
    for kind, cases in kinds.items():
        for metric in ("error", "nll", "brier", "entropy", "ece"):
            mean = np.mean([row.value for row in rows if row.case in cases and row.metric == metric])
            assert find(rows, kind, f"mean_{metric}").value == pytest.approx(mean, rel=1e-5)
    assert SUITE.num_cases == 6 == len([row for row in rows if row.metric == "ece"])


def test_risk_over_coverage(rows):
    probs = special.softmax(PIXELS.reshape(SIZE, -1) @ WEIGHTS[0], axis=1)
    confidence, wrong = probs.max(axis=1), (probs.argmax(axis=1) != LABELS).astype(float)
    assert 0 < wrong.sum() < SIZE
    for name, area in (("aurc", metrics.aurc), ("e_aurc", metrics.excess_aurc), ("augrc", metrics.augrc)):
        row = find(rows, "clean", name, 0.0)
        assert row.value == pytest.approx(area(confidence, wrong))
        assert row.low < row.value < row.high
    curve = [row for row in rows if row.case == "coverage"]
    assert [row.severity for row in curve] == pytest.approx(np.arange(1, 21) / 20)
    assert [row.value for row in curve] == [metrics.risk_at_coverage(confidence, wrong, row.severity) for row in curve]


def test_measures_of_all_classes(rows):
    logits = PIXELS.reshape(SIZE, -1) @ WEIGHTS[0].astype(float)
    probs = special.softmax(logits, axis=1)
    top = probs.max(axis=1), probs.argmax(axis=1) == LABELS
    parts = metrics.brier_decomposition(probs, LABELS)
    expected = {
        "calibrated_nll": metrics.calibrated_nll(logits, LABELS),
        "adaptive_ece": metrics.adaptive_calibration_error(*top),
        "classwise_ece": metrics.classwise_calibration_error(probs, LABELS),
        "rmsce": metrics.root_mean_squared_calibration_error(*top),
        "mce": metrics.maximum_calibration_error(*top),
        "reliability": parts.reliability,
        "resolution": parts.resolution,
    }
    for metric, value in expected.items():
        assert find(rows, "clean", metric, 0.0).value == pytest.approx(value, rel=1e-4), metric
    row = find(rows, "clean", "calibrated_nll", 0.0)
    assert row.low < row.value < row.high


def test_batches_and_devices_do_not_matter_and_corruptions_are_shared(rows, tmp_path):
    store = suites.CaseStore(tmp_path)
    common = suites.CommonCorruptions(("brightness",), severities=(2, 4))
    list(common.rows(suites.Context(KEY, MEMBERS[0], evaluation(), store=store)))
    done = len(list(tmp_path.rglob("*.npz")))
    again = rows_of(SUITE, store=store, batch_size=30, num_devices=2)
    assert len(list(tmp_path.rglob("*.npz"))) == done + 4, "two rotations, a translation, probabilities"
    np.testing.assert_allclose([r.value for r in again], [r.value for r in rows], rtol=1e-4, atol=1e-6)
    # Another predictor under the same store: nothing is computed.
    assert rows_of(SUITE, MEMBERS[1], store=store) == again


def test_geometry_alone_and_bad_settings():
    alone = suites.Calibration((), rotations=(15.0,))
    assert {row.case for row in rows_of(alone)} == {"clean", "coverage", "rotation"}
    assert config.from_json(config.to_json(SUITE)) == SUITE
    samples = SUITE.samples(suites.Context(KEY, MEMBERS[0], evaluation()), num_images=2)
    assert samples.titles == ["clean", "brightness", "rotation 30", "translation 3"]
    with pytest.raises(ValueError, match="got none"):
        suites.Calibration(())
    with pytest.raises(ValueError, match="rotations other than 0"):
        suites.Calibration(rotations=(0.0, 15.0))
    with pytest.raises(ValueError, match="Did you mean 'brightness'"):
        suites.Calibration(("brightnes",))
    with pytest.raises(ValueError, match="translations below 14"):
        rows_of(dataclasses.replace(alone, translations=(14,)))


def test_diversity_against_a_loop():
    rows = rows_of(suites.Diversity(), ensemble(MEMBERS))
    logits = np.stack([PIXELS.reshape(SIZE, -1) @ weights for weights in WEIGHTS.astype(float)])
    probs, predicted = special.softmax(logits, axis=2), logits.argmax(axis=2)
    errors = (predicted != LABELS).mean(axis=1)
    differ = np.mean(predicted[0] != predicted[1])
    kl = np.mean([stats.entropy(probs[i], probs[1 - i], axis=1) for i in (0, 1)])
    information = stats.entropy(probs.mean(axis=0), axis=1) - stats.entropy(probs, axis=2).mean(axis=0)
    expected = {
        ("all", "disagreement"): differ,
        ("members 0-1", "disagreement"): differ,
        ("all", "normalised_disagreement"): differ / errors.mean(),
        ("all", "kl_divergence"): kl,
        ("all", "mutual_information"): information.mean(),
        ("all", "member_error"): errors.mean(),
        ("member 1", "error"): errors[1],
        ("all", "member_nll"): -np.log(probs[:, np.arange(SIZE), LABELS]).mean(),
    }
    assert {(row.case, row.metric) for row in rows} == {*expected, ("member 0", "error")}
    for (case, metric), value in expected.items():
        row = find(rows, case, metric)
        assert row.value == pytest.approx(value, rel=1e-4), metric
        assert row.low <= row.value <= row.high


def test_one_network_has_no_diversity():
    assert rows_of(suites.Diversity()) == []
    assert rows_of(suites.Diversity(), ensemble(MEMBERS[:1])) == []
    many = rows_of(suites.Diversity(), ensemble(MEMBERS * 6))
    assert len([row for row in many if row.case.startswith("members")]) == 45
