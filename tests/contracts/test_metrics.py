"""What holds for every metric of a classifier: shards, masked and padded, merge to the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from robust_jax import data, metrics
from robust_jax.core.mesh import data_mesh
from robust_jax.suites.case import measure_batch, run_case

SIZE, CLASSES = 90, 4
GENERATOR = np.random.default_rng(0)
LOGITS = (2 * GENERATOR.normal(size=(SIZE, CLASSES))).astype(np.float32)
LABELS = GENERATOR.integers(0, CLASSES, SIZE)
LABELS[:60] = LOGITS[:60].argmax(axis=1)
PROBS = special.softmax(LOGITS.astype(np.float64), axis=1)
CONFIDENCE, WRONG = PROBS.max(axis=1), (PROBS.argmax(axis=1) != LABELS).astype(float)
NLL = -np.log(PROBS[np.arange(SIZE), LABELS])

# Each from what a suite keeps of every example.
OF_TABLES = {
    "error": lambda t: t["error"].mean(),
    "nll": lambda t: t["nll"].mean(),
    "brier": lambda t: t["brier"].mean(),
    "ece": lambda t: metrics.expected_calibration_error(t["confidence"], 1 - t["error"]),
    "adaptive": lambda t: metrics.adaptive_calibration_error(t["confidence"], 1 - t["error"]),
    "debiased": lambda t: metrics.debiased_squared_calibration_interval(t["confidence"], 1 - t["error"]),
    "rmsce": lambda t: metrics.root_mean_squared_calibration_error(t["confidence"], 1 - t["error"]),
    "mce": lambda t: metrics.maximum_calibration_error(t["confidence"], 1 - t["error"]),
    "aurc": lambda t: metrics.aurc(t["confidence"], t["error"]),
    "e_aurc": lambda t: metrics.excess_aurc(t["confidence"], t["error"]),
    "augrc": lambda t: metrics.augrc(t["confidence"], t["error"]),
    "risk_at_coverage": lambda t: metrics.risk_at_coverage(t["confidence"], t["nll"], 0.8),
    "coverage_at_risk": lambda t: metrics.coverage_at_risk(t["confidence"], t["error"], 0.2),
    "detection": lambda t: list(metrics.detection_metrics(-t["confidence"], 1 - t["confidence"]).values()),
    "bootstrap": lambda t: metrics.bootstrap_interval(t["nll"], num_resamples=50),
}


@functools.cache
def table(batch_size, num_devices):
    """Images are the logits themselves."""
    low, high = LOGITS.min(), LOGITS.max()
    pixels = np.round((LOGITS - low) / (high - low) * 255).astype(np.uint8).reshape(SIZE, 1, CLASSES, 1)
    source = data.Arrays(test=(pixels, LABELS)).load("test")
    evaluation = data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:num_devices]))
    scale = jax.tree_util.Partial(scaled, jnp.float32(high - low))
    return run_case(functools.partial(measure_batch, scale), evaluation)


def scaled(scale, images):
    return scale * images.reshape(len(images), -1)


@pytest.mark.parametrize("name", OF_TABLES)
def test_batches_padding_and_devices_do_not_matter(name):
    whole = OF_TABLES[name](table(SIZE, 1))
    assert np.isfinite(whole).all()
    for batch_size, num_devices in ((7, 1), (32, 2), (64, 4)):
        np.testing.assert_allclose(OF_TABLES[name](table(batch_size, num_devices)), whole, rtol=1e-5, atol=1e-7)


MEMBERS = (2 * np.random.default_rng(1).normal(size=(3, SIZE, CLASSES))).astype(np.float32)
OF_MEMBERS = (metrics.disagreement, metrics.kl_divergence, metrics.mutual_information, metrics.entropy)


@pytest.mark.parametrize("measure", OF_MEMBERS, ids=lambda measure: measure.__name__)
def test_measures_of_members_belong_to_the_example(measure):
    parts = np.split(MEMBERS, [40, 43], axis=1)
    merged = np.concatenate([measure(jnp.asarray(part)) for part in parts], axis=-1)
    np.testing.assert_allclose(merged, measure(jnp.asarray(MEMBERS)), rtol=1e-5, atol=1e-6)


def shards(sizes, pad_to):
    """Pieces of different length, the rest filled with what must not count."""
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        start += size
        logits = np.full((pad_to, CLASSES), np.nan, np.float32)
        labels, mask = np.zeros(pad_to, int), np.arange(pad_to) < size
        logits[mask], labels[mask] = LOGITS[part], LABELS[part]
        yield jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(mask)
    assert start == SIZE


def expected_summary():
    correct = 1 - WRONG
    parts = metrics.brier_decomposition(PROBS, LABELS)
    return {
        "error": WRONG.mean(),
        "nll": NLL.mean(),
        "brier": np.mean(np.sum((PROBS - np.eye(CLASSES)[LABELS]) ** 2, axis=1)),
        "reliability": parts.reliability,
        "resolution": parts.resolution,
        "uncertainty": parts.uncertainty,
        "ece": metrics.expected_calibration_error(CONFIDENCE, correct),
        "rmsce": metrics.root_mean_squared_calibration_error(CONFIDENCE, correct),
        "mce": metrics.maximum_calibration_error(CONFIDENCE, correct),
        "debiased_squared_ece": metrics.debiased_squared_calibration_error(CONFIDENCE, correct),
        "classwise_ece": metrics.classwise_calibration_error(PROBS, LABELS),
    }


@pytest.mark.parametrize("sizes", [(SIZE,), (40, 0, 3, 40, 7), (1,) * SIZE], ids=["whole", "uneven", "single"])
def test_sums_of_shards_are_those_of_the_whole(sizes):
    sums = jax.jit(metrics.classifier_sums)
    merged = metrics.merge_sums(sums(*shard) for shard in shards(sizes, max(sizes)))
    found = metrics.summarise_sums(merged)
    assert found == pytest.approx(expected_summary(), rel=1e-5, abs=1e-6)
    assert merged.count == SIZE


def test_sums_are_added_over_devices_and_order_does_not_matter():
    parts = [jnp.stack(part) for part in zip(*shards((30, 20, 40), 40), strict=True)]
    over = jax.vmap(lambda *shard: jax.lax.psum(metrics.classifier_sums(*shard), "devices"), axis_name="devices")
    first = jax.tree.map(lambda leaf: leaf[0], over(*parts))
    assert metrics.summarise_sums(metrics.merge_sums([first])) == pytest.approx(expected_summary(), rel=1e-5, abs=1e-6)
    alone = [metrics.classifier_sums(*shard) for shard in shards((30, 20, 40), 40)]
    forwards, backwards = (metrics.summarise_sums(metrics.merge_sums(order)) for order in (alone, alone[::-1]))
    assert forwards == pytest.approx(backwards)


def test_nothing_is_nan_and_no_part_is_refused():
    (shard,) = shards((SIZE,), SIZE)
    empty = metrics.classifier_sums(*shard[:2], jnp.zeros(SIZE, bool))
    assert all(np.isnan(value) for value in metrics.summarise_sums(metrics.merge_sums([empty])).values())
    with pytest.raises(ValueError, match="one batch or more"):
        metrics.merge_sums([])
