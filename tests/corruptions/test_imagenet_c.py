"""The 19 corruptions against what the original code makes of the same images, and what a classifier makes of those.

The published code was run with the libraries of its day. Corruptions without randomness must give its pixels; random
ones its statistics, and all of them the accuracy of a published network on its images.
"""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import corruptions, data, models
from robust_jax.corruptions.imagenet_c.glass import moved_in_turn, offsets
from robust_jax.weights import load_weights

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]

DETERMINISTIC = (
    "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur", "saturate",
)  # fmt: skip
NAMES = (*corruptions.COMMON, *corruptions.EXTRA)
SEVERITIES = corruptions.SEVERITIES
NUM_IMAGES = 500
# The network takes most of the time.
CLASSIFIED = (1, 3, 5)
# Of ours that the original's one draw is compared with, the mean; its accuracies differ most between draws.
NUM_DRAWS = {"elastic_transform": 2}
# The published table's one draw is 4 points from the mean of the law it is drawn from: by the original's steps, four
# more draws gave 53.4, 54.4, 53.0 and 52.4 %.
UNUSUAL = {("glass_blur", 3): 0.533}


@pytest.fixture(scope="module")
def golden(golden_arrays):
    return {32: golden_arrays("cifar10c_golden32"), 224: golden_arrays("imagenetc_golden")}


@pytest.fixture(scope="module")
def photographs(shared_data):
    source = data.Tfds("cifar10_lossless4000", data_dir=str(shared_data / "tfds")).load("train")
    return source.subset(np.arange(NUM_IMAGES)).decode()


@pytest.fixture(scope="module")
def classify(shared_data):
    model = models.cifar_resnet(20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    weights = shared_data.parent / "weights" / "cifar_resnet20.safetensors"
    params, state = load_weights(weights, model, (32, 32, 3))
    predictor = models.predictor(model, {"params": params, **state})
    return jax.jit(lambda images: jnp.argmax(predictor(images), axis=-1))


@pytest.fixture(scope="module")
def cells(photographs, classify, shared_data):
    """Accuracy (of some severities), mean absolute difference and PSNR of every corruption, ``[19, 5, 3]``."""
    pixels, labels = photographs
    images = jnp.asarray(pixels / np.float32(255))

    @jax.jit
    def distances(damaged):
        difference = jnp.abs(damaged - images)
        psnr = -10 * jnp.log10(jnp.mean(difference**2, axis=(1, 2, 3)))
        return 255 * jnp.mean(difference), jnp.mean(psnr)

    def measure(damaged, severity):
        accuracy = jnp.mean(classify(damaged) == labels) if severity in CLASSIFIED else np.nan
        return np.array([accuracy, *distances(damaged)])

    def cell(name, severity):
        fields = {"textures": str(shared_data / "frost")} if name == "frost" else {}
        return np.mean(
            [
                measure(
                    corruptions.corrupt_batch(keys_of(name, severity, draw), images, name, severity, **fields), severity
                )
                for draw in range(NUM_DRAWS.get(name, 1))
            ],
            axis=0,
        )

    return np.array([[cell(name, severity) for severity in SEVERITIES] for name in NAMES])


@pytest.fixture(scope="module")
def published(shared_data):
    """The same of the original's images."""
    with (shared_data.parent / "golden" / "resnet20_accuracy_on_original_cifar10c.csv").open() as file:
        table = {(row["corruption"], int(row["severity"])): row for row in csv.DictReader(file)}
    columns = ("accuracy", "mean_abs_difference", "psnr_db")
    cells = np.array([[[float(table[n, s][c]) for c in columns] for s in SEVERITIES] for n in NAMES])
    for (name, severity), accuracy in UNUSUAL.items():
        cells[NAMES.index(name), severity - 1, 0] = accuracy
    return cells


def keys_of(name, severity, draw):
    return jax.random.split(jax.random.key(NAMES.index(name) * 1000 + severity * 10 + draw), NUM_IMAGES)


def differences(damaged, expected):
    return np.abs(np.round(255 * np.asarray(damaged)) - expected)


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_pixels_of_the_original(golden, name, size):
    arrays = golden[size]
    images = jnp.asarray(arrays["clean"] / np.float32(255))
    keys = jax.random.split(jax.random.key(0), len(images))
    index = list(arrays["names"]).index(name)
    for i, severity in enumerate(SEVERITIES if size == 32 else arrays["severities"].tolist()):
        damaged = corruptions.corrupt_batch(keys, images, name, severity)
        difference = differences(damaged, arrays["corrupted"][index, i])
        assert difference.mean() <= (1.5 if name == "jpeg_compression" else 0.6)
        if name != "jpeg_compression":
            assert (difference <= 2).mean() >= 0.99


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DETERMINISTIC])
def test_large_images_as_the_original(golden, shared_data, name):
    """Two photographs under three severities: few, so what varies much between draws is compared loosely."""
    arrays = golden[224]
    images = jnp.asarray(arrays["clean"] / np.float32(255))
    tolerance = {"fog": 0.35, "frost": 0.45, "elastic_transform": 0.3, "motion_blur": 0.2, "spatter": 0.6}.get(
        name, 0.06
    )
    fields = {"textures": str(shared_data / "frost")} if name == "frost" else {}
    index = list(arrays["names"]).index(name)
    for i, severity in enumerate(arrays["severities"].tolist()):
        ours = [
            differences(
                corruptions.corrupt_batch(jax.random.split(jax.random.key(draw), 2), images, name, severity, **fields),
                arrays["clean"],
            ).mean()
            for draw in range(6)
        ]
        original = np.abs(arrays["corrupted"][index, i].astype(float) - arrays["clean"]).mean()
        np.testing.assert_allclose(np.mean(ours), original, rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_of_the_original(cells, published, name):
    index = NAMES.index(name)
    np.testing.assert_allclose(cells[index, :, 1], published[index, :, 1], rtol=0.05)
    np.testing.assert_allclose(cells[index, :, 2], published[index, :, 2], atol=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_as_under_the_original(cells, published, name):
    gap = 100 * (cells - published)[NAMES.index(name), np.array(CLASSIFIED) - 1, 0]
    assert np.abs(gap).max() <= 4
    assert abs(gap.mean()) <= 2


def test_mean_accuracy_as_under_the_original(cells, published):
    assert cells.shape[:2] == (19, 5)
    assert abs(100 * np.nanmean((cells - published)[..., 0])) <= 0.7


def test_crystals_are_as_hard_as_photographs_of_frost(photographs, classify, published):
    pixels, labels = photographs
    images = jnp.asarray(pixels / np.float32(255))
    for severity in CLASSIFIED:
        damaged = corruptions.corrupt_batch(keys_of("frost", severity, 0), images, "frost", severity)
        accuracy, difference, _ = published[NAMES.index("frost"), severity - 1]
        np.testing.assert_allclose(differences(damaged, pixels).mean(), difference, rtol=0.1)
        assert abs(float(jnp.mean(classify(damaged) == labels)) - accuracy) < 0.12


@pytest.mark.parametrize("reach", [1, 3])
def test_glass_moves_are_those_of_the_loop(reach):
    """Chains followed by pointer doubling end where the loop over pixels ends."""
    height, width = 13, 17
    key = jax.random.key(4)
    down, right = (np.asarray(a) for a in offsets(key, (height, width), jnp.int32(reach), jnp.int32(2 * reach)))
    assert down.min() == -reach
    assert down.max() == reach - 1
    held = np.arange(height * width).reshape(height, width)
    for row in range(height - reach, reach, -1):
        for column in range(width - reach, reach, -1):
            held[row, column] = held[row + down[row, column], column + right[row, column]]
    np.testing.assert_array_equal(moved_in_turn(key, (height, width), jnp.int32(reach)), held.reshape(-1))


def test_gradients_pass_where_the_operation_has_them():
    """On clean corruptions that are linear in the image, the gradient is the linear map itself."""
    image = jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.6, (32, 32, 3)), jnp.float32)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=image.shape), jnp.float32)
    for name in (
        "defocus_blur",
        "gaussian_blur",
        "motion_blur",
        "zoom_blur",
        "glass_blur",
        "elastic_transform",
        "pixelate",
    ):
        corruption = corruptions.component(name, compat="clean")
        run = jax.jit(lambda x, corruption=corruption: corruption(jax.random.key(3), x, jnp.float32(3.0)))
        moved, tangent = jax.jvp(run, (image,), (direction,))
        np.testing.assert_allclose(tangent, (run(image + 0.05 * direction) - moved) / 0.05, atol=2e-3)
        assert float(jnp.abs(tangent).max()) > 0.1
