"""What sources and feeds promise beyond equal batches: limits, pixels of stored pictures, and a clean end."""

import io
import multiprocessing
import types

import jax
import numpy as np
import pytest
from PIL import Image

from robust_jax import data
from robust_jax.core.keys import epoch_order
from robust_jax.core.mesh import data_mesh
from robust_jax.data.tfds import _RecordReader

NUM_TRAIN = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of four pictures each, and a folder that is none of them."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("ant", "bee", "cat"):
            (root / split / name).mkdir(parents=True)
            for i in range(NUM_TRAIN // 3):
                pixels = generator.integers(0, 256, (9, 8, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
        (root / split / ".ipynb_checkpoints").mkdir()
    return str(root)


def feed_of(folder, **settings):
    source = data.ImageFolder(folder, image_size=8).load("train")
    settings = {"batch_size": 2, "seed": 0, "mesh": data_mesh(jax.devices()[:2]), "resident": False, **settings}
    return data.train_feed(source, **settings)


@pytest.mark.parametrize("split", ["train", "test"])
def test_limits_of_a_folder_keep_every_class(folder, split):
    images = data.ImageFolder(folder, image_size=8, num_train=3, num_test=3).load(split)
    assert images.class_names == ("ant", "bee", "cat")
    np.testing.assert_array_equal(images.decode()[1], [0, 1, 2])
    np.testing.assert_array_equal(images.ids, [0, 4, 8])
    generous = data.ImageFolder(folder, image_size=8, num_train=99, num_test=99).load(split)
    np.testing.assert_array_equal(generous.ids, np.arange(NUM_TRAIN))


def test_take_is_indexing_stacked(folder):
    source = data.ImageFolder(folder, image_size=8).load("train").subset(np.array([7, 3, 11, 0]))
    images, labels, ids = source.take(np.array([2, 0]))
    for i, position in enumerate((2, 0)):
        image, label = source[position]
        np.testing.assert_array_equal(images[i], image)
        assert labels[i] == label
    np.testing.assert_array_equal(ids, [11, 7])


def test_records_in_chunks_are_what_tfds_reads(shared_data):
    import tensorflow_datasets as tfds

    for name, mode in (("cifar10_jpeg75", "RGB"), ("mnist", "L")):
        root = shared_data / "tfds"
        source = data.Tfds(name, data_dir=str(root), num_test=200).load("test")
        version = next((root / name).glob("*/features.json")).parent
        decoders = {"image": tfds.decode.SkipDecoding()}
        records = tfds.builder_from_directory(version).as_data_source(split="test", decoders=decoders)
        images, labels = source.decode()
        for i in (0, 127, 128, 199):
            with Image.open(io.BytesIO(records[i]["image"])) as stored:
                assert stored.mode == mode
                np.testing.assert_array_equal(images[i].squeeze(), np.asarray(stored))
            assert labels[i] == records[i]["label"]


def test_a_stand_in_is_read_and_named(shared_data, tmp_path):
    root = shared_data / "tfds"
    (tmp_path / "digits").symlink_to(root / "mnist")
    aliases = tmp_path / "aliases.json"
    aliases.write_text('{"mnist": "digits", "svhn": "gone", "digits": "gone"}')
    assert data.Tfds("mnist", data_dir=str(tmp_path)).load("test").name == "digits"
    # A set that is there is never replaced.
    assert data.Tfds("digits", data_dir=str(tmp_path)).load("test").name == "digits"
    with pytest.raises(FileNotFoundError, match=r"No prepared data set 'svhn' in .*, nor its stand-in 'gone'"):
        data.Tfds("svhn", data_dir=str(tmp_path)).load("test")
    for text, message in (("{", r"Cannot read .*aliases\.json"), ('{"mnist": 1}', r"aliases\.json to map names")):
        aliases.write_text(text)
        with pytest.raises(ValueError, match=message):
            data.Tfds("mnist", data_dir=str(tmp_path)).load("test")


@pytest.mark.parametrize(("size", "shape"), [(None, (6, 8)), (4, (4, 4))])
def test_stored_pictures_take_the_channels_of_the_set(size, shape):
    """ImageNet has some grey pictures among the coloured, and digits resized stay grey."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    records = [{"image": file.getvalue(), "label": 3}]
    grey, label = _RecordReader("set/train", records, "L", size)(0)
    colour, _ = _RecordReader("set/train", records, "RGB", size)(0)
    assert label == 3
    assert grey.shape == (*shape, 1)
    np.testing.assert_array_equal(colour, np.repeat(grey, 3, axis=-1))
    if size is None:
        np.testing.assert_array_equal(grey[..., 0], pixels)


def test_unreadable_record_is_named():
    with pytest.raises(ValueError, match="Cannot read image 1 of birds/train"):
        _RecordReader("birds/train", [None, {"image": b"no picture", "label": 0}], "RGB", None)(1)


def test_sets_of_other_than_pictures_and_classes_are_refused(monkeypatch):
    import tensorflow_datasets as tfds

    picture, classes = tfds.features.Image(shape=(8, 8, 3)), tfds.features.ClassLabel(num_classes=2)
    for features, message in (
        ({"image": picture}, "birds has no feature 'label', only image"),
        ({"image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16), "label": classes}, "pictures of uint8"),
        ({"image": tfds.features.Tensor(shape=(8,), dtype=np.uint8), "label": classes}, "pictures of uint8"),
        ({"image": picture, "label": tfds.features.Scalar(dtype=np.float32)}, "known number of classes in birds"),
    ):
        info = types.SimpleNamespace(splits={"train": None}, features=features)
        builder = types.SimpleNamespace(info=info)
        monkeypatch.setattr("robust_jax.data.tfds._builder", lambda name, data_dir, builder=builder: (name, builder))
        with pytest.raises(ValueError, match=message):
            data.Tfds("birds").load("train")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_closing_ends_an_epoch_and_its_processes(folder, num_workers):
    feed = feed_of(folder, num_workers=num_workers)
    before = set(multiprocessing.active_children())
    items = feed.epoch(0)
    next(items)
    assert len(set(multiprocessing.active_children()) - before) == num_workers
    feed.close()
    assert set(multiprocessing.active_children()) == before
    assert next(items, None) is None


@pytest.mark.parametrize("resident", [True, False])
def test_nothing_is_left_of_a_finished_epoch(folder, resident):
    feed = feed_of(folder, resident=resident)
    assert list(feed.epoch(0, start_step=feed.steps_per_epoch)) == []


def test_resumption_reads_only_what_is_left(folder):
    source = data.ImageFolder(folder, image_size=8).load("train")
    seen = []

    def read(index):
        seen.append(index)
        return source.read(index)

    counted = data.Source("counted", "train", source.class_names, source.image_shape, read, source.ids)
    feed = data.train_feed(counted, batch_size=2, seed=0, mesh=data_mesh(jax.devices()[:1]), resident=False)
    assert len(list(feed.epoch(0, start_step=4))) == 2
    np.testing.assert_array_equal(np.sort(seen), np.sort(epoch_order(0, 0, NUM_TRAIN)[8:]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size > 0"),
        ({"batch_size": 3}, "batch_size to divide by the 2 devices, got 3"),
        ({"resident": "yes"}, "resident as True, False or 'auto', got 'yes'"),
        ({"num_workers": -1}, "num_workers >= 0"),
        ({"prefetch": 0}, "prefetch > 0"),
    ],
)
def test_bad_settings_are_named(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        feed_of(folder, **settings)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"batch_size": 8, "resident": 1}])
def test_bad_settings_of_evaluation_are_named(settings):
    name = list(settings)[-1]
    with pytest.raises(ValueError, match=f"Expected {name}"):
        data.evaluation(data.Digits().load("test"), mesh=data_mesh(), **settings)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: data.Digits(validation=float("nan")), ValueError, "validation as a fraction"),
        (lambda: data.Digits(validation=5000).load("validation"), ValueError, "validation < 1437 examples of digits"),
        (lambda: data.ImageFolder("x", num_train=0), ValueError, "num_train > 0"),
        (lambda: data.Tfds("mnist", num_test=-5), ValueError, "num_test > 0"),
        (lambda: data.Arrays(train=np.zeros((4, 2, 2, 1))), TypeError, r"\(images, labels\) in arrays/train"),
        (lambda: data.Arrays(test=(np.zeros((0, 2, 2, 1)), np.zeros(0, int))), ValueError, "at least one example"),
    ],
)
def test_bad_limits_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
