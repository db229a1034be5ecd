"""The suite of perturbation sequences against a plain loop, and what must not change its results."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import long_unless

from robust_jax import data, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.corruptions import imagenet_p
from robust_jax.metrics import flips
from robust_jax.suites import case as cases
from robust_jax.suites.case import RowLabels
from robust_jax.suites.perturbations import Perturbations
from robust_jax.suites.store import CaseStore

SIZE = 18
SHAPE = (12, 12, 3)
CLASSES = tuple("abcdefg")
RNG = np.random.default_rng(0)
IMAGES = np.clip(RNG.integers(0, 256, (SIZE, 4, 4, 3)).repeat(3, 1).repeat(3, 2), 5, 250).astype(np.uint8)
WEIGHTS = RNG.normal(size=(432, 7), scale=2).astype(np.float32)
LABELS = ((IMAGES / 255).reshape(SIZE, -1) @ WEIGHTS).argmax(1)
SOURCE = data.Arrays(test=(IMAGES, LABELS), name="toy", class_names=CLASSES).load("test")
KEY = jax.random.key(7)
LABEL_COLUMNS = RowLabels(run="r", model="m", seed=3)
FEW = ("gaussian_noise", "zoom_blur", "translate", "spatter")


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
    store = CaseStore()
    rows = list(Perturbations().rows(suites.Context(KEY, PREDICTOR, evaluation(), store=store, labels=LABEL_COLUMNS)))
    return rows, store


def tables(store):
    return {case: table["ranking"] for (_, case), table in store._memory.items()}


def loop_logits(name, examples=range(SIZE), **fields):
    """Logits ``[n, frames, k]``, one example after the other."""
    sequence = imagenet_p.SEQUENCES[name](**fields)
    frames = jax.jit(sequence.frames)
    key = jax.random.fold_in(KEY, np.uint32(zlib.crc32(name.encode())))
    images = [frames(jax.random.fold_in(key, example), IMAGES[example] / np.float32(255)) for example in examples]
    return np.stack([np.asarray(image).reshape(len(image), -1) @ WEIGHTS for image in images])


@pytest.mark.long
@pytest.mark.parametrize("name", ["gaussian_noise", "zoom_blur", "rotate", "spatter"])
def test_flips_and_distances_against_a_loop(result, name):
    rows, _ = result
    logits = loop_logits(name)
    noise = "noise" in name
    (row,) = [row for row in rows if row.case == name and row.metric == "flip_probability"]
    expected = flips.flip_probability(logits.argmax(-1), noise=noise).mean()
    # Where two classes are as likely, rounding may decide.
    assert row.value == pytest.approx(expected, abs=0.01)
    assert row.low <= row.value <= row.high
    (row,) = [row for row in rows if row.case == name and row.metric == "top5_distance"]
    ranking = np.argsort(-logits, axis=-1, kind="stable")[..., :5]
    assert row.value == pytest.approx(flips.top5_distance(ranking, noise=noise).mean(), abs=0.05)


def test_rows_and_means(result):
    rows, store = result
    assert {(row.run, row.model, row.seed, row.dataset, row.suite) for row in rows} == {
        ("r", "m", 3, "toy", "perturbations")
    }
    names = imagenet_p.PERTURBATIONS_CIFAR
    by = {(row.case, row.metric): row for row in rows}
    assert set(by) == {(name, metric) for name in names for metric in ("flip_probability", "top5_distance")} | {
        ("all", "mean_flip_probability"),
        ("all", "mean_top5_distance"),
    }
    assert all(row.count == SIZE and row.severity is None for row in rows)
    values = [by[name, "flip_probability"].value for name in names]
    mean = by["all", "mean_flip_probability"]
    assert mean.value == pytest.approx(np.mean(values))
    assert mean.low < mean.value < mean.high
    assert len({round(value, 3) for value in values}) >= 6
    assert tables(store)["translate"].shape == (SIZE, 16, 5)
    assert tables(store)["translate"].dtype == np.int16


@pytest.mark.long
def test_mean_flip_rate_where_the_law_is_imagenets(result):
    suite = Perturbations(names=("all",), preset="imagenet224", crop=10)
    assert suite.num_cases == 14
    store = CaseStore()
    source = SOURCE.subset(np.arange(3))
    rows = list(
        suite.rows(
            suites.Context(KEY, lambda x: x.reshape(len(x), -1) @ WEIGHTS[:300], evaluation(source=source), store=store)
        )
    )
    by = {(row.case, row.metric): row.value for row in rows}
    ratios = [by[n, "flip_probability"] / flips.ALEXNET_FLIP_PROBABILITIES[n] for n in imagenet_p.PERTURBATIONS]
    assert by["all", "mFR_AlexNet"] == pytest.approx(np.mean(ratios))
    of_ten = [by[name, "flip_probability"] for name in imagenet_p.PERTURBATIONS]
    assert by["all", "mean_flip_probability"] == pytest.approx(np.mean(of_ten))
    assert tables(store)["translate"].shape == (3, 41, 5)
    assert "mFR_AlexNet" not in {row.metric for row in result[0]}


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
    store = CaseStore()
    list(Perturbations(names=FEW).rows(suites.Context(KEY, PREDICTOR, evaluation(**options[kind]), store=store)))
    assert set(tables(store)) == set(FEW)
    for case, ranking in tables(store).items():
        expected = tables(result[1])[case][order]
        # A pixel that is cut off at a whole grey level may fall on either side, and change close ranks.
        assert (ranking == expected).mean() > 0.99, case


def test_one_program_of_the_network_serves_all_sequences_and_new_weights():
    traces = []

    def counted(weights, images):
        # Two images are the check of its shapes, which compiles nothing.
        if len(images) != cases.IMAGES_CHECKED:
            traces.append(images.shape)
        return linear(weights, images)

    for scale in (1.0, 2.0):
        predictor = jax.tree_util.Partial(counted, scale * jnp.asarray(WEIGHTS))
        list(Perturbations(names=FEW).rows(suites.Context(KEY, predictor, evaluation())))
        assert len(traces) == 1


def test_resuming_computes_only_what_is_missing(tmp_path):
    suite, counting, done = Perturbations(names=FEW), Counting(evaluation()), []
    options = {"labels": LABEL_COLUMNS, "advance": lambda: done.append(1)}
    rows = suite.rows(suites.Context(KEY, PREDICTOR, counting, store=CaseStore(tmp_path), **options))
    assert next(rows).case == FEW[0]
    assert counting.passes == 1
    rows.close()
    first = list(suite.rows(suites.Context(KEY, PREDICTOR, counting, store=CaseStore(tmp_path), **options)))
    assert counting.passes == suite.num_cases == len(FEW)
    assert len(done) == 1 + len(FEW)
    next(tmp_path.glob("*/translate.npz")).unlink()
    assert list(suite.rows(suites.Context(KEY, PREDICTOR, counting, store=CaseStore(tmp_path), **options))) == first
    assert counting.passes == len(FEW) + 1
    for other in (dataclasses.replace(suite, compat="clean"), dataclasses.replace(suite, preset="tiny64")):
        next(other.rows(suites.Context(KEY, PREDICTOR, counting, store=CaseStore(tmp_path))))
    next(suite.rows(suites.Context(jax.random.key(8), PREDICTOR, counting, store=CaseStore(tmp_path))))
    assert counting.passes == len(FEW) + 4


def test_fewer_than_five_classes():
    weights = jnp.asarray(WEIGHTS[:, :3])
    source = data.Arrays(test=(IMAGES, LABELS % 3), name="toy", class_names=("a", "b", "c")).load("test")
    rows = list(
        Perturbations(names=("tilt",)).rows(
            suites.Context(KEY, lambda x: linear(weights, x), evaluation(source=source))
        )
    )
    assert [row.metric for row in rows] == ["flip_probability", "mean_flip_probability"]


def test_samples_show_last_frames():
    samples = Perturbations(names=FEW).samples(suites.Context(KEY, PREDICTOR, evaluation()), num_images=3)
    assert samples.images.shape == (3, 4, *SHAPE)
    assert samples.titles == ["gaussian noise", "zoom blur", "translate", "spatter"]
    np.testing.assert_array_equal(samples.images[:, 2, :, 8:], IMAGES[:3, :, :4])
    assert (samples.images[:, 2, :, :8] == 0).all()
    logits = loop_logits("translate", range(3))[:, -1]
    assert [row[2] for row in samples.predictions] == [CLASSES[k] for k in logits.argmax(-1)]
    assert samples.labels == [CLASSES[k] for k in LABELS[:3]]


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="Did you mean 'zoom_blur'"):
        Perturbations(names=("zoomblur",))
    with pytest.raises(ValueError, match="each once"):
        Perturbations(names=("auto", "tilt"))
    with pytest.raises(ValueError, match="none"):
        Perturbations(names=())
    with pytest.raises(ValueError, match="Did you mean 'imagenet224'"):
        Perturbations(preset="imagenet")
    assert Perturbations(names="tilt").num_cases == 1
    assert hash(Perturbations()) == hash(dataclasses.replace(Perturbations()))
