"""Published shifted sets in the layouts they are published in, made small; classes mapped by name; bad ones named."""

import io
import pickle
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from robust_jax import config, data

COUNT = 7
SHAPE = (6, 5, 3)
GENERATOR = np.random.default_rng(0)
STACKED = {name: GENERATOR.integers(0, 256, (5 * COUNT, *SHAPE)).astype(np.uint8) for name in ("fog", "glass_blur")}
LABELS = np.array([3, 0, 1, 1, 2, 0, 3])


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """CIFAR-10-C's layout."""
    root = tmp_path_factory.mktemp("published") / "TOY-C"
    root.mkdir()
    for name, images in STACKED.items():
        np.save(root / f"{name}.npy", images)
    np.save(root / "labels.npy", np.tile(LABELS, 5))
    return root


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """Prepared sets with configs, in TFDS's layout, without TensorFlow."""
    root = tmp_path_factory.mktemp("tfds")
    for index, config_name in enumerate(("frosted_glass_blur_2", "fog_1")):
        write_tfds(root, "cifar10_corrupted", config_name, "test", STACKED["fog"][index * COUNT :][:COUNT])
    write_tfds(root, "imagenet2012_corrupted", "fog_3", "validation", STACKED["glass_blur"][:COUNT])
    return root


def write_tfds(root, name, config_name, split, images):
    import tensorflow_datasets as tfds

    folder = root / name / config_name / "1.0.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=SHAPE), "label": tfds.features.ClassLabel(num_classes=4)}
    )
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, split=split, filetype_suffix="array_record"
    )
    records = [
        features.serialize_example({"image": png(image), "label": int(label)})
        for image, label in zip(images, LABELS, strict=True)
    ]
    path = folder / f"{name}-{split}.array_record-00000-of-00001"
    write_records(path, records)
    info = tfds.core.SplitInfo(
        name=split, shard_lengths=[len(records)], num_bytes=path.stat().st_size, filename_template=template
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[info], filename_template=template, check_data=False
    )


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_records(path, records):
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """ImageNet-A's, ImageNet-V2's and ImageNet-C's layouts."""
    root = tmp_path_factory.mktemp("folders")
    layouts = {
        "imagenet-a": ("n02", "n01"),
        "imagenetv2": tuple(str(i) for i in range(11)),
        "imagenet-c/fog/3": ("n01", "n02"),
        "imagenet-c-grouped/weather/fog/3": ("n01", "n02"),
    }
    for layout, classes in layouts.items():
        for name in classes:
            (root / layout / name).mkdir(parents=True)
            for i in range(2):
                colour = np.full((12, 9, 3), 20 * i + 7 * (int(name) if name.isdecimal() else int(name[1:])), np.uint8)
                Image.fromarray(colour).save(root / layout / name / f"{i}.png")
    (root / "imagenet-a" / "README.txt").write_text("n01 a fish")
    return root


@pytest.mark.parametrize("severity", [1, 4])
@pytest.mark.parametrize("whole", [True, False], ids=["labels of all", "labels once"])
def test_arrays_are_those_of_the_severity(arrays, tmp_path, severity, whole):
    folder = arrays
    if not whole:
        folder = tmp_path
        np.save(folder / "fog.npy", STACKED["fog"])
        np.save(folder / "labels.npy", LABELS)
    source = data.CorruptedArrays(str(folder), "fog", severity).load("test")
    images, labels = source.decode()
    np.testing.assert_array_equal(images, STACKED["fog"].reshape(5, COUNT, *SHAPE)[severity - 1])
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(source.ids, np.arange(COUNT))
    assert source.class_names == ("0", "1", "2", "3")
    part = source.subset(np.array([5, 2]))
    np.testing.assert_array_equal(part.decode()[0], images[[5, 2]])
    np.testing.assert_array_equal(part[1][0], images[2])
    again = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(again.decode()[0], images[[5, 2]])
    assert len(pickle.dumps(part)) < images.nbytes * 5


def test_arrays_are_mapped_and_not_read(tmp_path):
    """Nothing but the examples asked for takes memory."""
    images = np.lib.format.open_memmap(tmp_path / "fog.npy", "w+", np.uint8, (5 * 2000, 32, 32, 3))
    images[9000] = 7
    images.flush()
    del images
    np.save(tmp_path / "labels.npy", np.zeros(10_000, int))
    tracemalloc.start()
    source = data.CorruptedArrays(str(tmp_path), "fog", 5).load("test")
    image, _ = source[1000]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (image == 7).all()
    assert peak < 2 * 2**20


def test_tfds_configs_load_under_the_names_of_the_files(tfds_dir):
    source = data.CorruptedTfds(corruption="glass_blur", severity=2, data_dir=str(tfds_dir)).load("test")
    images, labels = source.decode()
    np.testing.assert_array_equal(images, STACKED["fog"][:COUNT])
    np.testing.assert_array_equal(labels, LABELS)
    assert source.name == "cifar10_corrupted/frosted_glass_blur_2"
    np.testing.assert_array_equal(
        data.Tfds("cifar10_corrupted/fog_1", data_dir=str(tfds_dir)).load("test").decode()[0],
        STACKED["fog"][COUNT : 2 * COUNT],
    )
    source = data.CorruptedTfds("imagenet2012_corrupted", "fog", 3, data_dir=str(tfds_dir)).load("test")
    np.testing.assert_array_equal(source.decode()[0], STACKED["glass_blur"][:COUNT])


def test_tfds_names_the_nearest_config(tfds_dir):
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'cifar10_corrupted/fog_1'\?.*tfds build"):
        data.CorruptedTfds(corruption="fogg", severity=1, data_dir=str(tfds_dir)).load("test")
    with pytest.raises(ValueError, match=r"cifar10_corrupted has several configs.*cifar10_corrupted/fog_1, "):
        data.Tfds("cifar10_corrupted", data_dir=str(tfds_dir)).load("test")


def test_folders_without_splits(photographs):
    source = data.ClassFolder(str(photographs / "imagenet-a"), image_size=8).load("test")
    assert source.class_names == ("n01", "n02")
    images, labels = source.decode()
    assert [(int(image[0, 0, 0]), int(label)) for image, label in zip(images, labels, strict=True)] == [
        (7, 0), (27, 0), (14, 1), (34, 1),
    ]  # fmt: skip
    thinned = data.ClassFolder(str(photographs / "imagenet-a"), image_size=8, num_test=2).load("test")
    assert thinned.decode()[1].tolist() == [0, 1]


def test_numbered_folders_are_in_the_order_of_their_numbers(photographs):
    source = data.ClassFolder(str(photographs / "imagenetv2"), image_size=8).load("test")
    assert source.class_names == tuple(str(i) for i in range(11))
    images, labels = source.decode()
    np.testing.assert_array_equal(images[::2, 0, 0, 0], 7 * labels[::2])


def test_unknown_inputs_are_of_no_known_class(photographs):
    source = data.ClassFolder(str(photographs / "imagenet-a"), image_size=8, labelled=False).load("test")
    assert source.class_names == ("unknown",)
    assert source.decode()[1].tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="1 of 1 classes that the model does not have: 'unknown'"):
        data.map_classes(source.class_names, ("n01", "n02"))


@pytest.mark.parametrize("layout", ["imagenet-c", "imagenet-c-grouped"])
def test_folders_of_corruptions(photographs, layout):
    source = data.CorruptedFolders(str(photographs / layout), "fog", 3, image_size=8).load("test")
    assert source.name == f"{layout}/fog_3"
    assert source.class_names == ("n01", "n02")
    assert len(source) == 4


def test_classes_are_mapped_by_name():
    known = ("airplane", "automobile", "bird", "cat")
    assert data.map_classes(("cat", "airplane"), known).tolist() == [3, 0]
    # A set that has only numbers, as CIFAR-10-C and ImageNet-V2; also where folders are missing.
    assert data.map_classes(("0", "1", "2", "3"), known).tolist() == [0, 1, 2, 3]
    assert data.map_classes(("1", "3"), known).tolist() == [1, 3]
    assert data.map_classes(known, ("0", "1", "2", "3")).tolist() == [0, 1, 2, 3]
    assert data.map_classes(("1", "0"), ("0", "1")).tolist() == [1, 0]
    renamed = {"car": "automobile", "monkey": None, "wagon": "automobile"}
    assert data.map_classes(("bird", "car", "monkey", "wagon"), known, renamed=renamed).tolist() == [2, 1, -1, 1]
    renamed = {"car": "automobile", "*": None}
    assert data.map_classes(("bird", "car", "monkey", "wagon"), known, renamed=renamed).tolist() == [2, 1, -1, -1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ("cat", "bird", "tabby")}, "shifted has 1 of 3 classes that the model does not have: 'tabby'"),
        ({"names": ("cats",)}, "Did you mean 'cat'"),
        ({"names": tuple(f"m{i}" for i in range(9))}, r"9 of 9 classes .* 'm0', 'm1', 'm2', 'm3', 'm4' and 4 more"),
        ({"names": ("0", "9")}, "does not have: '9'"),
        ({"names": ("cat", "dog"), "known": ("0", "1", "2")}, "2 of 2 classes"),
        ({"names": ("cat",), "renamed": {"cats": "bird"}}, "Unknown class 'cats' of shifted"),
    ],
)
def test_classes_that_do_not_fit_are_named(arguments, message):
    options = {"known": ("bird", "cat"), "where": "shifted"} | arguments
    with pytest.raises(ValueError, match=message):
        data.map_classes(options.pop("names"), options.pop("known"), **options)


def test_a_thousand_classes_are_not_listed():
    known = tuple(f"n{i:08d}" for i in range(1000))
    assert data.map_classes(known[5:205], known).tolist() == list(range(5, 205))
    with pytest.raises(ValueError, match="such as n00000000") as caught:
        data.map_classes(("tabby",), known)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda root: data.CorruptedArrays(f"{root}X", "fog"), FileNotFoundError, "Did you mean 'TOY-C'"),
        (lambda root: data.CorruptedArrays(str(root), "fogg"), FileNotFoundError, "Did you mean 'fog'"),
        (lambda root: data.CorruptedArrays(str(root), "labels"), FileNotFoundError, "no corruption 'labels'"),
        (lambda root: data.CorruptedFolders(str(root), "fog"), FileNotFoundError, "It has none at all"),
        (lambda root: data.ClassFolder(f"{root}X"), FileNotFoundError, "Did you mean 'TOY-C'"),
        (lambda root: data.CorruptedArrays(str(root), "fog", 6), ValueError, "severity as a whole number from 1 to 5"),
        (lambda root: data.CorruptedArrays(str(root), "fog", class_names=("a",)), ValueError, "Expected labels in 0"),
    ],
)
def test_bad_sets_are_named(arrays, make, error, message):
    with pytest.raises(error, match=message):
        make(arrays).load("test").decode()


@pytest.mark.parametrize("size", [5, 16])
def test_resized_is_what_pillow_makes_of_it(arrays, size):
    published = data.CorruptedArrays(str(arrays), "fog", 2)
    source = pickle.loads(pickle.dumps(data.Resized(published, size).load("test").subset(np.array([3, 1]))))
    assert source.image_shape == (size, size, 3)
    assert source.name == f"TOY-C/fog_2_{size}px"
    images, labels = source.decode()
    original = Image.fromarray(published.load("test")[3][0])
    np.testing.assert_array_equal(images[0], np.asarray(original.resize((size, size), Image.Resampling.BICUBIC)))
    assert labels.tolist() == [LABELS[3], LABELS[1]]
    grey = data.Resized(data.Resized(data.Digits(), 4), 8).load("test")
    sharp = data.Digits().load("test").decode()[0].astype(float)
    coarse = grey.decode()[0].astype(float)
    assert coarse.shape == sharp.shape
    edges = [np.abs(np.diff(images, axis=2)).mean() for images in (coarse, sharp)]
    assert 0.2 < edges[0] / edges[1] < 0.8, "a coarse copy"


def test_there_is_nothing_to_train_on(arrays):
    with pytest.raises(ValueError, match="Unknown split of TOY-C/fog_1 'train'"):
        data.CorruptedArrays(str(arrays), "fog").load("train")
    with pytest.raises(ValueError, match="Unknown split of TOY-C 'train'"):
        data.ClassFolder(str(arrays)).load("train")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((12, 4, 4, 3), np.uint8), np.zeros(12, int), r"images \[5 n, h, w, c\] in .*fog\.npy"),
        (np.zeros((10, 4, 4, 3)), np.zeros(10, int), "got float64"),
        (np.array([{}] * 5), np.zeros(5, int), r"Cannot read array .*fog\.npy"),
        (np.zeros((10, 4, 4, 3), np.uint8), np.zeros(3, int), "Expected 2 or 10 integer labels"),
        (np.zeros((10, 4, 4, 3), np.uint8), np.full(10, -1), "labels >= 0"),
        (np.zeros((10, 4, 4, 3), np.uint8), np.arange(10), "Expected the same 2 labels five times over"),
        (np.zeros((10, 4, 4, 3), np.uint8), None, r"has no labels\.npy"),
    ],
)
def test_damaged_arrays_are_named(tmp_path, images, labels, message):
    np.save(tmp_path / "fog.npy", images, allow_pickle=True)
    if labels is not None:
        np.save(tmp_path / "labels.npy", labels)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        data.CorruptedArrays(str(tmp_path), "fog").load("test")


@pytest.mark.parametrize(
    "component",
    [
        data.CorruptedArrays("a", "fog", 2, class_names=("a", "b")),
        data.CorruptedTfds(corruption="fog", severity=2),
        data.CorruptedFolders("a", "fog", 2),
        data.ClassFolder("a", labelled=False),
        data.Resized(data.Digits(), 5),
    ],
    ids=lambda component: type(component).__name__,
)
def test_sets_are_plain_values(component):
    assert config.from_json(config.to_json(component)) == component
    assert hash(component) == hash(config.from_json(config.to_json(component)))
