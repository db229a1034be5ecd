"""Suites of shifted and of published corrupted sets against plain loops; what is shared, resumed and refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from robust_jax import config, data, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.suites import case as cases

SIZE = 60
SHAPE = (6, 5, 3)
CLASSES = ("ant", "bee", "cat", "dog")
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (SIZE, *SHAPE)).astype(np.uint8)
WEIGHTS = GENERATOR.normal(size=(90, 4), scale=0.7).astype(np.float32)


def logits_of(images):
    return images.reshape(len(images), -1) / np.float32(255) @ WEIGHTS


LABELS = (logits_of(IMAGES) + GENERATOR.normal(size=(SIZE, 4), scale=2)).argmax(1)
# Of two classes, in another order and under other names.
SHIFTED = GENERATOR.integers(0, 256, (40, *SHAPE)).astype(np.uint8)
SHIFTED_LABELS = (logits_of(SHIFTED)[:, [2, 0]] + GENERATOR.normal(size=(40, 2), scale=2)).argmax(1)
PAIR = data.Arrays(test=(SHIFTED, SHIFTED_LABELS), name="pair", class_names=("cat", "ant"))
WHOLE = data.Arrays(test=(SHIFTED, SHIFTED_LABELS), name="whole", class_names=CLASSES)
KEY = jax.random.key(0)


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


PREDICTOR = jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS))


def clean(images=IMAGES, labels=LABELS, class_names=CLASSES, *, batch_size=16, num_devices=2):
    source = data.Arrays(test=(images, labels), name="toy", class_names=class_names).load("test")
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:num_devices]))


def rows_of(suite, examples=None, *, store=None, predictor=PREDICTOR):
    labels = suites.RowLabels(run="r", model="m", seed=3)
    return list(
        suite.rows(
            suites.Context(KEY, predictor, examples or clean(), store=store or suites.CaseStore(), labels=labels)
        )
    )


def find(rows, case, metric):
    (row,) = [row for row in rows if (row.case, row.metric) == (case, metric)]
    return row


def restricted(images, labels, classes):
    """Error, NLL and Brier score when the choice is among some classes, by scipy."""
    z = logits_of(images)[:, classes]
    targets = np.array([classes.index(label) for label in labels])
    brier = ((softmax(z, axis=1) - np.eye(len(classes))[targets]) ** 2).sum(1)
    return {
        "error": np.mean(z.argmax(1) != targets),
        "nll": -log_softmax(z, axis=1)[np.arange(len(z)), targets].mean(),
        "brier": brier.mean(),
    }


def test_sets_and_their_clean_classes_against_scipy():
    rows = rows_of(suites.NaturalShift(sets={"a": PAIR}))
    expected = restricted(SHIFTED, np.array([2, 0])[SHIFTED_LABELS], [0, 2])
    for metric, value in expected.items():
        row = find(rows, "a", metric)
        assert row.value == pytest.approx(value, rel=1e-4)
        assert row.low < row.value < row.high
        assert row.count == 40
    of_pair = np.isin(LABELS, [0, 2])
    before = restricted(IMAGES[of_pair], LABELS[of_pair], [0, 2])["error"]
    assert find(rows, "a", "clean_error").value == pytest.approx(before)
    assert find(rows, "a", "clean_error").count == of_pair.sum() < SIZE
    assert find(rows, "a", "num_classes").value == 2
    drop = expected["error"] - before
    assert find(rows, "a", "accuracy_drop").value == pytest.approx(drop)
    relative = find(rows, "a", "relative_accuracy_drop")
    assert relative.value == pytest.approx(drop / (1 - before))
    assert relative.low < relative.value < relative.high
    assert {(row.run, row.model, row.seed, row.dataset, row.suite, row.severity) for row in rows} == {
        ("r", "m", 3, "toy", "natural_shift", None)
    }
    assert before != np.mean(logits_of(IMAGES).argmax(1) != LABELS), "choosing among fewer classes is another problem"


def test_the_drop_of_independent_sets_has_the_width_of_theory():
    """Standard error of a difference of independent proportions."""
    rows = rows_of(suites.NaturalShift(sets={"a": PAIR}))
    row = find(rows, "a", "accuracy_drop")
    variances = [p.value * (1 - p.value) / p.count for p in (find(rows, "a", "error"), find(rows, "a", "clean_error"))]
    assert row.high - row.low == pytest.approx(2 * 1.96 * np.sqrt(sum(variances)), rel=0.12)


def test_means_are_over_sets():
    rows = rows_of(suites.NaturalShift(sets={"a": PAIR, "b": WHOLE}))
    for metric, mean in (
        ("error", "mean_error"),
        ("accuracy_drop", "mean_accuracy_drop"),
        ("relative_accuracy_drop", "mean_relative_accuracy_drop"),
    ):
        row = find(rows, "all", mean)
        assert row.value == pytest.approx((find(rows, "a", metric).value + find(rows, "b", metric).value) / 2)
        assert row.low < row.value < row.high
        assert row.count == 80


def test_only_the_classes_present_are_chosen_among():
    """As TFDS's imagenet_a, which names 1,000 classes and holds 200."""
    named = rows_of(suites.NaturalShift(sets={"a": WHOLE}))
    assert find(named, "a", "error").value == pytest.approx(restricted(SHIFTED, SHIFTED_LABELS, [0, 1, 2, 3])["error"])
    assert find(named, "a", "clean_error").count == SIZE
    store = suites.CaseStore()
    for _ in range(2):
        present = rows_of(suites.NaturalShift(sets={"a": WHOLE}, subset="present"), store=store)
        expected = restricted(SHIFTED, SHIFTED_LABELS, [0, 1])
        assert find(present, "a", "error").value == pytest.approx(expected["error"])
        assert find(present, "a", "num_classes").value == 2
        assert find(present, "a", "clean_error").count == np.isin(LABELS, [0, 1]).sum()


def test_classes_of_other_names_are_mapped_or_left_out():
    labels = GENERATOR.integers(0, 3, 40)
    source = data.Arrays(test=(SHIFTED, labels), name="other", class_names=("wasp", "bee", "hound"))
    suite = suites.NaturalShift(sets={"a": source}, class_maps={"a": {"wasp": None, "hound": "dog"}})
    rows = rows_of(suite)
    kept = labels > 0
    expected = restricted(SHIFTED[kept], np.array([-1, 1, 3])[labels[kept]], [1, 3])
    assert find(rows, "a", "error").value == pytest.approx(expected["error"])
    assert find(rows, "a", "error").count == find(rows, "all", "mean_error").count == kept.sum()
    assert find(rows, "a", "num_classes").value == 2


@pytest.mark.parametrize(("batch_size", "num_devices"), [(7, 1), (64, 4)])
def test_neither_batches_nor_devices_matter(batch_size, num_devices):
    suite = suites.NaturalShift(sets={"a": PAIR, "b": WHOLE})
    expected = rows_of(suite)
    rows = rows_of(suite, clean(batch_size=batch_size, num_devices=num_devices))
    assert [(row.case, row.metric, row.count) for row in rows] == [(r.case, r.metric, r.count) for r in expected]
    np.testing.assert_allclose([row.value for row in rows], [row.value for row in expected], rtol=1e-4)


def test_finished_sets_are_not_done_again_and_sets_share_one_program(tmp_path):
    suite = suites.NaturalShift(
        sets={"a": PAIR, "b": data.Arrays(test=PAIR.test, name="b", class_names=("dog", "bee"))}
    )
    traces, done = [], []

    def counted(weights, images):
        # Two images are the check of its shapes, which compiles nothing.
        if len(images) != cases.IMAGES_CHECKED:
            traces.append(1)
        return linear(weights, images)

    cases.measure_batch.clear_cache()
    predictor = jax.tree_util.Partial(counted, jnp.asarray(WEIGHTS))
    options = {"advance": lambda: done.append(1)}
    first = list(suite.rows(suites.Context(KEY, predictor, clean(), store=suites.CaseStore(tmp_path), **options)))
    assert len(done) == suite.num_cases == 4
    assert len(traces) == 1

    def broken(weights, images):
        raise AssertionError("nothing is left to predict")

    broken = jax.tree_util.Partial(broken, jnp.asarray(WEIGHTS))
    assert list(suite.rows(suites.Context(KEY, broken, clean(), store=suites.CaseStore(tmp_path)))) == first
    # Sets of the same size under the same name are told apart.
    other = dataclasses.replace(suite, sets={"a": data.Arrays(test=PAIR.test, name="pair", class_names=("dog", "ant"))})
    assert find(rows_of(other, store=suites.CaseStore(tmp_path)), "a", "error").value != find(first, "a", "error").value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: suites.NaturalShift(sets={}), "one data set or more"),
        (lambda: suites.NaturalShift(sets={"a": PAIR}, subset="some"), "Unknown subset 'some'"),
        (lambda: suites.NaturalShift(sets={"a": PAIR}, class_maps={"b": {}}), "Unknown set 'b' in class_maps"),
        (
            lambda: suites.NaturalShift(sets={"a": dataclasses.replace(PAIR, class_names=("cat", "eel"))}),
            "a has 1 of 2 classes that the model does not have: 'eel'",
        ),
        (
            lambda: suites.NaturalShift(sets={"a": data.Digits()}),
            r"Expected images of shape \(6, 5, 3\), as in toy, in a, got \(8, 8, 1\)",
        ),
    ],
)
def test_bad_sets_are_named(make, message):
    digits = tuple(str(i) for i in range(10))
    with pytest.raises(ValueError, match=message):
        rows_of(make(), clean(class_names=digits) if "Digits" in str(make()) else None)


def test_a_predictor_of_other_classes_is_refused():
    few = jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS[:, :3]))
    with pytest.raises(ValueError, match=r"Expected logits of shape \[b, 4\] for the 4 classes of toy, got \(2, 3\)"):
        rows_of(suites.NaturalShift(sets={"a": PAIR}), predictor=few)


def test_clean_examples_must_have_the_classes():
    with pytest.raises(ValueError, match="No example of toy is of the classes of a"):
        rows_of(suites.NaturalShift(sets={"a": PAIR}), clean(labels=np.full(SIZE, 1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CIFAR-10-C's layout, made of the clean images: each severity inverts more of the rows."""
    root = tmp_path_factory.mktemp("published") / "TOY-C"
    root.mkdir()
    for name, channel in (("fog", 0), ("snow", 1), ("frost", 2)):
        stacked = np.stack([IMAGES] * 5)
        for severity in range(5):
            stacked[severity, :, : severity + 1, :, channel] ^= 255
        np.save(root / f"{name}.npy", stacked.reshape(-1, *SHAPE))
    np.save(root / "labels.npy", np.tile(LABELS, 5))
    return root


def published(folder, **options):
    options = {"names": ("fog", "snow"), "severities": (1, 3, 5)} | options
    return suites.PublishedCorruptions(published=data.CorruptedArrays(str(folder)), **options)


def test_published_sets_give_the_rows_of_those_made_on_the_fly(folder):
    rows = rows_of(published(folder))
    errors = {}
    for name in ("fog", "snow"):
        images = np.load(folder / f"{name}.npy").reshape(5, SIZE, *SHAPE)
        for severity in (1, 3, 5):
            errors[name, severity] = np.mean(logits_of(images[severity - 1]).argmax(1) != LABELS)
            (row,) = [r for r in rows if (r.case, r.severity, r.metric) == (name, severity, "error")]
            assert row.value == pytest.approx(errors[name, severity])
            assert (row.suite, row.count) == ("common_corruptions", SIZE)
    assert len(set(errors.values())) > 2
    assert find(rows, "all", "mean_error").value == pytest.approx(np.mean(list(errors.values())))
    before = np.mean(logits_of(IMAGES).argmax(1) != LABELS)
    retained = find(rows, "all", "retained_accuracy")
    assert retained.value == pytest.approx((1 - np.mean(list(errors.values()))) / (1 - before), rel=1e-5)
    of_suite = rows_of(suites.CommonCorruptions(names=("contrast", "brightness"), severities=(1, 3, 5)))
    assert [(row.severity, row.metric) for row in rows if row.case in ("fog", "all")] == [
        (row.severity, row.metric) for row in of_suite if row.case in ("contrast", "all")
    ]


def test_of_a_larger_published_set_the_same_examples_are_taken(folder):
    chosen = np.array([4, 11, 12, 30, 59])
    source = data.Arrays(test=(IMAGES, LABELS), name="toy", class_names=CLASSES).load("test").subset(chosen)
    few = data.evaluation(source, batch_size=4, mesh=data_mesh(jax.devices()[:1]))
    (row, *_) = rows_of(published(folder, names=("fog",), severities=(5,)), few)
    images = np.load(folder / "fog.npy").reshape(5, SIZE, *SHAPE)[4]
    assert row.value == pytest.approx(np.mean(logits_of(images[chosen]).argmax(1) != LABELS[chosen]))
    mixed = clean(IMAGES[:30], np.roll(LABELS[:30], 7))
    with pytest.raises(ValueError, match="labels of TOY-C/fog_1 are not those of the same examples of toy"):
        rows_of(published(folder), mixed)
    with pytest.raises(ValueError, match="TOY-C/fog_1 has 60 examples, toy 120 or more"):
        rows_of(published(folder), clean(np.tile(IMAGES, (2, 1, 1, 1)), np.tile(LABELS, 2)))


def test_published_cases_are_resumed(folder, tmp_path):
    suite = published(folder)
    first = rows_of(suite, store=suites.CaseStore(tmp_path))
    assert len(list(tmp_path.glob("published_*/*.npz"))) == suite.num_cases == 6
    assert rows_of(suite, store=suites.CaseStore(tmp_path)) == first


def test_published_samples(folder):
    samples = published(folder).samples(suites.Context(KEY, PREDICTOR, clean()), num_images=3)
    assert samples.titles == ["clean", "fog", "snow"]
    np.testing.assert_array_equal(samples.images[:, 0], IMAGES[:3])
    images = np.load(folder / "snow.npy").reshape(5, SIZE, *SHAPE)[2, :3]
    np.testing.assert_array_equal(samples.images[:, 2], images)
    assert samples.labels == [CLASSES[k] for k in LABELS[:3]]
    predicted = logits_of(images)
    assert [row[2] for row in samples.predictions] == [CLASSES[k] for k in predicted.argmax(1)]
    np.testing.assert_allclose(samples.confidences[:, 2], softmax(predicted, axis=1).max(1), rtol=1e-4)


def test_missing_published_corruptions_are_named(folder):
    with pytest.raises(FileNotFoundError, match=r"no corruption 'frosts'. Did you mean 'frost'"):
        data.CorruptedArrays(str(folder), "frosts").load("test")
    with pytest.raises(FileNotFoundError, match="TOY-C has no corruption 'gaussian_noise'"):
        rows_of(published(folder, names=("all",)))
    with pytest.raises(ValueError, match=r"severity as a whole number from 1 to 5, got severity=1\.5"):
        published(folder, severities=(1.5,))
    with pytest.raises(ValueError, match="Published images are as they are, got compat='clean'"):
        published(folder, compat="clean")


def test_suites_are_plain_values(folder):
    folder_set = data.ClassFolder("imagenet-a")
    for suite in (
        suites.NaturalShift(sets={"a": folder_set}, class_maps={"a": {"x": None, "y": "z"}}),
        published(folder),
    ):
        assert config.from_json(config.to_json(suite)) == suite
        assert hash(suite) == hash(dataclasses.replace(suite))
