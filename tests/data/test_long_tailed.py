"""Long-tailed data, classes repeated, images of pure noise, and batch norm that tells noise apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_values import evaluate
from scipy import stats

from robust_jax import data, models, train
from robust_jax.core.mesh import data_mesh
from robust_jax.objectives import CrossEntropy, PureNoise, routed_batch_norm
from robust_jax.types import Batch, Output

KEY = jax.random.key(0)


def arrays(num=40, classes=4):
    """As many images of each class, that tell which one they are."""
    labels = np.arange(num * classes) % classes
    images = np.broadcast_to(np.arange(num * classes, dtype=np.uint8)[:, None, None, None], (num * classes, 2, 2, 1))
    return data.Arrays(train=(images, labels), test=(images, labels), name="toy")


def test_counts_decline_exponentially():
    assert data.long_tailed_counts(5000, 10, 100) == (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
    assert data.long_tailed_counts(7, 3, 1) == (7, 7, 7)


def test_long_tailed():
    tailed = data.LongTailed(arrays(), imbalance=10, most=30)
    source = tailed.load("train")
    images, labels = source.decode()
    assert source.name == "toy_lt10"
    assert np.bincount(labels).tolist() == list(data.long_tailed_counts(30, 4, 10)) == [30, 13, 6, 3]
    np.testing.assert_array_equal(images[:, 0, 0, 0] % 4, labels)
    assert len(tailed.load("test")) == 160
    assert data.LongTailed(arrays(), imbalance=1).load("train").ids.tolist() == list(range(160))


def test_oversampled():
    tailed = data.LongTailed(arrays(), imbalance=10, most=30)
    source = data.Oversampled(tailed).load("train")
    images, labels = source.decode()
    assert np.bincount(labels).tolist() == [30] * 4
    assert len(set(source.ids.tolist())) == 120, "a copy has an id of its own"
    np.testing.assert_array_equal(images[:, 0, 0, 0] % 4, labels)
    for label, count in enumerate((30, 13, 6, 3)):
        repeats = np.unique(images[labels == label][:, 0, 0, 0], return_counts=True)[1]
        assert len(repeats) == count
        assert np.ptp(repeats) <= 1, "all of a class equally often, up to one"
    for resident in (True, False):
        feed = data.train_feed(source, batch_size=20, seed=0, mesh=data_mesh(), resident=resident)
        batches = [jax.device_get(feed.fetch(feed.resident, item)) for item in feed.epoch(0)]
        read = np.concatenate([np.round(255 * batch.image[:, 0, 0, 0]).astype(int) for batch in batches])
        ids = np.concatenate([batch.id for batch in batches])
        np.testing.assert_array_equal(read, ids % (tailed.load("train").ids.max() + 1))


def batch(num=4000):
    generator = np.random.default_rng(0)
    labels = jnp.asarray(generator.integers(0, 3, num))
    return Batch(jnp.full((num, 2, 3, 2), 2.0), labels, jnp.ones(num, bool), jnp.arange(num))


def test_noise_in_place_of_images():
    objective = PureNoise(counts=(100, 40, 10), delta=0.5, mean=(0.4, 0.6), std=(0.05, 0.1))
    given = batch()
    images, noise = jax.jit(objective.replace)(KEY, given)
    for label, chance in enumerate((0.0, 0.3, 0.45)):
        share = np.asarray(noise)[np.asarray(given.label) == label]
        assert stats.binomtest(int(share.sum()), len(share), chance).pvalue > 1e-3
    np.testing.assert_array_equal(images[~noise], given.image[~noise])
    for channel, (mean, std) in enumerate(((0.4, 0.05), (0.6, 0.1))):
        assert stats.kstest(np.asarray(images[noise][..., channel]).ravel(), stats.norm(mean, std).cdf).pvalue > 1e-3
    wild, marked = PureNoise(counts=(100, 1), delta=1.0, std=(3.0,)).replace(KEY, given._replace(label=given.label % 2))
    assert wild[marked].min() == 0
    assert wild[marked].max() == 1


def test_pure_noise_is_cross_entropy_where_nothing_is_rare():
    def forward(params, images, *, key=None, train=True, interceptors=()):
        logits = images.reshape(len(images), -1) @ params
        return Output(logits, logits), {}

    given = batch(30)
    params = jnp.asarray(np.random.default_rng(1).normal(size=(12, 3)), jnp.float32)
    plain, _ = evaluate(CrossEntropy(), KEY, forward, params, given)
    for objective in (PureNoise(counts=(5, 5, 5)), PureNoise(counts=(5, 1, 1), delta=0.0)):
        loss, aux = evaluate(objective, KEY, forward, params, given)
        np.testing.assert_allclose(loss, plain, rtol=1e-6)
        assert aux.metrics["noise_share"] == 0
    with pytest.raises(ValueError, match="Expected 3 counts"):
        evaluate(PureNoise(counts=(1, 2)), KEY, forward, params, given._replace(label=given.label % 2))


@pytest.mark.long
def test_batch_norm_tells_noise_apart():
    """Natural images come out as if alone, and so do the running statistics; noise as if it were a batch of its own."""
    model = models.ResNet(stage_sizes=(1,), width=8)
    params, state = models.init(model, KEY, (8, 8, 3))
    params = jax.tree.map(lambda leaf: leaf + 0.3, params)
    forward = models.forward_fn(model, state)
    natural, noise = jax.random.uniform(KEY, (5, 8, 8, 3)), 3 * jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    order = np.array([3, 5, 0, 8, 1, 2, 6, 7, 4])
    images, marks = jnp.concatenate([natural, noise])[order], jnp.asarray(order >= 5)
    mixed, new_state = forward(params, images, interceptors=(routed_batch_norm(marks),))
    back = np.argsort(order)
    alone, expected_state = forward(params, natural)
    np.testing.assert_allclose(mixed.prediction[back[:5]], alone.prediction, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(mixed.prediction[back[5:]], forward(params, noise)[0].prediction, atol=1e-3, rtol=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3), new_state, expected_state)
    unmarked, _ = forward(params, images, interceptors=(routed_batch_norm(jnp.zeros(9, bool)),))
    np.testing.assert_allclose(unmarked.prediction, forward(params, images)[0].prediction, atol=1e-4, rtol=1e-4)

    def scale_of(params, noise):
        output, _ = forward(params, images, interceptors=(routed_batch_norm(noise),))
        return jnp.sum(jnp.where(marks[:, None], output.prediction, 0) ** 2)

    gradient = jax.jit(jax.grad(scale_of))(params, marks)
    norms = [g for path, g in jax.tree.leaves_with_path(gradient) if "scale" in str(path) or "'bias'" in str(path)]
    head = gradient["head"]["bias"]
    assert jnp.abs(head).max() > 0
    assert all(jnp.abs(g).max() == 0 for g in norms if g is not head), "noise does not move scales and shifts"
    assert any(jnp.abs(g).max() > 0 for g in jax.tree.leaves(gradient))


@pytest.mark.long
def test_training_on_noise():
    tailed = data.Oversampled(data.LongTailed(data.Digits(), imbalance=5, most=100))
    experiment = train.Experiment(
        data=tailed,
        model=models.ResNet(stage_sizes=(1,), width=4),
        objective=PureNoise(counts=data.long_tailed_counts(100, 10, 5)),
        epochs=1,
        batch_size=200,
    )
    assert train.fit(experiment).step == 5


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: data.LongTailed(arrays(), imbalance=0.5), "imbalance"),
        (lambda: data.LongTailed(arrays(), most=0), "most"),
        (lambda: data.LongTailed(arrays(), imbalance=100).load("train"), "between 1 and 40 examples"),
        (lambda: data.LongTailed(arrays(), imbalance=2, most=50).load("train"), "between 1 and 40 examples"),
        (lambda: PureNoise(counts=()), "counts"),
        (lambda: PureNoise(counts=(3, 0)), "counts"),
        (lambda: PureNoise(counts=(3, 1), delta=1.5), "delta"),
        (lambda: PureNoise(counts=(3, 1), std=(0.0,)), "std"),
        (lambda: PureNoise(counts=(3, 1, 1), mean=(0.1, 0.2, 0.3)).replace(KEY, batch(3)), "mean of 1 or 2 channels"),
    ],
)
def test_bad_input(run, message):
    with pytest.raises(ValueError, match=message):
        run()
