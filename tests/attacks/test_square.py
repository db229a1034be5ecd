"""Square: its windows and shapes against the paper's, and what it reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.test_attacks import convolutional, problem

from robust_jax import attacks
from robust_jax.attacks.black_box.square import twin_peaks

pytestmark = pytest.mark.long


def test_sides_of_windows():
    """Those of 32x32 images, as published."""
    sides = attacks.Square().sides(32, 32)
    assert len(sides) == 5000
    starts = [0, 11, 51, 201, 501, 1001, 2001, 4001]
    assert sides[starts].tolist() == [29, 20, 14, 10, 7, 5, 4, 3]
    assert (np.flatnonzero(np.diff(sides)) + 1).tolist() == starts[1:]
    rescaled = attacks.Square(queries=1000, rescale=True).sides(32, 32)
    assert rescaled[[0, 2, 6, 21, 999]].tolist() == [29, 20, 14, 10, 1]
    odd = attacks.Square(norm="L2", eps=0.5).sides(32, 32)
    assert odd[starts].tolist() == [29, 21, 15, 11, 7, 5, 5, 3]


@pytest.mark.parametrize(("norm", "order", "power"), [("L2", 2, 2), ("L1", 1, 4)])
@pytest.mark.parametrize("side", [1, 3, 6, 7, 13])
def test_twin_peaks_are_sums_of_nested_squares(norm, order, power, side):
    """As the paper builds them, square upon square."""

    def peak(height, width):
        values = np.zeros((height, width))
        for step in range(max(height // 2, width // 2) + 1):
            top, left = height // 2 - step, width // 2 - step
            values[max(top, 0) : top + 2 * step + 1, max(left, 0) : left + 2 * step + 1] += 1 / (step + 1) ** power
        return values / (np.abs(values) ** order).sum() ** (1 / order) if values.size else values

    expected = np.concatenate([peak(side // 2, side), -peak(side - side // 2, side)])
    expected = expected / (np.abs(expected) ** order).sum() ** (1 / order)
    np.testing.assert_allclose(twin_peaks(side, norm), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.06), ("L2", 0.5), ("L1", 1.5)])
@pytest.mark.parametrize("parity", ["reference", "fixed"])
def test_stops_at_success_and_counts(norm, eps, parity):
    keys, images, labels = problem(12)
    few = attacks.Square(norm=norm, eps=eps, queries=20, parity=parity).run(keys, convolutional, images, labels)
    more = attacks.Square(norm=norm, eps=eps, queries=200, parity=parity).run(keys, convolutional, images, labels)
    assert (more.success | ~few.success).all()
    assert 1 < more.success.sum() < len(images)
    np.testing.assert_array_equal(more.queries[~more.success], 202)
    assert (more.queries[more.success] < 202).all()
    assert (more.gradients == 0).all()
    assert (more.loss >= few.loss - 1e-6)[~few.success].all()
    np.testing.assert_array_equal(more.images[-1], images[-1], "it was misclassified as it is")
    np.testing.assert_allclose(more.loss, attacks.margin(convolutional(more.images), labels), atol=1e-5)


def test_beats_as_many_random_corners():
    keys, images, labels = problem(12)
    found = attacks.Square(eps=0.06, queries=200).run(keys, convolutional, images, labels)
    signs = jax.random.rademacher(jax.random.key(5), (200, *images.shape), jnp.float32)
    corners = jnp.clip(images[None] + 0.06 * signs, 0, 1)
    margins = jax.lax.map(lambda images: attacks.margin(convolutional(images), labels), corners)
    best = margins.max(axis=0)
    assert found.success.sum() >= (best > 0).sum()
    assert (found.loss > best)[~found.success].all()


@pytest.mark.parametrize("field", [{"norm": "L0"}, {"queries": 0}, {"share": 1.5}, {"eps": -1.0}])
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.Square(**field)
