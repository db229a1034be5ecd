"""``robust-jax corrupt`` as a user meets it."""

import json
import signal
import subprocess
import sys
import time
import zlib

import jax
import numpy as np
import pytest
from PIL import Image
from tables import long_unless

from robust_jax import corruptions
from robust_jax.__main__ import main
from robust_jax.commands.corrupt import parse_corruptions, parse_severities
from robust_jax.commands.corrupt_batches import batch_size
from robust_jax.commands.corrupt_inputs import open_inputs
from robust_jax.commands.corrupt_outputs import contact_sheet
from robust_jax.commands.options import UsageError

# Quick to compile; the first two are random, the last deterministic.
NAMES = ("gaussian_noise", "impulse_noise", "brightness")
THREE = ",".join(NAMES)


@pytest.fixture
def run(capsys):
    """Runs the command in this process; gives its status and errors."""

    def call(*argv):
        try:
            status = main(["corrupt", *map(str, argv)])
        except SystemExit as stop:
            status = stop.code
        return status, capsys.readouterr().err

    return call


@pytest.fixture(scope="module")
def images():
    """Smooth pictures, so that JPEG keeps them about as they are."""
    grid = np.linspace(0, 1, 24)
    waves = [np.sin(i + 3 * grid[:, None, None] + np.arange(3) * grid[None, :, None]) for i in range(9)]
    return np.stack([np.uint8(255 * (0.5 + 0.45 * wave)) for wave in waves])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, images):
    """Nine pictures in two folders and three formats, one of them grey, of two sizes; and what is no picture."""
    root = tmp_path_factory.mktemp("pictures")
    for i, image in enumerate(images):
        path = root / ("cat" if i < 5 else "dog") / f"{i}{'.jpg' if i == 3 else '.bmp' if i == 4 else '.png'}"
        path.parent.mkdir(exist_ok=True)
        picture = Image.fromarray(image[..., 0] if i == 6 else image[:16] if i % 2 else image)
        picture.save(path, quality=95)
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """The folder corrupted, made once."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(["corrupt", str(folder), str(out), "--corruption", THREE, "--severity", "1,3.5", "--gallery"]) == 0
    return out


def contents(out):
    """Every file of a folder, its settings aside."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "corrupt.json"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def assert_within(part, whole):
    """A part of the outputs, bit for bit."""
    part, whole = contents(part), contents(whole)
    assert part
    for name, content in part.items():
        assert content == whole[name], name


def test_layout_names_sizes_and_formats_are_kept(folder, finished):
    sources = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.suffix != ".txt"}
    expected = {f"{name}/{severity}/{source}" for name in NAMES for severity in ("1", "3.5") for source in sources}
    assert set(contents(finished)) == expected | {"gallery.png"}
    for source in sources:
        with Image.open(folder / source) as clean, Image.open(finished / "brightness" / "1" / source) as corrupted:
            assert (clean.size, clean.mode, clean.format) == (corrupted.size, corrupted.mode, corrupted.format)


def test_pixels_are_those_of_the_python_function(folder, finished):
    name = "dog/8.png"
    for corruption in NAMES:
        key = jax.random.fold_in(jax.random.key(0), zlib.crc32(corruption.encode()))
        key = jax.random.fold_in(key, zlib.crc32(name.encode()))
        image = np.float32(np.asarray(Image.open(folder / name))) / np.float32(255)
        expected = np.round(255 * np.asarray(corruptions.corrupt(key, image, corruption, 3.5)))
        np.testing.assert_array_equal(np.asarray(Image.open(finished / corruption / "3.5" / name)), expected)


def test_quality_of_jpeg(folder, finished):
    with Image.open(finished / "brightness/1/cat/3.jpg") as image:
        tables = image.quantization
    buffer = finished.parent / "reference.jpg"
    Image.new("RGB", (16, 16)).save(buffer, quality=85)
    with Image.open(buffer) as image:
        assert tables == image.quantization


def test_same_results_whatever_else_is_corrupted(run, folder, finished, tmp_path):
    """Other workers, one corruption, one severity, half of the images, a file alone."""
    assert run(folder, tmp_path / "a", "--corruption", "impulse_noise", "--severity", 1, "--workers", 5)[0] == 0
    assert_within(tmp_path / "a", finished)
    half = tmp_path / "half"
    for name in ("cat/2.png", "dog/7.png", "dog/6.png"):
        (half / name).parent.mkdir(parents=True, exist_ok=True)
        (half / name).write_bytes((folder / name).read_bytes())
    assert run(half, tmp_path / "b", "--corruption", THREE, "--severity", "3.5")[0] == 0
    assert_within(tmp_path / "b", finished)
    assert run(folder / "cat/2.png", tmp_path / "c", "--corruption", "brightness", "--severity", 1)[0] == 0
    assert contents(tmp_path / "c") == {"brightness/1/2.png": (finished / "brightness/1/cat/2.png").read_bytes()}


def test_seed_changes_random_corruptions_only(run, folder, finished, tmp_path):
    assert run(folder, tmp_path, "--corruption", THREE, "--severity", 1, "--seed", 1)[0] == 0
    for name in NAMES:
        same = (tmp_path / name / "1/cat/0.png").read_bytes() == (finished / name / "1/cat/0.png").read_bytes()
        assert same == (name == "brightness")


def test_severity_zero_is_the_image(run, folder, tmp_path):
    assert run(folder, tmp_path, "--corruption", "impulse_noise", "--severity", 0)[0] == 0
    for name in ("cat/0.png", "dog/6.png"):
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "impulse_noise/0" / name)), np.asarray(Image.open(folder / name))
        )


def test_second_command_makes_only_what_is_missing(run, folder, finished, tmp_path):
    assert run(folder, tmp_path, "--corruption", "brightness", "--severity", 1)[0] == 0
    kept, lost = tmp_path / "brightness/1/cat/0.png", tmp_path / "brightness/1/cat/1.png"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    assert run(folder, tmp_path, "--corruption", THREE, "--severity", "1,3.5", "--gallery")[0] == 0
    assert kept.stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(finished)
    assert json.loads((tmp_path / "corrupt.json").read_text())["severities"] == [1.0, 3.5]


@pytest.mark.long
@pytest.mark.parametrize("kind", long_unless(["files"], ["files", "npy"]))
def test_killed_and_run_again(run, images, tmp_path, kind):
    copies, kept = (12, "gaussian_noise,brightness") if kind == "files" else (500, THREE)
    np.save(tmp_path / "many.npy", np.tile(images, (copies, 1, 1, 1)))
    options = ["--corruption", kept, "--severity", "1,3", "--format", kind]
    command = [sys.executable, "-m", "robust_jax", "corrupt", tmp_path / "many.npy", tmp_path / "killed", *options]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for _ in range(60_000):
        flags = list((tmp_path / "killed").glob(".*.done"))
        if any(any(flag.read_bytes()) for flag in flags) or list((tmp_path / "killed").rglob("*.png")):
            break
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = set(contents(tmp_path / "killed"))
    assert run(tmp_path / "many.npy", tmp_path / "killed", *options)[0] == 0
    assert run(tmp_path / "many.npy", tmp_path / "whole", *options)[0] == 0
    assert done != set(contents(tmp_path / "whole"))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_arrays_as_of_cifar10_c(run, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(9) % 4)
    assert run(tmp_path / "images.npy", tmp_path / "out", "--corruption", THREE, "--severity", "1-3")[0] == 0
    labels = np.load(tmp_path / "out/labels.npy")
    np.testing.assert_array_equal(labels, np.tile(np.arange(9) % 4, 3))
    assert labels.dtype == np.int64
    for name in NAMES:
        array = np.load(tmp_path / "out" / f"{name}.npy")
        assert array.shape == (27, 24, 24, 3)
        assert array.dtype == np.uint8
    brightness = np.load(tmp_path / "out/brightness.npy").reshape(3, 9, 24, 24, 3).astype(float)
    assert np.all(np.diff(brightness.mean((1, 2, 3, 4))) > 1)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), zlib.crc32(b"gaussian_noise")), 4)
    expected = corruptions.corrupt(key, np.float32(images[4]) / np.float32(255), "gaussian_noise", 2)
    noisy = np.load(tmp_path / "out/gaussian_noise.npy")[9 + 4]
    np.testing.assert_array_equal(noisy, np.round(255 * np.asarray(expected)))


def test_arrays_to_files_and_files_to_arrays(run, images, tmp_path):
    np.savez(tmp_path / "set.npz", test_images=images[..., 0], test_labels=np.arange(9) // 5, train_images=images[:1])
    options = ["--corruption", "brightness", "--severity", 2]
    assert run(tmp_path / "set.npz", tmp_path / "files", *options, "--format", "files")[0] == 0
    names = sorted(contents(tmp_path / "files"))
    assert names[0] == "brightness/2/0/00000.png"
    assert names[-1] == "brightness/2/1/00008.png"
    assert run(tmp_path / "files/brightness/2", tmp_path / "arrays", *options, "--format", "npy")[0] == 0
    assert np.load(tmp_path / "arrays/brightness.npy").shape == (9, 24, 24, 1)
    np.testing.assert_array_equal(np.load(tmp_path / "arrays/labels.npy"), np.arange(9) // 5)


def test_size_cuts_as_for_imagenet_c(tmp_path):
    """The clean images of ImageNet-C: shorter side to 256, the middle of 224."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 180, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    options = {"split": "test", "data_dir": None, "whole": False, "skip": tmp_path / "out", "workers": 1}
    inputs = open_inputs(str(tmp_path / "a.png"), size=70, **options)
    assert inputs.items[0].shape == (70, 70, 3)
    resized = Image.fromarray(pixels).resize((120, 80), Image.Resampling.BILINEAR)
    expected = np.asarray(resized)[5:75, 25:95]
    np.testing.assert_array_equal(inputs.read(inputs.items[0]).pixels, expected)


def test_tfds(run, shared_data, tmp_path):
    from robust_jax.data import Tfds

    options = ["--data-dir", shared_data / "tfds", "--corruption", "brightness", "--severity", 1]
    assert run("tfds:cifar10_lossless4000", tmp_path, *options)[0] == 0
    source = Tfds("cifar10_lossless4000", data_dir=str(shared_data / "tfds")).load("test")
    assert np.load(tmp_path / "brightness.npy").shape == (len(source), 32, 32, 3)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), [source[i][1] for i in range(len(source))])
    status, err = run("tfds:cifar10_losless4000", tmp_path / "other", *options)
    assert status == 1
    assert "'cifar10_lossless4000'" in err


def test_gallery(finished, folder):
    with Image.open(finished / "gallery.png") as sheet:
        width, height = sheet.size
        pixels = np.asarray(sheet.convert("RGB"))
    # Three rows and columns of 192 with 4 between, a line of titles above, names on the left.
    assert height == 22 + 3 * 196
    assert 3 * 196 < width < 3 * 196 + 150
    clean = np.asarray(Image.open(folder / "cat/0.png"))
    left = width - 3 * 196
    np.testing.assert_array_equal(pixels[22 : 22 + 192, left : left + 192][4::8, 4::8], clean)


def test_contact_sheet_leaves_cells_empty():
    grey = np.full((20, 40, 1), 90, np.uint8)
    sheet = np.asarray(contact_sheet(grey, {"fog": [None, grey]}, ["1", "2"]))
    assert sheet.shape[0] == 22 + 96 + 4
    assert np.all(sheet[24:110, -196:-6] == 90)
    assert np.all(sheet[24:110, -390:-202] == 255)


def test_unreadable_images_are_named_and_the_rest_done(run, folder, finished, tmp_path):
    copy = tmp_path / "pictures"
    for name in ("cat/0.png", "cat/1.png", "dog/8.png"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((folder / name).read_bytes())
    (copy / "broken.png").write_bytes(b"no picture")
    (copy / "cut.png").write_bytes((folder / "cat/0.png").read_bytes()[:200])
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(copy / "deep.png")
    options = ["--corruption", THREE, "--severity", "1,3.5"]
    status, err = run(copy, tmp_path / "out", *options)
    assert status == 1
    assert all(name in err for name in ("broken.png", "cut.png", "deep.png: Expected 8 bits a channel"))
    assert "Traceback" not in err
    assert_within(tmp_path / "out", finished)
    assert len(contents(tmp_path / "out")) == 3 * 3 * 2
    copy = copy / "dog"
    (copy / "cut.png").write_bytes((folder / "cat/0.png").read_bytes()[:200])
    status, err = run(copy, tmp_path / "arrays", *options, "--format", "npy")
    assert status == 1
    assert "cut.png" in err
    assert len(np.load(tmp_path / "arrays/brightness.npy")) == 2


def test_image_too_small_is_named_and_the_rest_done(run, tmp_path, images):
    source = tmp_path / "pictures"
    source.mkdir()
    Image.fromarray(images[0][:2, :2]).save(source / "small.png")
    Image.fromarray(images[0]).save(source / "large.png")
    name = next(n for n in corruptions.COMMON if corruptions.component(n).min_size > 2)
    least = corruptions.component(name).min_size
    status, err = run(source, tmp_path / "out", "--corruption", f"{name},brightness", "--severity", 1)
    assert status == 1
    assert f"small.png, {name}: Expected an image of at least {least}x{least}" in err
    assert set(contents(tmp_path / "out")) == {
        "brightness/1/small.png", "brightness/1/large.png", f"{name}/1/large.png"
    }  # fmt: skip


def test_output_folders_of_something_else(run, folder, finished, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    status, err = run(folder, tmp_path / "mine", "--overwrite")
    assert status == 1
    assert "mine is not empty" in err
    assert "name a new folder" in err
    status, err = run(folder, tmp_path / "mine/thesis.txt")
    assert status == 1
    assert "is a file" in err


def test_other_settings_need_overwrite(run, folder, tmp_path):
    (tmp_path / "out").mkdir()
    assert run(folder, tmp_path / "out", "--corruption", "brightness", "--severity", "1,2")[0] == 0
    (tmp_path / "out/mine.txt").write_text("kept")
    options = ["--corruption", "impulse_noise", "--severity", 2, "--seed", 3]
    status, err = run(folder, tmp_path / "out", *options)
    assert status == 1
    assert "seed: 0 there, 3 here" in err
    assert "--overwrite" in err
    assert run(folder, tmp_path / "out", *options, "--overwrite")[0] == 0
    assert {name.split("/")[0] for name in contents(tmp_path / "out")} == {"impulse_noise", "mine.txt"}


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["{in}", "{out}", "--corruption", "fgo"], 2, "Unknown corruption 'fgo'. Did you mean 'fog'?"),
        (["{in}", "{out}", "--corruption", ","], 2, "Expected --corruption as a name or a group"),
        (["{in}", "{out}", "--severity", "6"], 2, "Expected --severity within 0 to 5"),
        (["{in}", "{out}", "--severity", "hard"], 2, "Expected --severity within 0 to 5"),
        (["{in}", "{out}", "--quality", "0"], 2, "Expected --quality from 1 to 100, got 0"),
        (["{in}", "{out}", "--workers", "0"], 2, "Expected --workers at least 1, got 0"),
        (["{in}", "{out}", "--preset", "imagenet"], 2, "imagenet224"),
        (["{in}", "{out}", "--corruption", "frost", "--frost", "{in}/nowhere"], 1, "No folder of frost photographs"),
        (["{in}/cat/1.pgn", "{out}"], 1, "Did you mean '1.png'?"),
        (["{in}/notes.txt", "{out}"], 1, "notes.txt: cannot identify image file"),
        (["{empty}", "{out}"], 1, "holds no images"),
        (["{in}", "{out}", "--format", "npy", "--corruption", "brightness"], 1, "give a --size"),
        (["{empty}.npy", "{out}"], 1, "Expected uint8 images"),
        (["{empty}.npz", "{out}"], 1, "Expected one array of images"),
    ],
)
def test_bad_arguments_are_one_clear_line(run, folder, tmp_path, argv, status, message):
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    np.save(tmp_path / "empty.npy", np.zeros((2, 4, 4, 3)))
    np.savez(tmp_path / "empty.npz", a=np.zeros((2, 4, 4, 3), np.uint8), b=np.zeros((2, 4, 4, 3), np.uint8))
    code, err = run(*(arg.format(**{"in": folder, "out": out, "empty": empty}) for arg in argv))
    assert code == status
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not (out / "corrupt.json").exists()


def test_names_and_groups():
    assert parse_corruptions("all") == (*corruptions.COMMON, *corruptions.EXTRA)
    assert parse_corruptions("fog,common") == ("fog", *(name for name in corruptions.COMMON if name != "fog"))
    assert parse_corruptions("bar") == corruptions.BAR_IMAGENET
    assert parse_corruptions("extra, bar-cifar") == (*corruptions.EXTRA, *corruptions.BAR_CIFAR)


@pytest.mark.parametrize(
    ("text", "severities"),
    [("1-5", (1, 2, 3, 4, 5)), ("3", (3,)), ("5,1,3", (1, 3, 5)), ("2.5", (2.5,)), ("0-1,1,4", (0, 1, 4))],
)
def test_severities(text, severities):
    assert parse_severities(text) == severities


@pytest.mark.parametrize("text", ["", "-1", "5-1", "1-6", "nan", "inf", "1..3"])
def test_severities_that_cannot_be(text):
    with pytest.raises(UsageError, match="severity"):
        parse_severities(text)


def test_batches_depend_on_the_size_alone():
    assert batch_size((32, 32, 3)) == batch_size((32, 32, 1)) == 64
    assert batch_size((224, 224, 3)) == batch_size((5000, 4000, 3)) == 1


def test_help_teaches_and_imports_no_jax(repository):
    code = "import sys; from robust_jax.__main__ import main\n"
    code += "try: main(['corrupt', '--help'])\nexcept SystemExit: pass\n"
    code += "assert 'jax' not in sys.modules and 'numpy' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "robust-jax corrupt photos out --corruption fog,snow --severity 1,3,5" in result.stdout
