"""Suites of corruptions and of class separation against plain loops, and what must not change their results."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import long_unless

from robust_jax import config, corruptions, data, metrics, suites
from robust_jax.core.keys import named_key
from robust_jax.core.mesh import data_mesh
from robust_jax.mathematics.lp_noise import add_lp_noise_choice
from robust_jax.suites import case as cases
from robust_jax.suites import corruption_suite

SIZE = 20
SHAPE = (12, 14, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (SIZE, *SHAPE)).astype(np.uint8)
WEIGHTS = np.random.default_rng(1).normal(size=(math.prod(SHAPE), 3), scale=0.5).astype(np.float32)
LABELS = ((IMAGES / 255).reshape(SIZE, -1) @ WEIGHTS + np.random.default_rng(2).normal(size=(SIZE, 3))).argmax(1)
SOURCE = data.Arrays(test=(IMAGES, LABELS), name="toy", class_names=("a", "b", "c")).load("test")
KEY = jax.random.key(7)
LABEL_COLUMNS = suites.RowLabels(run="r", model="m", seed=3)
# Cheap to compile: one of each kind, random and not.
SUITE = suites.CommonCorruptions(names=("gaussian_noise", "brightness", "contrast"), severities=(1, 3, 5))
NOISE = suites.ClassSeparation(norms=(math.inf, 2.0), factors=(2.0,))


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


PREDICTOR = jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS))


def evaluation(*, source=SOURCE, batch_size=8, num_devices=1):
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:num_devices]))


def rows_of(suite, *, store=None, predictor=PREDICTOR, **options):
    store = store or suites.CaseStore()
    return list(
        suite.rows(
            suites.Context(
                KEY, predictor, evaluation(**options), store=store or suites.CaseStore(), labels=LABEL_COLUMNS
            )
        )
    )


@pytest.fixture(scope="module")
def result():
    store = suites.CaseStore()
    return rows_of(SUITE, store=store), store


def tables(store):
    return {case: table for (suite, case), table in store._memory.items() if suite.startswith("corruptions_")}


def find(rows, case, metric, severity=None):
    (row,) = [row for row in rows if (row.case, row.metric, row.severity) == (case, metric, severity)]
    return row


def loop_logits(name, severity):
    """Logits under one corruption, image by image."""
    key = named_key(KEY, name)
    images = [
        corruptions.corrupt(jax.random.fold_in(key, i), IMAGES[i] / np.float32(255), name, severity)
        for i in range(SIZE)
    ]
    return np.stack([np.asarray(image).ravel() for image in images]) @ WEIGHTS


def test_cases_against_a_loop(result):
    rows, _ = result
    for name in SUITE.names:
        logits = {severity: loop_logits(name, severity) for severity in SUITE.severities}
        for severity, z in logits.items():
            assert find(rows, name, "error", severity).value == pytest.approx(np.mean(z.argmax(1) != LABELS))
            nll = np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(SIZE), LABELS]
            # A value on the edge of a grey level may be truncated to either side.
            assert find(rows, name, "nll", severity).value == pytest.approx(nll.mean(), rel=1e-2, abs=1e-3)
        assert not np.allclose(logits[1], logits[5], atol=0.1)
    assert len({row.value for row in rows if row.metric == "error"}) >= 3


def test_every_case_has_its_rows_then_come_the_means(result):
    rows, _ = result
    assert {(row.run, row.model, row.seed, row.dataset, row.suite, row.count) for row in rows} == {
        ("r", "m", 3, "toy", "common_corruptions", SIZE)
    }
    assert [row.metric for row in rows[:4]] == ["error", "nll", "brier", "ece"]
    expected = [(name, severity) for name in SUITE.names for severity in SUITE.severities]
    assert [(row.case, row.severity) for row in rows if row.metric == "error"] == expected
    assert len(rows) > 4 * len(expected)
    assert {row.case for row in rows[4 * len(expected) :]} == {
        "all", "gaussian_noise", "brightness", "contrast", "variable sensor", "variable illumination",
        "severity 1", "severity 3", "severity 5",
    }  # fmt: skip


def test_means_are_those_of_the_cases(result):
    rows, store = result
    errors = np.array([[tables(store)[f"{name} {s}"]["error"].mean() for s in (1, 3, 5)] for name in SUITE.names])
    clean = np.mean((IMAGES.reshape(SIZE, -1) / 255 @ WEIGHTS).argmax(1) != LABELS)
    assert find(rows, "all", "mean_error").value == pytest.approx(errors.mean())
    assert find(rows, "all", "mean_error").low < errors.mean() < find(rows, "all", "mean_error").high
    assert find(rows, "all", "worst_severity_error").value == pytest.approx(errors.max(axis=1).mean())
    assert find(rows, "all", "retained_accuracy").value == pytest.approx((1 - errors.mean()) / (1 - clean), rel=1e-6)
    assert find(rows, "contrast", "mean_error").value == pytest.approx(errors[2].mean())
    assert find(rows, "severity 3", "mean_error", 3).value == pytest.approx(errors[:, 1].mean())
    variables = [corruptions.COMPONENTS[name].variable for name in SUITE.names]
    for variable in set(variables):
        members = errors[[v == variable for v in variables]]
        assert find(rows, f"variable {variable}", "mean_error").value == pytest.approx(members.mean())
    for metric in ("nll", "brier", "ece"):
        mean = np.mean([row.value for row in rows if row.metric == metric])
        row = find(rows, "all", f"mean_{metric}")
        assert row.value == pytest.approx(mean)
        assert row.low < row.high


@pytest.mark.long
def test_all_nineteen_give_the_published_means():
    """With finished cases in the store nothing is computed but the means."""
    suite, store = suites.CommonCorruptions(), suites.CaseStore()
    generator = np.random.default_rng(5)
    for name in suite.corruption_names:
        for severity in suite.severities:
            table = {"error": (generator.random(SIZE) < generator.random()).astype(np.float32)}
            table |= {m: generator.random(SIZE).astype(np.float32) for m in ("nll", "brier", "confidence")}
            store.put(*suite._place(suites.Context(KEY, None, evaluation()), name, severity), table)
    rows = rows_of(suite, store=store)
    assert suite.num_cases == 95 == len([row for row in rows if row.metric == "error"])
    names = corruptions.COMMON + corruptions.EXTRA
    errors = np.array([[tables(store)[f"{name} {s}"]["error"].mean() for s in range(1, 6)] for name in names])
    clean = np.mean((IMAGES.reshape(SIZE, -1) / 255 @ WEIGHTS).argmax(1) != LABELS)
    expected = {
        "mean_error_15": errors[:15].mean(),
        "mean_error_19": errors.mean(),
        "mean_error_15_without_noise": errors[3:15].mean(),
        "mean_error_19_without_noise": metrics.mean_error_19_without_noise(errors, names),
        "mCE_AlexNet": metrics.alexnet_mce(errors, names),
        "relative_mCE_AlexNet": metrics.relative_alexnet_mce(errors, clean, names),
        "worst_severity_error": errors[:15].max(axis=1).mean(),
    }
    for metric, value in expected.items():
        row = find(rows, "all", metric)
        assert row.value == pytest.approx(value, rel=1e-5), metric
        assert row.low < row.value < row.high
    assert find(rows, "group blur", "mean_error").value == pytest.approx(errors[3:7].mean())
    assert find(rows, "fog", "mean_error").value == pytest.approx(errors[9].mean())
    variables = {row.case for row in rows if row.case.startswith("variable")}
    assert variables == {f"variable {v}" for v in corruptions.VARIABLES}
    assert not [row for row in rows if row.metric == "mean_error" and row.case == "all"]

    bar = suites.CorruptionsBar()
    for name in bar.corruption_names:
        for severity in bar.severities:
            table = {m: generator.random(SIZE).astype(np.float32) for m in ("error", "nll", "brier", "confidence")}
            store.put(*bar._place(suites.Context(KEY, None, evaluation()), name, severity), table)
    rows = rows_of(bar, store=store)
    mean = find(rows, "all", "mean_error").value
    assert bar.num_cases == 50
    assert find(rows, "all", "mean_error_bar_minus_15").value == pytest.approx(mean - errors[:15].mean(), rel=1e-5)
    assert {row.suite for row in rows} == {"corruptions_bar"}


def test_bar_runs_on_its_own():
    rows = rows_of(suites.CorruptionsBar(names=("sparkles", "checkerboard_cutout"), severities=(2,)))
    assert [row.case for row in rows if row.metric == "error"] == ["sparkles", "checkerboard_cutout"]
    assert not [row for row in rows if row.metric == "mean_error_bar_minus_15"]


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
    rows_of(SUITE, store=store, **options[kind])
    expected = tables(result[1])
    assert tables(store).keys() == expected.keys()
    for case, table in tables(store).items():
        for metric, values in table.items():
            np.testing.assert_allclose(values, expected[case][metric][order], rtol=1e-2, atol=1e-3, err_msg=case)


def test_one_program_for_each_corruption_and_one_for_the_network():
    traces = []

    def counted(weights, images):
        # Two images are the check of its shapes, which compiles nothing.
        if len(images) != cases.IMAGES_CHECKED:
            traces.append(images.shape)
        return linear(weights, images)

    corruption_suite._corrupted.clear_cache()
    cases.measure_batch.clear_cache()
    for scale in (1.0, 2.0):
        predictor = jax.tree_util.Partial(counted, scale * jnp.asarray(WEIGHTS))
        rows_of(SUITE, predictor=predictor)
        # All severities of a corruption share a program, all corruptions and the clean images the network's.
        assert corruption_suite._corrupted._cache_size() == len(SUITE.names)
        assert len(traces) == 1
        assert cases.measure_batch._cache_size() == 1
    rows_of(NOISE, predictor=predictor)
    assert len(traces) == 1
    cases.measure_batch.clear_cache()
    rows_of(SUITE, predictor=predictor, batch_size=16, num_devices=4)
    assert cases.measure_batch._cache_size() == 1, "corrupted images are laid out as clean ones are"


def test_resuming_computes_only_what_is_missing(tmp_path, result):
    done = []
    options = {"labels": LABEL_COLUMNS, "advance": lambda: done.append(1)}
    first = list(SUITE.rows(suites.Context(KEY, PREDICTOR, evaluation(), store=suites.CaseStore(tmp_path), **options)))
    assert first == result[0]
    assert len(done) == SUITE.num_cases == 9
    files = sorted(tmp_path.glob("corruptions_*/*.npz"))
    assert len(files) == 9
    files[4].unlink()
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        run_case = corruption_suite.run_case
        patch.setattr(corruption_suite, "run_case", lambda *arguments: calls.append(1) or run_case(*arguments))
        again = list(
            SUITE.rows(suites.Context(KEY, PREDICTOR, evaluation(), store=suites.CaseStore(tmp_path), **options))
        )
    assert again == first
    assert len(calls) == 1


def test_other_settings_are_not_taken_for_finished_ones():
    place = SUITE._place(suites.Context(KEY, None, evaluation()), "frost", 1)
    others = [
        SUITE._place(suites.Context(jax.random.key(8), None, evaluation()), "frost", 1),
        SUITE._place(suites.Context(KEY, None, evaluation(source=SOURCE.subset(np.arange(5)))), "frost", 1),
        *(
            dataclasses.replace(SUITE, **change)._place(suites.Context(KEY, None, evaluation()), "frost", 1)
            for change in ({"preset": "tiny64"}, {"compat": "clean"}, {"textures": "photographs"})
        ),
    ]
    assert len({place, *others}) == 6
    with_textures = dataclasses.replace(SUITE, textures="photographs")
    assert with_textures._place(suites.Context(KEY, None, evaluation()), "fog", 1) == SUITE._place(
        suites.Context(KEY, None, evaluation()), "fog", 1
    )


def test_samples_show_what_is_predicted():
    samples = SUITE.samples(suites.Context(KEY, PREDICTOR, evaluation()), num_images=4)
    assert samples.images.shape == (4, 4, *SHAPE)
    assert samples.titles == ["clean", "gaussian noise", "brightness", "contrast"]
    np.testing.assert_array_equal(samples.images[:, 0], IMAGES[:4])
    expected = np.asarray(jax.vmap(lambda image: corruptions.Contrast()(KEY, image, 3.0))(IMAGES[:4] / np.float32(255)))
    assert np.abs(samples.images[:, 3] - np.round(expected * 255)).max() <= 1
    predicted = (IMAGES[:4].reshape(4, -1) / 255 @ WEIGHTS).argmax(1)
    assert [row[0] for row in samples.predictions] == ["abc"[k] for k in predicted]


def test_class_separation_against_a_loop():
    rows = rows_of(NOISE)
    images, clean = IMAGES / np.float32(255), (IMAGES.reshape(SIZE, -1) / 255 @ WEIGHTS).argmax(1)
    assert NOISE.num_cases == 4 == len([row for row in rows if row.metric == "error"])
    for index, (p, norm) in enumerate(((math.inf, "Linf"), (2.0, "L2"))):
        distances = np.array([[np.linalg.norm((a - b).ravel(), ord=p) for a in images] for b in images])
        eps = distances[LABELS[:, None] != LABELS[None]].min() / 2
        assert find(rows, norm, "eps_min").value == pytest.approx(eps, rel=1e-5)
        key = jax.random.fold_in(named_key(KEY, f"class_separation {norm}"), 0)
        for factor in (1, 2):
            noisy = [
                add_lp_noise_choice(
                    jax.random.fold_in(key, i), images[i], NOISE.norms, index, jnp.float32(factor * eps)
                )
                for i in range(SIZE)
            ]
            error = np.mean((np.stack(noisy).reshape(SIZE, -1) @ WEIGHTS).argmax(1) != LABELS)
            (row,) = [r for r in rows if r.case == f"{norm} eps_min x{factor}" and r.metric == "error"]
            assert (row.value, row.severity) == (pytest.approx(error), pytest.approx(factor * eps, rel=1e-5))
            if factor == 1:
                accuracy = np.mean(clean == LABELS)
                mscr = find(rows, norm, "MSCR")
                assert mscr.value == pytest.approx((1 - error - accuracy) / accuracy, abs=1e-6)
                assert mscr.low <= mscr.value <= mscr.high


def test_given_radii_and_repeats():
    suite = suites.ClassSeparation(norms=(2.0,), eps=(0.5,), factors=(), repeats=2)
    store = suites.CaseStore()
    rows = rows_of(suite, store=store)
    assert find(rows, "L2", "eps_min").value == 0.5
    (table,) = [table for (folder, _), table in store._memory.items() if folder.startswith("class_separation")]
    assert table["nll"].shape == (SIZE, 2)
    assert not np.allclose(table["nll"][:, 0], table["nll"][:, 1], atol=1e-6)


def test_one_class_needs_a_radius():
    source = data.Arrays(test=(IMAGES, np.zeros(SIZE, int)), name="toy", class_names=("a", "b", "c")).load("test")
    with pytest.raises(ValueError, match="No two examples of toy differ in class"):
        rows_of(NOISE, source=source)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: suites.CommonCorruptions(names=("fogg",)), "Did you mean 'fog'"),
        (lambda: suites.CommonCorruptions(names=("fog", "common")), "each once"),
        (lambda: suites.CommonCorruptions(names=()), "got none"),
        (lambda: suites.CommonCorruptions(severities=(0, 1)), r"severities in \(0, 5\]"),
        (lambda: suites.CommonCorruptions(preset="cifar"), "Did you mean 'cifar32'"),
        (lambda: suites.CorruptionsBar(compat="orignal"), "Did you mean 'original'"),
        (lambda: suites.ClassSeparation(norms=(0.0,)), "norms > 0"),
        (lambda: suites.ClassSeparation(eps=(0.1,)), "3 radii"),
        (lambda: suites.ClassSeparation(repeats=0), "repeats > 0"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_too_small_images_are_named():
    small = data.Arrays(test=(IMAGES[:, :8, :8], LABELS), name="toy", class_names=("a", "b", "c")).load("test")
    with pytest.raises(ValueError, match=r"at least 12x12 for glass_blur, got 8x8"):
        rows_of(suites.CommonCorruptions(names=("glass_blur",)), source=small)


@pytest.mark.parametrize("suite", [SUITE, NOISE, suites.CommonCorruptions("common"), suites.CorruptionsBar()], ids=str)
def test_a_suite_is_its_config(suite):
    assert config.from_json(config.to_json(suite)) == suite
    assert hash(suite) == hash(dataclasses.replace(suite))
