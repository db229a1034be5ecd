"""Tables with real targets, and arrays of them."""

import jax
import numpy as np
import pytest

from robust_jax import config, data
from robust_jax.core.mesh import data_mesh

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(3, [1.0, 100.0, 1.0], (40, 3)).astype(np.float32)
X[:, 2] = 0.998
Y = GENERATOR.normal(-5, 7, 40).astype(np.float32)
TEST = np.array([3, 17, 5, 31])
TRAIN = np.setdiff1d(np.arange(40), TEST)


@pytest.fixture
def folder(tmp_path):
    np.savez(tmp_path / "toy.npz", x=X, y=Y, test_0=np.array([0]), test_1=TEST)
    return str(tmp_path)


def test_published_split_is_standardised_by_its_training_rows(folder):
    table = data.Tabular("toy", 1, folder)
    train, test = table.load("train"), table.load("test")
    assert (train.name, train.image_shape, train.num_classes) == ("toy_split1", (1, 1, 3), 0)
    np.testing.assert_array_equal(train.ids, TRAIN)
    np.testing.assert_array_equal(test.ids, np.sort(TEST))
    inputs, targets = train.decode()
    assert inputs.dtype == targets.dtype == np.float32
    assert targets.shape == (36, 1)
    np.testing.assert_allclose(inputs[:, 0, 0, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(inputs[:, 0, 0, :2].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(inputs[:, 0, 0, 2], 0)
    np.testing.assert_allclose(train.target_scale, (Y[TRAIN].std(),), rtol=1e-5)
    _, held_out = test.decode()
    again = held_out[:, 0] * test.target_scale[0] + Y[TRAIN].mean()
    np.testing.assert_allclose(again, Y[np.sort(TEST)], rtol=1e-5)


def test_a_validation_part_keeps_the_scale(folder):
    table = data.Tabular("toy", 1, folder, validation=6)
    parts = [table.load(split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [30, 6, 4]
    assert len({part.target_scale for part in parts}) == 1
    assert config.from_json(config.to_json(table)) == table


@pytest.mark.parametrize("resident", [True, False])
def test_floats_reach_batches_unrounded(folder, resident):
    source = data.Tabular("toy", 1, folder).load("train")
    inputs, targets = source.decode()
    feed = data.train_feed(source, batch_size=12, seed=0, mesh=data_mesh(jax.devices()[:2]), resident=resident)
    batches = [jax.device_get(feed.fetch(feed.resident, item)) for item in feed.epoch(0)]
    assert len(batches) == 3
    for batch in batches:
        rows = np.searchsorted(source.ids, batch.id)
        np.testing.assert_array_equal(batch.image, inputs[rows])
        np.testing.assert_array_equal(batch.label, targets[rows])
        assert batch.mask.shape == (12,)
    assert source.num_bytes == inputs.nbytes


def test_evaluation_pads_targets(folder):
    source = data.Tabular("toy", 1, folder).load("test")
    evaluation = data.evaluation(source, batch_size=3, mesh=data_mesh(jax.devices()[:1]))
    assert evaluation.target_scale == source.target_scale
    batches = [jax.device_get(batch) for batch in evaluation.batches()]
    mask = np.concatenate([batch.mask for batch in batches])
    assert mask.tolist() == [True] * 4 + [False] * 2
    np.testing.assert_array_equal(np.concatenate([batch.label for batch in batches])[mask], source.decode()[1])


def test_arrays_and_npz_with_real_targets(tmp_path):
    inputs, targets = 300 * X[:, None, None], np.stack([Y, -Y], axis=1)
    arrays = data.Arrays(train=(inputs, targets), test=(inputs[:5], targets[:5]))
    source = arrays.load("train")
    assert (source.target_scale, source.num_classes, source.image_dtype) == ((1.0, 1.0), 0, "float32")
    np.testing.assert_array_equal(source.decode()[0], inputs)
    np.testing.assert_array_equal(source.decode()[1], targets)
    pixels = np.zeros((4, 2, 2, 1), np.uint8)
    assert data.Arrays(test=(pixels, targets[:4])).load("test").image_dtype == "uint8"
    pairs = {"train": arrays.train, "test": arrays.test}
    named = {f"{split}_{part}": pair[i] for split, pair in pairs.items() for i, part in enumerate(("images", "labels"))}
    np.savez(tmp_path / "real.npz", **named)
    np.testing.assert_array_equal(data.Npz(str(tmp_path / "real.npz")).load("test").decode()[1], targets[:5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda y: data.Arrays(train=(X[:, None, None], np.where(y < 0, np.inf, y)[:, None])),
            "targets that are finite",
        ),
        (
            lambda y: data.Arrays(train=(X[:, None, None] * np.nan, y[:, None])),
            "inputs that are finite .* nan in row 0",
        ),
        (lambda y: data.Arrays(train=(X[:, None, None], y)), r"targets of shape \[40, d\] .* float32 \(40,\)"),
        (lambda y: data.Arrays(train=(X[:, None, None], y[:30, None])), r"targets of shape \[40, d\]"),
        (
            lambda y: data.Arrays(train=(X[:, None, None], y[:, None]), test=(X[:, None, None], np.stack([y, y], 1))),
            r"of one kind .* float32 \[n, 1\] labels .* float32 \[n, 2\]",
        ),
        (lambda y: data.Tabular("toy", -1), "number >= 0"),
    ],
)
def test_bad_targets_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(Y)


def test_bad_files_are_named(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"split of toy\.npz, got number=2; it holds splits 0 to 1"):
        data.Tabular("toy", 2, folder).load("train")
    with pytest.raises(FileNotFoundError, match=r"No file tox\.npz .*Did you mean 'toy'"):
        data.Tabular("tox", 0, folder).load("train")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"No data folder .*nowhere"):
        data.Tabular("toy").load("train")
    for name, arrays, message in (
        ("a", {"x": X}, "a.npz has no array 'y'"),
        ("b", {"x": X, "y": Y}, "it holds no splits"),
        ("c", {"x": X, "y": Y, "test_0": np.array([40])}, "test_0 as rows 0 to 39"),
        ("d", {"x": X, "y": np.where(Y < 0, np.nan, Y), "test_0": TEST}, "targets that are finite in d.npz"),
        ("e", {"x": X, "y": Y, "test_0": np.arange(40)}, "train and to test on"),
        ("f", {"x": X, "y": Y[:7], "test_0": TEST}, r"got \(40, 3\) and \(7, 1\)"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            data.Tabular(name, 0, folder).load("train")


def test_uci_sets_are_whole(shared_data):
    folder = str(shared_data / "uci")
    source = data.Tabular("yacht", 19, folder).load("train")
    assert (len(source), source.image_shape) == (277, (1, 1, 6))
    with np.load(shared_data / "uci" / "yacht.npz") as file:
        np.testing.assert_array_equal(source.ids, np.setdiff1d(np.arange(308), file["test_19"]))
