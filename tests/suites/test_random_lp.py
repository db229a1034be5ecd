"""The suites against a plain loop, and what must not change their results."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from tables import long_unless

from robust_jax import data, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.mathematics.lp_noise import add_lp_noise_choice
from robust_jax.mathematics.lp_tables import evaluation_cases, imperceptible_cases
from robust_jax.suites import case as cases

SIZE = 20
SHAPE = (8, 8, 1)
NORMS = tuple(dict.fromkeys(case.p for case in evaluation_cases("cifar")))
IMAGES = np.random.default_rng(0).integers(0, 256, (SIZE, *SHAPE)).astype(np.uint8)
WEIGHTS = np.random.default_rng(1).normal(size=(64, 3), scale=2).astype(np.float32)
LABELS = ((IMAGES / 255).reshape(SIZE, -1) @ WEIGHTS + np.random.default_rng(2).normal(size=(SIZE, 3))).argmax(1)
SOURCE = data.Arrays(test=(IMAGES, LABELS), name="toy", class_names=("a", "b", "c")).load("test")
KEY = jax.random.key(7)
LABEL_COLUMNS = suites.RowLabels(run="r", model="m", seed=3)


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


PREDICTOR = jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS))


def evaluation(*, source=SOURCE, batch_size=8, num_devices=1):
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:num_devices]))


class Counting:
    """An evaluation set that counts how often it is gone through."""

    def __init__(self, wrapped):
        self.wrapped, self.passes = wrapped, 0

    def __getattr__(self, name):
        return getattr(self.wrapped, name)

    def batches(self):
        self.passes += 1
        return self.wrapped.batches()


@pytest.fixture(scope="module")
def result():
    store = suites.CaseStore()
    rows = list(suites.RandomLp().rows(suites.Context(KEY, PREDICTOR, evaluation(), store=store, labels=LABEL_COLUMNS)))
    return rows, store


def tables(store):
    """Per-example tables by case; the folder names differ with the settings."""
    return {case: table for (suite, case), table in store._memory.items() if suite.startswith("random_lp")}


@jax.jit
def corrupted(name_hash, index, eps, image, example):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(KEY, name_hash), 0), example)
    return add_lp_noise_choice(key, image, NORMS, index, eps)


def loop_errors(kind, case):
    """Errors under one case, image by image."""
    name_hash = np.uint32(zlib.crc32(f"{kind} {case.name}".encode()))
    errors = []
    for example in range(SIZE):
        image = corrupted(name_hash, NORMS.index(case.p), case.eps, IMAGES[example] / np.float32(255), example)
        assert image.shape == SHAPE
        errors.append(float((np.asarray(image).ravel() @ WEIGHTS).argmax() != LABELS[example]))
    return np.array(errors)


def test_errors_and_their_means_against_a_loop(result):
    rows, _ = result
    cases = evaluation_cases("cifar", SHAPE)
    expected = {
        label.name: loop_errors("test", case) for label, case in zip(evaluation_cases("cifar"), cases, strict=True)
    }
    measured = {row.case: row for row in rows if row.metric == "error"}
    for name, errors in expected.items():
        assert measured[name].value == pytest.approx(errors.mean()), name
    assert len({round(errors.mean(), 6) for errors in expected.values()}) >= 4
    summary = {row.metric: row for row in rows if row.case in ("all", "imperceptible")}
    per_image = np.mean(list(expected.values()), axis=0)
    assert summary["mCE_Lp"].value == pytest.approx(per_image.mean())
    assert summary["mCE_Lp"].low < per_image.mean() < summary["mCE_Lp"].high

    clean = np.mean((IMAGES.reshape(SIZE, -1) / 255 @ WEIGHTS).argmax(1) != LABELS)
    invisible = [loop_errors("imperceptible", case).mean() for case in imperceptible_cases("cifar", SHAPE)]
    assert clean > 0
    assert summary["iCE"].value == pytest.approx((np.mean(invisible) - clean) / clean, abs=1e-6)


def test_every_case_has_its_rows_and_the_labels_of_the_run(result):
    rows, _ = result
    assert {(row.run, row.model, row.seed, row.dataset, row.suite) for row in rows} == {
        ("r", "m", 3, "toy", "random_lp")
    }
    assert len(rows) == (90 + 6) * 4 + 2
    assert [row.metric for row in rows[:4]] == ["error", "nll", "brier", "ece"]
    assert all(row.count == SIZE for row in rows)
    names = [case.name for case in evaluation_cases("cifar")]
    assert [row.case for row in rows if row.metric == "error"][:90] == names
    by_name = {row.case: row.severity for row in rows if row.metric == "error"}
    # 64 sub-pixels instead of 3072: an L2 ball of the same noise per sub-pixel is √48 times smaller.
    assert by_name["L2 eps=5"] == pytest.approx(5 / 48**0.5)
    assert by_name["Linf eps=0.1"] == 0.1


def test_nll_of_a_case_against_scipy(result):
    rows, _ = result
    label, case = evaluation_cases("cifar")[15], evaluation_cases("cifar", SHAPE)[15]
    name_hash = np.uint32(zlib.crc32(f"test {case.name}".encode()))
    images = [corrupted(name_hash, NORMS.index(case.p), case.eps, IMAGES[i] / np.float32(255), i) for i in range(SIZE)]
    logits = np.stack([np.asarray(image).ravel() @ WEIGHTS for image in images])
    expected = -log_softmax(logits, axis=1)[np.arange(SIZE), LABELS].mean()
    (value,) = [row.value for row in rows if row.case == label.name and row.metric == "nll"]
    assert value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", long_unless(["devices"], ["batch size", "devices", "order", "subset"]))
def test_results_depend_on_neither_batches_nor_devices_nor_order(result, kind):
    order = np.arange(SIZE)
    if kind == "order":
        order = np.random.default_rng(0).permutation(SIZE)
    if kind == "subset":
        order = order[5:12]
    options = {
        "batch size": {"batch_size": 3},
        "devices": {"batch_size": 16, "num_devices": 4},
        "order": {"source": SOURCE.subset(order)},
        "subset": {"source": SOURCE.subset(order)},
    }
    store = suites.CaseStore()
    list(suites.RandomLp().rows(suites.Context(KEY, PREDICTOR, evaluation(**options[kind]), store=store)))
    expected = tables(result[1])
    assert tables(store).keys() == expected.keys()
    for case, table in tables(store).items():
        for metric, values in table.items():
            np.testing.assert_allclose(values, expected[case][metric][order], rtol=2e-4, atol=1e-6, err_msg=case)


def test_one_program_serves_all_cases_and_new_weights():
    traces = []

    def counted(weights, images):
        # Two images are the check of its shapes, which compiles nothing.
        if len(images) != cases.IMAGES_CHECKED:
            traces.append(images.shape)
        return linear(weights, images)

    for scale in (1.0, 2.0):
        list(
            suites.RandomLp().rows(
                suites.Context(KEY, jax.tree_util.Partial(counted, scale * jnp.asarray(WEIGHTS)), evaluation())
            )
        )
        # One for clean images, one for all ninety-six kinds of noisy ones.
        assert len(traces) == 2


def test_rows_come_as_cases_are_done():
    counting = Counting(evaluation())
    rows = suites.RandomLp().rows(suites.Context(KEY, PREDICTOR, counting))
    assert next(rows).case == evaluation_cases("cifar")[0].name
    assert counting.passes == 2


def test_resuming_computes_only_what_is_missing(tmp_path, result):
    suite = suites.RandomLp()
    counting = Counting(evaluation())
    done = []
    options = {"labels": LABEL_COLUMNS, "advance": lambda: done.append(1)}
    first = list(suite.rows(suites.Context(KEY, PREDICTOR, counting, store=suites.CaseStore(tmp_path), **options)))
    assert first == result[0]
    assert counting.passes == 97
    assert len(done) == suite.num_cases == 96
    files = sorted(tmp_path.glob("random_lp*/*.npz"))
    assert len(files) == 96
    files[0].unlink()
    files[50].write_bytes(files[50].read_bytes()[:100])
    with pytest.MonkeyPatch.context() as patch:
        warnings = []
        patch.setattr("robust_jax.suites.store.logger.warning", lambda *arguments: warnings.append(arguments))
        again = list(suite.rows(suites.Context(KEY, PREDICTOR, counting, store=suites.CaseStore(tmp_path), **options)))
    assert again == first
    assert counting.passes == 97 + 2
    assert [arguments[1] for arguments in warnings] == [files[50]]


def test_another_key_or_other_data_are_not_taken_for_finished_ones(result):
    rows, store = result
    before = len(store._memory)
    other = next(suites.RandomLp().rows(suites.Context(jax.random.key(8), PREDICTOR, evaluation(), store=store)))
    assert len(store._memory) == before + 1
    assert other.case == rows[0].case
    list(
        suites.Clean().rows(suites.Context(KEY, PREDICTOR, evaluation(source=SOURCE.subset(np.arange(5))), store=store))
    )
    assert len(store._memory) == before + 2


def test_repeats_are_further_draws(result):
    suite = suites.RandomLp(imperceptible_repeats=2)
    store = suites.CaseStore()
    rows = list(suite.rows(suites.Context(KEY, PREDICTOR, evaluation(), store=store)))
    assert rows[0].value == result[0][0].value
    name = "imperceptible " + imperceptible_cases("cifar", SHAPE)[2].name
    once, twice = tables(result[1])[name]["nll"], tables(store)[name]["nll"]
    assert twice.shape == (SIZE, 2)
    np.testing.assert_array_equal(twice[:, :1], once)
    assert not np.allclose(twice[:, 0], twice[:, 1], atol=1e-7)
    (row,) = [row for row in rows if row.case == "imperceptible L2 eps=0.5" and row.metric == "nll"]
    assert row.value == pytest.approx(twice.mean(), rel=1e-6)
    assert row.count == SIZE


def test_samples_show_what_is_predicted():
    samples = suites.RandomLp().samples(suites.Context(KEY, PREDICTOR, evaluation()), num_images=4)
    assert samples.images.shape == (4, 10, *SHAPE)
    assert samples.images.dtype == np.uint8
    assert samples.titles[:3] == ["clean", "L0", "L0.5"]
    np.testing.assert_array_equal(samples.images[:, 0], IMAGES[:4])
    assert samples.labels == ["abc"[k] for k in LABELS[:4]]
    predicted = (IMAGES[:4].reshape(4, -1) / 255 @ WEIGHTS).argmax(1)
    assert [row[0] for row in samples.predictions] == ["abc"[k] for k in predicted]
    assert (samples.images[:, 1:] != samples.images[:, :1]).any(axis=(0, 2, 3, 4)).all()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="Did you mean 'cifar'"):
        suites.RandomLp(table="cifra")
    with pytest.raises(ValueError, match="repeats > 0"):
        suites.RandomLp(repeats=0)
    assert hash(suites.RandomLp()) == hash(dataclasses.replace(suites.RandomLp()))
