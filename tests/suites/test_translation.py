"""Errors and consistency under translations, recomputed outside the suite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from robust_jax import config, data, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.suites.translation import DIRECTIONS, translated

KEY = jax.random.key(0)
IMAGES = np.uint8(255 * np.random.default_rng(1).random((22, 8, 9, 3)))
LABELS = np.random.default_rng(2).integers(0, 3, 22)
WEIGHTS = np.random.default_rng(0).normal(size=(216, 3)).astype(np.float32)


@jax.tree_util.Partial
def network(images):
    return (images.reshape(len(images), -1) - 0.5) @ jnp.asarray(WEIGHTS)


def evaluation():
    source = data.Arrays(test=(IMAGES, LABELS), name="toy").load("test")
    return data.evaluation(source, batch_size=8, mesh=data_mesh())


def moved(x, y, mode="constant"):
    scipy_mode = {"wrap": "grid-wrap", "constant": "grid-constant"}.get(mode, mode)
    return ndimage.shift(IMAGES / np.float32(255), (0, y, x, 0), order=0, mode=scipy_mode)


@pytest.mark.parametrize("mode", ["constant", "nearest", "reflect", "mirror", "wrap"])
def test_moves(mode):
    for x, y in ((0, 0), (3, 0), (-2, 5), (0, -7)):
        ours = translated(mode, jnp.asarray(IMAGES / np.float32(255)), jnp.array([x, y]))
        np.testing.assert_array_equal(ours, moved(x, y, mode))


def test_rows():
    suite = suites.Translation(max_shift=3)
    store, progress = suites.CaseStore(), []
    rows = list(
        suite.rows(suites.Context(KEY, network, evaluation(), store=store, advance=lambda: progress.append(None)))
    )
    assert len(progress) == suite.num_cases == 4
    found = {(row.case, row.metric): row for row in rows}
    guesses = np.array(
        [[np.argmax(network(jnp.asarray(moved(s * x, s * y))), -1) for x, y in DIRECTIONS.values()] for s in range(4)]
    )
    wrong, same = guesses != LABELS, guesses == guesses[:1]
    np.testing.assert_allclose(found["shift 0", "error"].value, wrong[0, 0].mean())
    for shift in (1, 2, 3):
        case = f"shift {shift}"
        assert found[case, "error"].severity == shift
        np.testing.assert_allclose(found[case, "error"].value, wrong[shift].mean())
        np.testing.assert_allclose(found[case, "worst_error"].value, wrong[shift].any(axis=0).mean())
        np.testing.assert_allclose(found[case, "consistency"].value, same[shift].mean())
    for i, direction in enumerate(DIRECTIONS):
        np.testing.assert_allclose(found[direction, "error"].value, wrong[1:, i].mean())
    np.testing.assert_allclose(found["all", "mean_error"].value, wrong[1:].mean())
    np.testing.assert_allclose(found["all", "mean_consistency"].value, same[1:].mean())
    assert found["all", "mean_error"].low < found["all", "mean_error"].value < found["all", "mean_error"].high

    def refuse(images):
        raise AssertionError("finished cases are read from the store")

    assert list(suite.rows(suites.Context(KEY, jax.tree_util.Partial(refuse), evaluation(), store=store))) == rows
    assert config.from_json(config.to_json(suite)) == suite


def test_samples():
    samples = suites.Translation(max_shift=2).samples(suites.Context(KEY, network, evaluation()), num_images=3)
    assert samples.titles == ["clean", *DIRECTIONS]
    np.testing.assert_array_equal(samples.images[:, 1, :, 2:], IMAGES[:3, :, :-2])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: suites.Translation(max_shift=0), "max_shift"),
        (lambda: suites.Translation(border="mirrored"), "Did you mean 'mirror'"),
        (
            lambda: list(suites.Translation(max_shift=8).rows(suites.Context(KEY, network, evaluation()))),
            "max_shift < 8",
        ),
    ],
)
def test_bad_input(run, message):
    with pytest.raises(ValueError, match=message):
        run()
