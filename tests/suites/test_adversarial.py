"""The error curve under attack, on a linear classifier, whose curve is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_jax import attacks, data, suites
from robust_jax.core.mesh import data_mesh

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
RADII = (0.01, 0.03, 0.06)
WEIGHTS = np.random.default_rng(0).normal(size=(8 * 8 * 3, 2)).astype(np.float32)


def examples():
    rng = np.random.default_rng(1)
    images = np.uint8(60 + 130 * rng.random((40, 8, 8, 3)))
    labels = (images.reshape(40, -1) / 255 @ WEIGHTS).argmax(axis=1)
    labels[:3] = 1 - labels[:3]
    return images, labels


def evaluation(batch_size=16):
    return data.evaluation(
        data.Arrays(test=examples(), name="toy").load("test"), batch_size=batch_size, mesh=data_mesh()
    )


class Linear:
    """Counts its traces."""

    def __init__(self):
        self.traces = 0

    def __call__(self, images):
        self.traces += 1
        return images.reshape(len(images), -1) @ WEIGHTS


def errors(rows, metric="error"):
    return {row.severity: row for row in rows if row.metric == metric}


@pytest.mark.parametrize("attack", [attacks.PGD(steps=10), attacks.APGD(steps=10)])
def test_curve_of_a_linear_classifier(attack):
    """An example breaks within eps where its margin is below eps times the L1 norm of the difference of weights."""
    images, labels = examples()
    logits = images.reshape(40, -1) / 255 @ WEIGHTS
    margin = logits[np.arange(40), labels] - logits[np.arange(40), 1 - labels]
    reach = margin / np.abs(WEIGHTS[:, 0] - WEIGHTS[:, 1]).sum()
    rows = list(suites.Adversarial(attack, RADII).rows(suites.Context(KEY, Linear(), evaluation())))
    for eps, row in errors(rows).items():
        assert row.value == np.mean(reach < eps)
        assert row.low < row.value < row.high
        assert row.count == 40
    for eps, row in errors(rows, "success_rate").items():
        np.testing.assert_allclose(row.value, np.mean(reach[reach > 0] < eps))
        assert row.count == 37
    assert [row.severity for row in rows if row.metric == "error"] == sorted(RADII)
    assert {row.case for row in rows} == {f"{type(attack).__name__} Linf"}


def test_batches_and_the_order_of_radii_do_not_matter():
    suite = suites.Adversarial(attacks.PGD(steps=3), RADII)
    first = list(suite.rows(suites.Context(KEY, Linear(), evaluation(16))))
    other = list(
        suites.Adversarial(attacks.PGD(steps=3), RADII[::-1]).rows(suites.Context(KEY, Linear(), evaluation(40)))
    )
    assert first == other


def test_finished_radii_are_not_attacked_again(tmp_path):
    suite = suites.Adversarial(attacks.PGD(steps=3), RADII)
    rows = list(suite.rows(suites.Context(KEY, Linear(), evaluation(), store=suites.CaseStore(tmp_path))))
    model = Linear()
    assert list(suite.rows(suites.Context(KEY, model, evaluation(), store=suites.CaseStore(tmp_path)))) == rows
    assert model.traces == 0
    wider = suites.Adversarial(attacks.PGD(steps=3), (*RADII, 0.2))
    more = list(wider.rows(suites.Context(KEY, Linear(), evaluation(), store=suites.CaseStore(tmp_path))))
    assert more[: len(rows)] == rows


def test_samples_show_the_perturbation():
    samples = suites.Adversarial(attacks.PGD(steps=3), RADII).samples(
        suites.Context(KEY, Linear(), evaluation()), num_images=4
    )
    assert samples.titles == ["clean", "perturbation", "adversarial"]
    assert samples.images.shape == (4, 3, 8, 8, 3)
    difference = np.abs(samples.images[:, 2].astype(int) - samples.images[:, 0])
    assert 0 < difference.max() <= round(0.06 * 255) + 1


def test_blindness_is_told():
    flat = lambda images: jnp.round(images.reshape(len(images), -1) @ WEIGHTS)  # noqa: E731
    rows = errors(
        suites.Adversarial(attacks.PGD(steps=3), (0.001,)).rows(suites.Context(KEY, flat, evaluation())),
        "zero_gradient",
    )
    assert rows[0.001].value > 0.5


@pytest.mark.parametrize("radii", [(), (-0.1,)])
def test_bad_radii(radii):
    with pytest.raises(ValueError, match="radi"):
        suites.Adversarial(radii=radii)


def test_several_attacks_and_the_worst_of_them():
    several = (attacks.FGSM(), attacks.PGD(norm="L2", steps=3))
    rows = list(suites.Adversarial(several, RADII, by_class=True).rows(suites.Context(KEY, Linear(), evaluation())))
    assert {row.case for row in rows if ": " not in row.case} == {"FGSM Linf", "PGD L2", "worst"}
    for eps in RADII:
        found = {row.case: row for row in rows if row.metric == "error" and row.severity == eps}
        assert found["worst"].value == max(found["FGSM Linf"].value, found["PGD L2"].value)
        by_class = [found[f"FGSM Linf: {name}"] for name in evaluation().class_names]
        assert sum(row.count for row in by_class) == 40
        total = sum(row.value * row.count for row in by_class)
        np.testing.assert_allclose(total, 40 * found["FGSM Linf"].value)


def test_median_norm_of_a_minimum_norm_attack():
    """On a linear classifier, the margin over the L2 norm of the difference of weights, as far as it is within eps."""
    images, labels = examples()
    logits = images.reshape(40, -1) / 255 @ WEIGHTS
    margin = logits[np.arange(40), labels] - logits[np.arange(40), 1 - labels]
    reach = margin / np.linalg.norm(WEIGHTS[:, 0] - WEIGHTS[:, 1])
    rows = list(
        suites.Adversarial(attacks.FAB(norm="L2", steps=20), (0.5,)).rows(suites.Context(KEY, Linear(), evaluation()))
    )
    row = errors(rows, "median_norm")[0.5]
    within = reach[(reach > 0) & (reach < 0.5)]
    assert row.count == len(within)
    np.testing.assert_allclose(row.value, np.median(within), rtol=0.01)


class Stopped(RuntimeError):
    """What ends an evaluation half-way."""


def test_an_interrupted_radius_goes_on_at_the_next_batch(tmp_path):
    suite = suites.AutoAttack(attacks.AutoAttack(steps=4, queries=10), (0.02,))
    with pytest.warns(UserWarning, match="2 classes"):
        whole = list(suite.rows(suites.Context(KEY, Linear(), evaluation())))
    done = []

    def stop(share):
        done.append(share)
        if len(done) == 2:
            raise Stopped

    with pytest.warns(UserWarning, match="2 classes"), pytest.raises(Stopped):
        list(suite.rows(suites.Context(KEY, Linear(), evaluation(), store=suites.CaseStore(tmp_path), advance=stop)))
    assert done == [16 / 40, 16 / 40]
    store = suites.CaseStore(tmp_path)
    shares = []
    with pytest.warns(UserWarning, match="2 classes"):
        assert (
            list(suite.rows(suites.Context(KEY, Linear(), evaluation(), store=store, advance=shares.append))) == whole
        )
    assert shares == [16 / 40, 16 / 40, 8 / 40]
    assert len(list(tmp_path.rglob("*batch=*.npz"))) == 3


@pytest.mark.filterwarnings("ignore:AutoAttack")
def test_autoattack_row_by_row():
    suite = suites.AutoAttack(attacks.AutoAttack(steps=4, queries=10), (0.06, 0.03), alone=True)
    rows = list(suite.rows(suites.Context(KEY, Linear(), evaluation())))
    found = {(row.metric, row.case, row.severity): row.value for row in rows}
    curve = {row.severity: row.value for row in curve_rows(attacks.PGD(steps=10), (0.03, 0.06))}
    for eps in (0.03, 0.06):
        assert found["robust_accuracy", "AutoAttack Linf", eps] == pytest.approx(1 - curve[eps])
        after = [found["robust_accuracy_after", stage, eps] for stage in ("clean", *suite.attack.stages)]
        assert after == sorted(after, reverse=True)
        assert after[0] == 37 / 40
        assert after[-1] == found["robust_accuracy", "AutoAttack Linf", eps]
        alone = [found["robust_accuracy_alone", stage, eps] for stage in suite.attack.stages]
        assert min(alone) >= after[-1]
        assert alone[0] == after[1] or eps > 0.03
    assert 0.03 < found["median_norm", "AutoAttack Linf", 0.06] <= 0.06 * (1 + 1e-5)
    assert suite.num_cases == 2 * 5
    assert suite.samples(suites.Context(KEY, Linear(), evaluation()), num_images=2).images.shape == (2, 3, 8, 8, 3)


def curve_rows(attack, radii):
    return [
        row
        for row in suites.Adversarial(attack, radii).rows(suites.Context(KEY, Linear(), evaluation()))
        if row.metric == "error"
    ]
