import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve

from robust_jax import data, metrics, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.suites import case as cases

SIZE = 50
IMAGES = np.random.default_rng(0).integers(0, 256, (SIZE, 4, 4, 1)).astype(np.uint8)
WEIGHTS = np.random.default_rng(1).normal(size=(16, 3), scale=2).astype(np.float32)
LABELS = np.random.default_rng(2).integers(0, 3, SIZE)
LOGITS = IMAGES.reshape(SIZE, -1).astype(np.float32) / 255 @ WEIGHTS
KEY = jax.random.key(0)


def evaluation(batch_size=16):
    source = data.Arrays(test=(IMAGES, LABELS), name="toy").load("test")
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:2]))


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


class Unhashable:
    """A callable that compares by value and so has no hash, as modules of other libraries."""

    __hash__ = None

    def __init__(self, weights):
        self.weights = weights

    def __eq__(self, other):
        raise AssertionError("weights must not be compared")

    def __call__(self, images):
        return linear(self.weights, images)


PREDICTORS = {
    "partial": jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS)),
    "closure": lambda images: linear(WEIGHTS, images),
    "functools": functools.partial(linear, WEIGHTS),
    "jitted": jax.jit(lambda images: linear(WEIGHTS, images)),
    "unhashable": Unhashable(jnp.asarray(WEIGHTS)),
}


@pytest.mark.parametrize("kind", PREDICTORS)
def test_summaries_of_any_callable_against_a_loop(kind):
    rows = list(suites.Clean().rows(suites.Context(KEY, PREDICTORS[kind], evaluation())))
    value = {row.metric: row.value for row in rows if row.case == "clean"}
    probs = softmax(LOGITS, axis=1)
    predicted, confidence = probs.argmax(1), probs.max(1)
    assert value["error"] == pytest.approx(np.mean(predicted != LABELS))
    assert value["nll"] == pytest.approx(np.mean([-np.log(p[k]) for p, k in zip(probs, LABELS, strict=True)]), rel=1e-5)
    assert value["brier"] == pytest.approx(np.mean(((probs - np.eye(3)[LABELS]) ** 2).sum(1)), rel=1e-5)
    ece = metrics.expected_calibration_error(confidence, predicted == LABELS)
    assert value["ece"] == pytest.approx(ece, rel=1e-5)
    assert all(row.low <= row.value <= row.high for row in rows if row.metric in ("error", "nll", "brier"))


def test_an_unhashable_callable_is_compiled_once():
    traces = []

    class Counted(Unhashable):
        def __call__(self, images):
            # Two images are the check of its shapes, which compiles nothing.
            if len(images) != cases.IMAGES_CHECKED:
                traces.append(1)
            return super().__call__(images)

    predictor = Counted(jnp.asarray(WEIGHTS))
    for _ in range(3):
        list(suites.Clean().rows(suites.Context(KEY, predictor, evaluation())))
    assert len(traces) == 1


def test_reliability_rows_against_scikit_learn():
    rows = list(suites.Clean(num_bins=10).rows(suites.Context(KEY, PREDICTORS["partial"], evaluation())))
    bins = [row for row in rows if row.case.startswith("bin ")]
    probs = softmax(LOGITS, axis=1)
    accuracy, confidence = calibration_curve(probs.argmax(1) == LABELS, probs.max(1), n_bins=10)
    np.testing.assert_allclose([row.value for row in bins if row.metric == "accuracy"], accuracy, rtol=1e-5)
    np.testing.assert_allclose([row.value for row in bins if row.metric == "confidence"], confidence, rtol=1e-5)
    assert sum(row.count for row in bins if row.metric == "accuracy") == SIZE
    low, high = bins[0].case.removeprefix("bin ").split("-")
    assert float(low) < bins[0].value <= float(high)


def test_interval_of_the_ece_is_corrected_for_its_bias():
    rows = list(suites.Clean().rows(suites.Context(KEY, PREDICTORS["partial"], evaluation())))
    (row,) = [row for row in rows if row.metric == "ece"]
    probs = softmax(LOGITS, axis=1)
    gaps = metrics.binned_gaps(probs.max(1), probs.argmax(1) == LABELS)
    expected = metrics.bootstrap_interval(gaps, lambda means: np.abs(means).sum(axis=-1), method="basic")
    assert (row.low, row.high) == pytest.approx((max(expected.low, 0), expected.high), rel=1e-4)


@pytest.mark.parametrize("batch_size", [2, 7, 64])
def test_padding_does_not_count(batch_size):
    expected = list(suites.Clean().rows(suites.Context(KEY, PREDICTORS["partial"], evaluation())))
    rows = list(suites.Clean().rows(suites.Context(KEY, PREDICTORS["partial"], evaluation(batch_size))))
    assert [row.count for row in rows] == [row.count for row in expected]
    np.testing.assert_allclose([row.value for row in rows], [row.value for row in expected], rtol=1e-5)


def test_evaluate_runs_every_suite_and_counts_its_cases():
    class Two(suites.Suite):
        """A suite of somebody's own, without anything it need not have."""

        def rows(self, context):
            for case in ("a", "b"):
                context.advance()
                yield case

    fractions = []
    context = suites.Context(KEY, PREDICTORS["partial"], evaluation(), advance=fractions.append)
    rows = suites.evaluate({"clean": suites.Clean(), "own": Two()}, context)
    assert fractions == [1.0, 1.0, 1.0]
    assert rows[-2:] == ["a", "b"]
    assert rows[:-2] == list(suites.Clean().rows(suites.Context(KEY, PREDICTORS["partial"], evaluation())))


@pytest.mark.parametrize("folder", [True, False], ids=["folder", "memory"])
def test_store_keeps_tables_apart(tmp_path, folder):
    store = suites.CaseStore(tmp_path if folder else None)
    assert store.get("s", "L2 eps=0.5") is None
    store.put("s", "L2 eps=0.5", {"error": np.arange(3.0), "nll": np.ones((3, 2))})
    store.put("s", "L2 eps=5", {"error": np.zeros(3)})
    table = store.get("s", "L2 eps=0.5")
    np.testing.assert_array_equal(table["error"], [0, 1, 2])
    assert table["nll"].shape == (3, 2)
    assert store.get("other", "L2 eps=0.5") is None
    if folder:
        again = suites.CaseStore(tmp_path)
        np.testing.assert_array_equal(again.get("s", "L2 eps=5")["error"], np.zeros(3))
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".npz"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "object"])
def test_damaged_files_are_missing_and_named(tmp_path, caplog, damage):
    store = suites.CaseStore(tmp_path)
    store.put("s", "case", {"error": np.arange(100.0)})
    (path,) = tmp_path.rglob("*.npz")
    content = {"truncated": path.read_bytes()[:400], "empty": b"", "text": b"hello"}
    if damage == "object":
        np.savez(path, error=np.array([{}], dtype=object))
    else:
        path.write_bytes(content[damage])
    with caplog.at_level(logging.WARNING):
        assert store.get("s", "case") is None
    assert str(path) in caplog.text
    store.put("s", "case", {"error": np.arange(2.0)})
    assert len(store.get("s", "case")["error"]) == 2


@pytest.mark.parametrize(
    "predictor",
    [
        lambda images: images.reshape(len(images), -1) @ jnp.asarray(WEIGHTS)[:, :2],
        lambda images: jnp.sum(images.reshape(len(images), -1) @ jnp.asarray(WEIGHTS), axis=0)[None],
    ],
    ids=["classes", "examples"],
)
@pytest.mark.parametrize("suite", [suites.Clean(), suites.RandomLp(), suites.Adversarial()], ids=["clean", "lp", "pgd"])
def test_logits_of_another_shape_are_named_before_anything_is_computed(suite, predictor):
    with pytest.raises(ValueError, match=r"Expected logits of shape \[b, 3\] for the 3 classes of toy, got \(\d, \d\)"):
        next(iter(suite.rows(suites.Context(KEY, predictor, evaluation()))))


def test_what_cannot_predict_is_named():
    with pytest.raises(TypeError, match="a callable from images to logits, got dict"):
        list(suites.Clean().rows(suites.Context(KEY, {"params": WEIGHTS}, evaluation())))
