"""Label maps from arrays, folders and drawings."""

import numpy as np
import pytest
from PIL import Image

from robust_jax import data
from robust_jax.data.source import Source
from robust_jax.types import IGNORED

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (6, 8, 12, 3)).astype(np.uint8)
NUMBERS = GENERATOR.choice([0, 100, 255], (6, 8, 12)).astype(np.uint8)
CLASSES = {"class_names": ("background", "vessel"), "values": (0, 255)}


@pytest.fixture
def root(tmp_path):
    """A set in one folder, with three numbers in its masks, of which 100 is no class; and one in four."""
    for i, (image, mask) in enumerate(zip(PIXELS, NUMBERS, strict=True)):
        for folder, stem in (("flat", f"eye{i}"), (f"parted/{'test' if i > 3 else 'train'}/", f"p{i}")):
            parts = {"images": ".bmp", "masks": ".png"}
            for part, array in (("images", image), ("masks", mask // 100)):
                if folder != "flat":
                    (tmp_path / folder / part).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(tmp_path / folder / part / f"{stem}{parts[part]}")
        (tmp_path / "flat").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"flat/eye{i}.bmp")
        Image.fromarray(mask).save(tmp_path / f"flat/eye{i}_mask.png")
    return tmp_path


def flat(root, **fields):
    settings = {"images": "*.bmp", "masks": "{stem}_mask.png", "num_test": 2, "ignored": 100, **CLASSES, **fields}
    return data.MaskFolder("flat", image_size=8, data_dir=str(root), **settings)


def test_pairs_in_one_folder_are_cut_alike(root):
    """The last two are for testing; a square in the middle, of image and mask, where the number 100 is ignored."""
    source = flat(root).load("test")
    assert (source.label_shape, source.label_dtype, source.num_classes) == ((8, 8), "int32", 2)
    images, maps = source.decode()
    np.testing.assert_array_equal(images, PIXELS[4:, :, 2:10])
    numbers = NUMBERS[4:, :, 2:10]
    np.testing.assert_array_equal(maps, np.select([numbers == 0, numbers == 255], [0, 1], IGNORED))
    assert len(flat(root).load("train")) == 4


def test_folders_of_images_and_masks_with_classes(root):
    folder = data.MaskFolder("parted", class_names=("a", "b", "c"), image_size=8, data_dir=str(root))
    images, maps = folder.load("train").decode()
    np.testing.assert_array_equal(images, PIXELS[:4, :, 2:10])
    np.testing.assert_array_equal(maps, NUMBERS[:4, :, 2:10] // 100)
    assert len(folder.load("test")) == 2


def test_masks_are_resized_at_the_nearest_pixel(root):
    """No number between classes appears: those of the mask halved by hand, every second pixel from the first."""
    _, maps = flat(root, ignored=100).load("train").decode()
    smaller = data.MaskFolder(
        "flat", **CLASSES, images="*.bmp", masks="{stem}_mask.png", num_test=2, ignored=100, image_size=4,
        data_dir=str(root),
    )  # fmt: skip
    _, halves = smaller.load("train").decode()
    np.testing.assert_array_equal(halves, maps[:, 1::2, 1::2])


def test_training_images_in_patches(root):
    """Row by row; held-out images stay whole, and with all their patches apart."""
    whole, _ = flat(root).load("train").decode()
    source = flat(root, patch=4, validation=1).load("train")
    held_out = flat(root, patch=4, validation=1).load("validation")
    assert (source.image_shape, held_out.image_shape) == ((4, 4, 3), (8, 8, 3))
    kept = [i for i in range(4) if i not in held_out.ids]
    images, _ = source.decode()
    patches = [whole[i, r : r + 4, c : c + 4] for i in kept for r in (0, 4) for c in (0, 4)]
    np.testing.assert_array_equal(images, patches)
    np.testing.assert_array_equal(source[5][0], patches[5])
    assert len(set(source.ids.tolist())) == 12


def test_a_mask_of_one_bit_and_one_of_a_palette(root):
    for i in range(6):
        Image.fromarray(NUMBERS[i] == 255).save(root / f"flat/eye{i}_mask.png")
    _, maps = flat(root, ignored=None).load("test").decode()
    np.testing.assert_array_equal(maps, NUMBERS[4:, :, 2:10] == 255)
    for i in range(6):
        mask = Image.fromarray((NUMBERS[i] == 255).astype(np.uint8), mode="P")
        mask.putpalette([200, 0, 0, 0, 200, 0])
        mask.save(root / f"flat/eye{i}_mask.png")
    _, again = flat(root, ignored=None, values=()).load("test").decode()
    np.testing.assert_array_equal(again, maps)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_map_of_another_size_is_refused_before_training(root, split):
    file = root / f"flat/eye{5 if split == 'test' else 0}_mask.png"
    Image.fromarray(NUMBERS[0, :, :11]).save(file)
    with pytest.raises(ValueError, match=rf"its image's size, 8×12 in .*\.bmp, got 8×11 in .*{file.name}"):
        flat(root).load("train")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"ignored": None}, ValueError, r"numbers 0, 255, got 100 in .*eye\d_mask.png"),
        ({"values": (0, 3)}, ValueError, r"numbers 0, 3 and 100 \(ignored\), got 255"),
        ({"masks": "{stem}.tif"}, FileNotFoundError, r"No mask .*eye0.tif of image .*eye0.bmp"),
        ({"images": "*.jpg"}, FileNotFoundError, r"flat holds no images \*.jpg"),
        ({"num_test": 6}, ValueError, "num_test < 6"),
        ({"num_test": None}, ValueError, "{split} in images, or num_test"),
        ({"patch": 3}, ValueError, "patch to divide image_size=8, got patch=3"),
        ({"values": (0, 1, 2)}, ValueError, "2 values, one a class"),
        ({"class_names": ()}, ValueError, "number of classes > 0"),
    ],
)
def test_bad_folders(root, fields, error, message):
    with pytest.raises(error, match=message):
        flat(root, **fields).load("train").decode()


def test_a_missing_folder_and_a_mask_in_colour(root):
    with pytest.raises(FileNotFoundError, match=r"No data folder .*flt. Did you mean 'flat'"):
        data.MaskFolder("flt", **CLASSES, data_dir=str(root)).load("train")
    Image.fromarray(PIXELS[0]).save(root / "flat/eye0_mask.png")
    with pytest.raises(ValueError, match=r"one channel, got mode RGB in .*eye0_mask.png"):
        flat(root).load("train").decode()


def test_arrays_with_label_maps():
    maps = GENERATOR.integers(-1, 3, (6, 8, 12))
    images, labels = data.Arrays(train=(PIXELS, maps)).load("train").decode()
    np.testing.assert_array_equal(images, PIXELS)
    np.testing.assert_array_equal(labels, maps)
    assert labels.dtype == np.int32
    # Test images may have another size.
    both = data.Arrays(train=(PIXELS, maps), test=(PIXELS[:, :4], maps[:, :4]))
    assert both.load("test").num_classes == 3


def test_npz_with_label_maps(tmp_path):
    maps = GENERATOR.integers(0, 3, (6, 8, 12))
    arrays = {f"{split}_{kind}": array for split in ("train", "test") for kind, array in
              (("images", PIXELS), ("labels", maps))}  # fmt: skip
    np.savez(tmp_path / "seg.npz", **arrays)
    np.testing.assert_array_equal(data.Npz(str(tmp_path / "seg.npz")).load("test").decode()[1], maps)


def test_arrays_with_clean_images():
    clean = PIXELS / np.float32(255)
    noisy = clean + GENERATOR.normal(size=clean.shape)
    images, labels = data.Arrays(train=(noisy, clean)).load("train").decode()
    np.testing.assert_array_equal(images, noisy.astype(np.float32))
    np.testing.assert_array_equal(labels, clean)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((6, 8, 11), int), "images' size 8×12 in arrays/train, got 8×11"),
        (np.zeros((5, 8, 12), int), r"labels of pixels of shape \[6, 8, 12\] in arrays/train, got \(5, 8, 12\)"),
        (np.zeros((6, 8, 12)), r"label maps int \[n, h, w\] or clean images float .* got float64 \(6, 8, 12\)"),
        (np.full((6, 8, 12), -2), "labels >= -1 in arrays/train, got -2"),
        (np.zeros((6, 8, 12, 1)), r"of shape \[6, 8, 12, 3\] in arrays/train, got \(6, 8, 12, 1\)"),
        (np.full((6, 8, 12, 3), np.nan), "targets that are finite"),
    ],
)
def test_bad_arrays(labels, message):
    with pytest.raises(ValueError, match=message):
        data.Arrays(train=(PIXELS, labels))


def test_a_source_checks_what_it_reads():
    def source(label):
        return Source(
            "maps", "train", ("a", "b"), (8, 12, 3), lambda i: (PIXELS[i], label), np.arange(6), pixelwise="classes"
        )

    with pytest.raises(ValueError, match=r"its image's size, 8×12, got 8×8: maps/train example 0"):
        source(np.zeros((8, 8), int))[0]
    with pytest.raises(ValueError, match=r"classes 0..1, or -1 to ignore a pixel, got 2"):
        source(np.full((8, 12), 2))[0]


@pytest.mark.parametrize(
    "wrap", [data.Turned, data.Resized, data.LongTailed, data.Oversampled, lambda d: data.FewLabels(d, per_class=1)]
)
def test_components_of_whole_labels_refuse_maps(wrap):
    with pytest.raises(ValueError, match=r"a label for each image in .*, got .* with labels of pixels"):
        wrap(data.Shapes(num_train=4)).load("train").decode()


def test_shapes_are_brighter_than_what_is_around_them():
    source = data.Shapes(num_train=40, num_test=10).load("train")
    images, maps = source.decode()
    np.testing.assert_array_equal(images, source.decode()[0])
    assert not np.array_equal(images[:10], data.Shapes(num_test=10).load("test").decode()[0])
    assert set(np.unique(maps)) == {0, 1, 2}
    brightness = [np.mean([image[label == kind].mean() for image, label in zip(images, maps, strict=True) if
                           (label == kind).any()]) for kind in range(3)]  # fmt: skip
    assert min(brightness[1:]) > brightness[0] + 30
    # A disc of one image alone fills π/4 of its box, a square turned by no angle more.
    assert 0.05 < (maps > 0).mean() < 0.4
