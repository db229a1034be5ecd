"""The one-pixel attack against brute force, and its evolution against the paper's, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.test_attacks import convolutional, problem

from robust_jax import attacks
from robust_jax.attacks.black_box.one_pixel import _others, paint
from robust_jax.core.keys import example_keys

pytestmark = pytest.mark.long

SHAPE = (4, 5, 3)
WEIGHTS = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
CORNERS = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), axis=-1).reshape(8, 3)


@jax.tree_util.Partial
def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def linear_problem(size=40):
    images = jnp.asarray(np.random.default_rng(2).random((size, *SHAPE)), jnp.float32)
    return example_keys(jax.random.key(0), jnp.arange(size)), images, jnp.argmax(linear(images), axis=-1)


def best_of_one_pixel(images, labels, targets=None):
    """The highest cross-entropy, and whether any change succeeds, over all pixels and corners of the cube of colours.

    Of a linear classifier every success can be had with a corner: differences of logits are linear in the colour.
    """
    loss, success = np.full(len(images), -np.inf), np.zeros(len(images), bool)
    for place in range(20):
        for corner in CORNERS:
            changed = np.asarray(images).reshape(-1, 20, 3).copy()
            changed[:, place] = corner
            logits = linear(changed)
            predicted = np.argmax(logits, axis=1)
            success |= np.asarray(predicted != labels if targets is None else predicted == targets)
            classes, sign = (labels, 1) if targets is None else (targets, -1)
            loss = np.maximum(loss, sign * attacks.cross_entropy(logits, classes))
    return loss, success


def test_breaks_what_brute_force_does():
    keys, images, labels = linear_problem()
    loss, success = best_of_one_pixel(images, labels)
    assert 10 < success.sum() < 35
    found = attacks.OnePixel(population=60, generations=60).run(keys, linear, images, labels)
    np.testing.assert_array_equal(found.success, success)
    np.testing.assert_allclose(found.loss[~success], loss[~success], rtol=1e-3)
    assert (found.norm[~success] == 1).all()


def test_breaks_towards_targets_what_brute_force_does():
    keys, images, labels = linear_problem()
    targets = (labels + 1) % 3
    _, success = best_of_one_pixel(images, labels, targets)
    assert 5 < success.sum() < 35
    found = attacks.OnePixel(population=60, generations=60).run(keys, linear, images, labels, targets=targets)
    np.testing.assert_array_equal(found.success, success)


def test_more_pixels_break_more():
    keys, images, labels = linear_problem()
    attack = attacks.OnePixel(pixels=3, population=60, generations=40)
    results = attack.sweep(keys, linear, images, labels, [1.0, 2.5, 3.0])
    assert (np.diff(results.success.sum(axis=1)) > 0).all()
    assert (results.norm.max(axis=1) == jnp.array([1, 2, 3])).all()
    once = attacks.OnePixel(pixels=3, population=60, generations=40).run(keys, linear, images, labels)
    assert once.norm.max() == 3


def test_queries_are_those_of_the_generations():
    keys, images, labels = linear_problem()
    labels = labels.at[0].set((labels[0] + 1) % 3)
    few, more = (
        attacks.OnePixel(population=8, generations=generations).run(keys, linear, images, labels)
        for generations in (1, 12)
    )
    assert int(more.queries[0]) == 1
    np.testing.assert_array_equal(more.images[0], images[0])
    np.testing.assert_array_equal(more.queries[~more.success], 1 + 8 * 13)
    assert set(np.asarray(few.queries[few.success])) == {1, 9, 17}
    late = ~few.success & more.success
    assert late.any()
    assert ((more.queries[late] - 9) % 8 == 0).all()
    assert (more.queries[late] > 17).all()


def test_a_generation_in_numpy():
    """Members give way to better children, made as the paper says."""
    keys, images, labels = linear_problem(2)
    attack = attacks.OnePixel(pixels=2, population=7, generations=1, weight=0.7)
    checked = attacks.Problem(keys, images, labels, jnp.full(2, 2.0), None)
    before = jax.jit(attack.init)(linear, checked)
    after = jax.jit(attack.step)(jnp.int32(0), linear, checked, before)
    assert ((before.genes >= 0) & (before.genes <= 1)).all()
    replaced = 0
    for row in range(2):
        parent_key, _ = jax.random.split(jax.random.fold_in(keys[row], 1))
        parents = np.asarray(_others(parent_key, 7))
        genes = np.asarray(before.genes[row])
        children = genes[parents[0]] + 0.7 * (genes[parents[1]] - genes[parents[2]])
        for member in range(7):
            image = np.asarray(images[row]).copy()
            for gene in np.asarray(after.genes[row, member]):
                image[int(gene[0] * 4), int(gene[1] * 5)] = gene[2:]
            logits = image.reshape(-1) @ WEIGHTS
            loss = np.log(np.exp(logits - logits[labels[row]]).sum())
            np.testing.assert_allclose(after.losses[row, member], loss, rtol=1e-4, atol=1e-5)
            assert after.losses[row, member] >= before.losses[row, member]
            if after.losses[row, member] == before.losses[row, member]:
                np.testing.assert_array_equal(after.genes[row, member], genes[member])
                continue
            replaced += 1
            inside = (children[member] >= 0) & (children[member] < 1)
            np.testing.assert_allclose(after.genes[row, member][inside], children[member][inside], atol=1e-5)
            clipped = np.clip(children[member][:, 2:], 0, 1)
            np.testing.assert_allclose(after.genes[row, member][:, 2:], clipped, atol=1e-5)
    assert replaced > 2


@pytest.mark.parametrize("size", [4, 5, 400])
def test_parents_are_others_and_distinct(size):
    draw = jax.jit(jax.vmap(lambda key: _others(key, size)))
    rows = np.asarray(draw(jax.random.split(jax.random.key(0), 200)))
    members = np.broadcast_to(np.arange(size), (200, 1, size))
    assert (np.diff(np.sort(np.concatenate([rows, members], axis=1), axis=1), axis=1) > 0).all()
    counts = np.stack([np.bincount(rows[:, parent, 0], minlength=size) for parent in range(3)])
    assert (counts[:, 0] == 0).all()
    if size < 10:
        assert abs(counts[:, 1:] / 200 - 1 / (size - 1)).max() < 0.15


def test_paint():
    """Later pixels cover earlier ones; no more than eps are changed."""
    image = jnp.zeros((4, 5, 3))
    genes = jnp.array([[0.3, 0.99, 0.1, 0.2, 0.3], [0.3, 0.99, 1, 1, 1], [0, 0, 0.5, 0.5, 0.5]])
    one = paint(image, genes, jnp.float32(1.9))
    np.testing.assert_allclose(one[1, 4], [0.1, 0.2, 0.3])
    assert jnp.abs(one).sum() == pytest.approx(0.6)
    all_three = paint(image, genes, jnp.float32(np.inf))
    np.testing.assert_allclose(all_three[1, 4], [1, 1, 1])
    np.testing.assert_allclose(all_three[0, 0], [0.5, 0.5, 0.5])


def test_network():
    keys, images, labels = problem(16)
    found = attacks.OnePixel(pixels=2, population=40, generations=20).run(keys, convolutional, images, labels)
    assert found.success.sum() > 3
    wrong = jnp.argmax(convolutional(found.images), axis=-1) != labels
    np.testing.assert_array_equal(found.success, wrong)


@pytest.mark.parametrize(
    "field", [{"pixels": 0}, {"population": 3}, {"generations": 0}, {"weight": 0.0}, {"eps": -1.0}]
)
def test_bad_settings(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        attacks.OnePixel(**field)
