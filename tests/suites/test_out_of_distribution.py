"""Detection of other data sets against scores by scipy; what is shared, resumed and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from robust_jax import config, data, metrics, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.predictors import ensemble

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
IMAGES, OTHERS = (
    GENERATOR.integers(*ends, (size, 4, 5, 3)).astype(np.uint8)
    for ends, size in (
        ((0, 256), 50),
        ((100, 140), 30),
    )
)
WEIGHTS = GENERATOR.normal(size=(2, 60, 4)).astype(np.float32)
NOISE = data.Arrays(test=(OTHERS, np.zeros(30, int)), name="grey", class_names=("none",))
SUITE = suites.OutOfDistribution({"grey": NOISE})


def linear(weights, images):
    return (images.reshape(len(images), -1) - 0.5) @ weights


MEMBERS = [jax.tree_util.Partial(linear, jnp.asarray(weights)) for weights in WEIGHTS]


def logits_of(images):
    return np.stack([(images.reshape(len(images), -1) / 255 - 0.5) @ weights for weights in WEIGHTS.astype(float)])


def inside(num_devices=2, batch_size=16):
    source = data.Arrays(test=(IMAGES, np.zeros(50, int)), name="toy", class_names=("a", "b", "c", "d")).load("test")
    return data.evaluation(source, batch_size=batch_size, mesh=data_mesh(jax.devices()[:num_devices]))


def rows_of(predictor, store=None, **kwargs):
    return {
        (row.case, row.metric): row
        for row in SUITE.rows(suites.Context(KEY, predictor, inside(**kwargs), store=store or suites.CaseStore()))
    }


def check(rows, score, expected):
    found = metrics.detection_metrics(*expected)
    for metric, value in found.items():
        row = rows[f"grey: {score}", metric]
        assert row.value == pytest.approx(value, abs=0.02), metric
        assert row.low <= row.value <= row.high
        assert row.count == 80


def test_scores_of_one_model():
    rows = rows_of(MEMBERS[0])
    both = [logits_of(images)[0] for images in (IMAGES, OTHERS)]
    check(rows, "max_probability", [-special.softmax(z, axis=1).max(axis=1) for z in both])
    check(rows, "entropy", [stats.entropy(special.softmax(z, axis=1), axis=1) for z in both])
    check(rows, "energy", [-special.logsumexp(z, axis=1) for z in both])
    assert not any("mutual" in case for case, _ in rows)
    assert rows["grey: energy", "auroc"].value > 0.7, "grey images have small logits"


@pytest.mark.long
def test_scores_of_an_ensemble():
    rows = rows_of(ensemble(MEMBERS))
    both = [logits_of(images) for images in (IMAGES, OTHERS)]
    probs = [special.softmax(z, axis=2) for z in both]
    information = [stats.entropy(p.mean(axis=0), axis=1) - stats.entropy(p, axis=2).mean(axis=0) for p in probs]
    check(rows, "mutual_information", information)
    check(rows, "max_probability", [-p.mean(axis=0).max(axis=1) for p in probs])
    check(rows, "energy", [-special.logsumexp(z, axis=2).mean(axis=0) for z in both])


@pytest.mark.long
def test_means_over_sets():
    darker = data.Arrays(test=(OTHERS // 2, np.zeros(30, int)), name="dark", class_names=("none",))
    suite = suites.OutOfDistribution({"grey": NOISE, "dark": darker})
    rows = {(row.case, row.metric): row for row in suite.rows(suites.Context(KEY, MEMBERS[0], inside()))}
    for metric in ("auroc", "fpr95_in"):
        mean = np.mean([rows[f"{name}: energy", metric].value for name in ("grey", "dark")])
        assert rows["all: energy", metric].value == pytest.approx(mean)
        assert rows["all: energy", metric].low <= mean <= rows["all: energy", metric].high
    assert rows["all: energy", "auroc"].count == 110


@pytest.mark.long
def test_batches_and_devices_do_not_matter_and_what_is_done_is_kept(tmp_path):
    rows = rows_of(MEMBERS[0], suites.CaseStore(tmp_path))
    again = rows_of(MEMBERS[0], num_devices=1, batch_size=50)
    for name, row in rows.items():
        assert again[name].value == pytest.approx(row.value, abs=0.02)
    # Another predictor under the same store: nothing is computed.
    assert rows_of(MEMBERS[1], suites.CaseStore(tmp_path)) == rows


def test_component():
    assert config.from_json(config.to_json(suites.Clean())) == suites.Clean()
    assert SUITE.num_cases == 2
    with pytest.raises(ValueError, match="one data set or more"):
        suites.OutOfDistribution({})
    small = data.Arrays(test=(OTHERS[:, :3], np.zeros(30, int)), name="small", class_names=("none",))
    with pytest.raises(ValueError, match="in small, got"):
        list(suites.OutOfDistribution({"small": small}).rows(suites.Context(KEY, MEMBERS[0], inside())))
