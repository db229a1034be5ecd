"""Data sets against Pillow and scikit-learn; feeds that agree however they are fed; what bad data is told."""

import pickle

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tables import long_if

from robust_jax import data
from robust_jax.core.keys import epoch_order
from robust_jax.core.mesh import data_mesh


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two classes of small pictures of several sizes."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (20 + i, 30, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def all_batches(feed, epoch, start_step=0):
    return [jax.device_get(feed.fetch(feed.resident, item)) for item in feed.epoch(epoch, start_step)]


def assert_same_batches(a, b):
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        jax.tree.map(np.testing.assert_array_equal, left, right)


def test_digits_are_scikit_learns():
    digits = load_digits()
    images, labels = data.Digits().load("test").decode()
    np.testing.assert_array_equal(labels, digits.target[::5])
    np.testing.assert_allclose(images[..., 0] / 255 * 16, digits.images[::5], atol=0.04)
    assert len(data.Digits().load("train")) + len(images) == len(digits.target)


def test_validation_is_held_out_the_same_way_always():
    parts = [data.Digits(validation=0.2).load(split).ids for split in ("train", "validation", "test")]
    assert len(set(np.concatenate(parts))) == sum(map(len, parts)) == 1797
    np.testing.assert_array_equal(parts[1], data.Digits(validation=287).load("validation").ids)


def test_order_is_a_permutation_of_seed_and_epoch():
    order = epoch_order(0, 0, 1000)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, epoch_order(0, 0, 1000))
    assert (order != epoch_order(0, 1, 1000)).any()
    assert (order != epoch_order(1, 0, 1000)).any()


def test_folder_is_what_pillow_reads(photographs):
    source = data.ImageFolder(str(photographs), image_size=16).load("train")
    assert source.class_names == ("cat", "dog")
    image, label = source[7]
    with Image.open(photographs / "train" / "dog" / "1.png") as original:
        resized = original.resize((round(30 * 16 / 21), 16), Image.Resampling.BICUBIC)
    left = (resized.width - 16) // 2
    np.testing.assert_array_equal(image, np.asarray(resized.crop((left, 0, left + 16, 16))))
    assert label == 1
    assert len(data.ImageFolder(str(photographs), image_size=16).load("test")) == 6


def test_unreadable_file_is_named(photographs, tmp_path):
    bad = tmp_path / "train" / "cat"
    bad.mkdir(parents=True)
    (bad / "broken.png").write_bytes(b"no picture")
    source = data.ImageFolder(str(tmp_path), image_size=16).load("train")
    with pytest.raises(ValueError, match=r"Cannot read image .*broken\.png"):
        source.decode()


@pytest.mark.parametrize("kind", ["digits", "folder", "arrays", "npz"])
def test_sources_are_picklable_and_typed(kind, photographs, tmp_path):
    images, labels = np.zeros((9, 4, 4, 3), np.uint8), np.arange(9) % 3
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    dataset = {
        "digits": data.Digits(),
        "folder": data.ImageFolder(str(photographs), image_size=16),
        "arrays": data.Arrays(train=(images, labels), test=(images, labels)),
        "npz": data.Npz(str(tmp_path / "set.npz")),
    }[kind]
    for split in ("train", "test"):
        source = pickle.loads(pickle.dumps(dataset.load(split)))
        image, label = source[len(source) - 1]
        assert image.dtype == np.uint8
        assert image.shape == source.image_shape
        assert 0 <= label < source.num_classes


@pytest.mark.parametrize("num_workers", long_if([2], [0, 2]))
def test_streamed_equals_resident(photographs, num_workers):
    source = data.ImageFolder(str(photographs), image_size=16).load("train")
    settings = {"batch_size": 4, "seed": 3, "mesh": data_mesh(jax.devices()[:4])}
    resident = data.train_feed(source, **settings, resident=True)
    streamed = data.train_feed(source, **settings, resident=False, num_workers=num_workers)
    assert resident.steps_per_epoch == streamed.steps_per_epoch == 3
    assert_same_batches(all_batches(resident, 1), all_batches(streamed, 1))
    assert_same_batches(all_batches(resident, 1)[2:], all_batches(streamed, 1, start_step=2))


def test_batches_do_not_depend_on_devices():
    source = data.Digits().load("train")
    feeds = [data.train_feed(source, batch_size=64, seed=0, mesh=data_mesh(jax.devices()[:count])) for count in (1, 4)]
    assert_same_batches(*(all_batches(feed, 0) for feed in feeds))
    batch = all_batches(feeds[0], 0)[3]
    images, labels = source.decode()
    position = np.flatnonzero(source.ids == batch.id[5])[0]
    np.testing.assert_allclose(batch.image[5], images[position] / 255, rtol=1e-6)
    assert batch.label[5] == labels[position]


@pytest.mark.parametrize("resident", [True, False])
def test_evaluation_sees_every_example_once(resident):
    source = data.Digits().load("test")
    evaluation = data.evaluation(source, batch_size=98, mesh=data_mesh(), resident=resident)
    batches = [jax.device_get(batch) for batch in evaluation.batches()]
    assert {batch.image.shape for batch in batches} == {(100, 8, 8, 1)}
    mask = np.concatenate([batch.mask for batch in batches])
    assert mask.sum() == evaluation.num_examples == 360
    np.testing.assert_array_equal(np.concatenate([batch.id for batch in batches])[mask], source.ids)
    np.testing.assert_array_equal(np.concatenate([batch.label for batch in batches])[mask], source.decode()[1])


def test_tfds_without_tensorflow(shared_data, golden_arrays):
    source = data.Tfds("cifar10_lossless4000", data_dir=str(shared_data / "tfds")).load("train")
    golden = golden_arrays("cifar10c_golden32")
    for index, image, label in zip(golden["index"], golden["clean"], golden["label"], strict=True):
        np.testing.assert_array_equal(source[index][0], image)
        assert source[index][1] == label
    assert source.class_names[0] == "airplane"
    limited = data.Tfds("mnist", data_dir=str(shared_data / "tfds"), num_test=100, validation=0.1)
    assert len(limited.load("test")) == 100
    assert len(limited.load("train")) == 54000
    assert limited.load("test").image_shape == (28, 28, 1)


@pytest.mark.long
def test_tfds_streams_through_worker_processes(shared_data):
    source = data.Tfds("cifar10_lossless4000", data_dir=str(shared_data / "tfds"), num_train=64).load("train")
    settings = {"batch_size": 32, "seed": 0, "mesh": data_mesh()}
    streamed = data.train_feed(source, **settings, resident=False, num_workers=1)
    assert_same_batches(all_batches(data.train_feed(source, **settings), 0), all_batches(streamed, 0))


def test_tfds_errors_name_what_there_is(shared_data):
    root = str(shared_data / "tfds")
    with pytest.raises(FileNotFoundError, match=r"'cifar10_jpg75'.*Did you mean 'cifar10_jpeg75'.*tfds build"):
        data.Tfds("cifar10_jpg75", data_dir=root).load("train")
    with pytest.raises(ValueError, match=r"Unknown split of mnist .tests.\. Did you mean .test."):
        data.Tfds("mnist", data_dir=root, test_split="tests").load("test")


def test_arrays_are_compared_by_content():
    images, labels = np.random.default_rng(0).random((5, 4, 4, 1)), np.arange(5)
    assert data.Arrays(train=(images, labels)) == data.Arrays(train=(images.copy(), labels))
    assert data.Arrays(train=(images, labels)) != data.Arrays(train=(1 - images, labels))
    image, _ = data.Arrays(train=(images, labels)).load("train")[3]
    np.testing.assert_array_equal(image, np.round(images[3] * 255))


IMAGES, LABELS = np.zeros((4, 2, 2, 1)), np.arange(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.Digits().load("tests"), "Unknown split 'tests'. Did you mean 'test'"),
        (lambda: data.Digits(validation=1.5), "validation as a fraction"),
        (lambda: data.Digits(validation=-1), "validation as a fraction"),
        (lambda: data.Digits().load("validation"), "Expected examples in the validation split"),
        (lambda: data.Arrays(train=(IMAGES[0], LABELS)), r"shape \[n, h, w, c\] in arrays/train, got \(2, 2, 1\)"),
        (lambda: data.Arrays(train=(IMAGES + 2, LABELS)), r"float images in \[0, 1\] in arrays/train, got \[2, 2\]"),
        (lambda: data.Arrays(test=(IMAGES * np.nan, LABELS)), "no NaN in arrays/test, got some in image 0"),
        (lambda: data.Arrays(train=(IMAGES, LABELS[:3])), "Expected 4 integer labels"),
        (lambda: data.Arrays(train=(IMAGES, LABELS - 1)), "labels >= 0 in arrays/train, got -1"),
        (lambda: data.Arrays(train=(IMAGES.astype(int), LABELS)), "uint8 or as floats"),
        (lambda: data.Arrays(train=(IMAGES, LABELS), class_names=("a", "b")).load("train").decode(), "labels in 0..1"),
        (lambda: data.Arrays(train=(IMAGES, LABELS)).load("test"), "has no test arrays"),
        (lambda: data.train_feed(data.Digits().load("test"), batch_size=361, seed=0, mesh=None), "batch_size <= 360"),
    ],
)
def test_bad_data_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No file .*set\.npz"):
        data.Npz(str(tmp_path / "set.npz")).load("train")
    with pytest.raises(FileNotFoundError, match="No data folder"):
        data.ImageFolder(str(tmp_path / "photos")).load("train")
    with pytest.raises(FileNotFoundError, match="has no train folder"):
        data.ImageFolder(str(tmp_path)).load("train")
    np.savez(tmp_path / "set.npz", images=IMAGES)
    with pytest.raises(ValueError, match="has no array 'train_images"):
        data.Npz(str(tmp_path / "set.npz")).load("train")


def test_turned():
    plain = data.Digits().load("test")
    turned = data.Turned(data.Digits(), degrees=20.0, directions=4, label="direction").load("test")
    assert turned.class_names == ("0°", "90°", "180°", "270°")
    directions = [turned[i][1] for i in range(360)]
    assert min(np.bincount(directions, minlength=4)) > 60
    assert turned[5][1] == turned[5][1]
    np.testing.assert_array_equal(turned[5][0], turned[5][0])
    exact = data.Turned(data.Digits(), directions=4).load("test")
    for i in range(40):
        image, label = exact[i]
        assert label == plain[i][1]
        assert any(np.array_equal(image, np.rot90(plain[i][0], k)) for k in range(4))
    angle_free = data.Turned(data.Digits()).load("train")
    np.testing.assert_array_equal(angle_free.decode()[0], data.Digits().load("train").decode()[0])
    for fields in ({"degrees": -1.0}, {"directions": 0}, {"label": "clas"}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            data.Turned(data.Digits(), **fields)
