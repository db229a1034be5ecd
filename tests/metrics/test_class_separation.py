"""The nearest pair against all pairs compared one by one."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from tables import long_unless

from robust_jax import data, metrics
from robust_jax.metrics.class_separation import _bounds, _cells

GENERATOR = np.random.default_rng(0)
NORMS = (0.5, 1.0, 1.7, 2.0, 3.0, 10.0, 200.0, math.inf)


def digits():
    images, labels = data.Digits().load("train").decode()
    return images.astype(np.float32) / 255, np.asarray(labels)


def all_pairs(images, labels, p):
    flat = images.reshape(len(images), -1).astype(np.float64)
    distances = cdist(flat, flat, "chebyshev") if p == math.inf else cdist(flat, flat, "minkowski", p=p)
    distances[labels[:, None] == labels[None]] = np.inf
    return distances


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("shape", long_unless([(7, 5, 3)], [(8, 8, 1), (7, 5, 3), (3, 3, 1), (33, 18, 3)]), ids=str)
def test_distance_and_pair_against_all_pairs(shape, p):
    images = (GENERATOR.integers(0, 256, (120, *shape)) / 255).astype(np.float32)
    labels = GENERATOR.integers(0, 3, 120)
    expected = all_pairs(images, labels, p)
    found = metrics.nearest_classes(images, labels, p)
    assert found.distance == pytest.approx(expected.min(), rel=1e-9)
    assert expected[found.first, found.second] == expected.min()
    assert found.first < found.second
    assert found.eps_min == found.distance / 2


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_several_blocks(p, monkeypatch):
    """Digits, in many small blocks, the last one not full."""
    monkeypatch.setattr("robust_jax.metrics.class_separation.BLOCK", 96)
    images, labels = digits()
    assert len(images) % 96
    found = metrics.nearest_classes(images, labels, p)
    assert found.distance == pytest.approx(all_pairs(images, labels, p).min(), rel=1e-9)
    order = np.random.default_rng(1).permutation(len(images))
    assert metrics.nearest_classes(images[order], labels[order], p).distance == found.distance


@pytest.mark.parametrize("p", [1.0, 1.7, 2.0, 3.0, math.inf])
def test_averages_over_cells_bound_distances(p):
    images = GENERATOR.uniform(size=(30, 9, 14, 3)).astype(np.float32)
    exact = all_pairs(images, np.arange(30), p)
    off_diagonal = ~np.eye(30, dtype=bool)
    for cells in (0, 4, 8):
        coarse = _cells(images, cells, p).astype(np.float64)
        distances = np.linalg.norm(coarse[:, None] - coarse[None], ord=p, axis=-1)
        assert (distances <= exact + 1e-4)[off_diagonal].all()
        assert distances[off_diagonal].max() > 0.02 * exact[off_diagonal].max()
    coarse, positions = _cells(images, 4, p), np.arange(30)
    bounds = np.asarray(_bounds(coarse, positions, positions, coarse, positions, positions, p))
    upper = np.triu_indices(30, 1)
    expected = np.linalg.norm(coarse[:, None] - coarse[None], ord=p, axis=-1)
    np.testing.assert_allclose(bounds[upper], expected[upper], rtol=1e-5)
    assert np.isinf(bounds[np.tril_indices(30)]).all()


def test_pixelwise_alike_on_average():
    """Averages that agree do not make images near: the bounds are 0, the distance is not."""
    board = np.indices((8, 8)).sum(axis=0)[..., None] % 2
    images = np.stack([board, 1 - board, board]).astype(np.float32)
    found = metrics.nearest_classes(images, np.array([0, 1, 1]), 2.0)
    assert found == (8.0, 0, 1)


def test_identical_images():
    images = GENERATOR.uniform(size=(10, 6, 6, 1)).astype(np.float32)
    images[7] = images[2]
    labels = np.arange(10)
    assert metrics.nearest_classes(images, labels, 2.0, identical=True) == (0.0, 2, 7)
    apart = all_pairs(images, labels, 2.0)
    assert metrics.nearest_classes(images, labels, 2.0).distance == pytest.approx(apart[apart > 0].min())


def test_one_class_has_no_separation():
    assert metrics.nearest_classes(np.zeros((4, 3, 3, 1)), np.zeros(4, int), 1.0) == (math.inf, -1, -1)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="p > 0, got p=0"):
        metrics.nearest_classes(np.zeros((4, 3, 3, 1)), np.zeros(4, int), 0)
    with pytest.raises(ValueError, match="4 labels"):
        metrics.nearest_classes(np.zeros((4, 3, 3, 1)), np.zeros(3, int), 1.0)


def test_mscr():
    assert metrics.minimal_separation_robustness(0.8, 0.6) == pytest.approx(-0.25)
    assert np.isnan(metrics.minimal_separation_robustness(0.0, 0.0))
