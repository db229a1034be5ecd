"""What every suite promises; a new one joins by a line in the table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from tables import long_if

from robust_jax import attacks, config, data, detectors, models, predictors, suites
from robust_jax.core.mesh import data_mesh
from robust_jax.declarations import CaseTable, Curves, LevelGrid, LevelTable, Shift

KEY = jax.random.key(3)
SIZE = 48
WEIGHTS = 3 * jax.random.normal(jax.random.key(0), (3, 64, 10))
GENERATOR = np.random.default_rng(0)
DIGITS = data.Digits().load("test").subset(np.arange(SIZE))
NOISE = data.Arrays(
    test=(GENERATOR.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8), np.arange(20) % 10),
    name="noise",
    class_names=DIGITS.class_names,
)
TARGETS = data.Arrays(
    test=(
        GENERATOR.normal(size=(SIZE, 1, 1, 3)).astype(np.float32),
        GENERATOR.normal(size=(SIZE, 1)).astype(np.float32),
    )
)


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def normal(images):
    return images.reshape(len(images), -1)[:, :2]


def dimmed(images):
    return 0.9 * images


def by_brightness(images):
    level = images.mean(axis=-1, keepdims=True)
    return jnp.concatenate([0 * level, 20 * (level - 0.5), 40 * (level - 0.57)], axis=-1)


ONE = Partial(linear, WEIGHTS[0])
THREE = predictors.ensemble([Partial(linear, weights) for weights in WEIGHTS])
FEW = ("gaussian_noise", "contrast")


@functools.cache
def augmented():
    model = models.AugNet(models.ResNet(stage_sizes=(1,), width=2, num_classes=10))
    params, state = models.init(model, KEY, (8, 8, 1))
    return models.predictor(model, {"params": params, **state})


# Suite, predictor, and headings of columns that need other data or another suite besides.
SUITES = {
    "clean": (suites.Clean(), ONE, ()),
    "random_lp": (suites.RandomLp(), ONE, ()),
    "adversarial": (suites.Adversarial((attacks.FGSM(), attacks.PGD(steps=3)), (0.02, 0.05)), ONE, ()),
    "autoattack": (suites.AutoAttack(attacks.AutoAttack(steps=3, queries=5), (0.02,)), ONE, ()),
    "attack_survey": (suites.AttackSurvey((attacks.FGSM(eps=0.1), attacks.PGD(eps=0.1, steps=3))), ONE, ()),
    "calibration": (suites.Calibration(FEW, (1, 3), rotations=(30,), translations=(2,)), ONE, ()),
    "class_separation": (suites.ClassSeparation(), ONE, ()),
    "common_corruptions": (suites.CommonCorruptions(FEW, (1, 3)), ONE, ()),
    "corruptions_bar": (suites.CorruptionsBar(("checkerboard_cutout",), (1, 3)), ONE, ("C-bar − C %",)),
    "interventions": (suites.Interventions(FEW, (1, 3)), ONE, ()),
    "denoising": (suites.Denoising(attack=attacks.ObsAtk(steps=2)), dimmed, ()),
    "diversity": (suites.Diversity(), THREE, ()),
    "learned_ranges": (suites.LearnedRanges(), augmented, ()),
    "members": (suites.Members((1, 2)), THREE, ()),
    "natural_shift": (suites.NaturalShift({"noise": NOISE}), ONE, ()),
    "out_of_distribution": (
        suites.OutOfDistribution({"noise": NOISE}, detectors=(detectors.Energy(), detectors.MutualInformation())),
        THREE,
        (),
    ),
    "perturbations": (suites.Perturbations(("gaussian_noise", "tilt")), ONE, ("mFR (AlexNet) %",)),
    "regression": (suites.RegressionSuite(), normal, ()),
    "segmentation": (suites.SegmentationSuite(FEW, (1, 3)), by_brightness, ()),
    "spatial": (suites.Spatial(grid=(3, 3, 3), draws=2, first_order_steps=2), ONE, ()),
    "vote": (suites.Spatial(grid=None, draws=2, votes=3), ONE, ()),
    "translation": (suites.Translation(3), ONE, ()),
    "universal": (
        suites.Universal(attacks.UniversalPGD(eps=0.5, steps=40), num_fit=20, num_test=20, patch=4, offsets=(-1, 0, 1)),
        ONE,
        (),
    ),
}
OTHER = {"regression": TARGETS.load("test"), "segmentation": data.Shapes(num_test=20, image_size=24).load("test")}
# Seconds are of the machine.
MEASURED = {"seconds"}


def context(name, batch_size=16, **more):
    _, predictor, _ = SUITES[name]
    examples = data.evaluation(OTHER.get(name, DIGITS), batch_size=batch_size, mesh=data_mesh(jax.devices()[:1]))
    return suites.Context(KEY, predictor() if predictor is augmented else predictor, examples, **more)


@functools.cache
def result(name):
    """Rows, and the store that they were made with."""
    store = suites.CaseStore()
    return list(SUITES[name][0].rows(context(name, store=store))), store


def values(rows):
    return {(row.case, row.severity, row.metric): row.value for row in rows if row.metric not in MEASURED}


@pytest.fixture(params=long_if(("autoattack", "spatial", "vote"), SUITES))
def name(request):
    return request.param


def test_every_suite_of_the_room_has_a_line():
    lines = {type(suite) for suite, _, _ in SUITES.values()}
    # The published sets are files; tests/suites/test_natural_shift.py writes them.
    public = [getattr(suites, name) for name in suites.__all__]
    components = {c for c in public if isinstance(c, type) and suites.Suite in c.__mro__[1:]}
    assert components - lines == {suites.PublishedCorruptions}


def test_rows_are_the_same_again_and_from_the_store(name):
    rows, store = result(name)
    assert {(row.suite, row.dataset) for row in rows} == {(SUITES[name][0].name, context(name).data.name)}
    assert len(values(rows)) == sum(row.metric not in MEASURED for row in rows), "a place has one row"
    assert values(SUITES[name][0].rows(context(name))) == values(rows)
    assert list(SUITES[name][0].rows(context(name, store=store))) == rows


def test_batches_do_not_matter(name):
    expected, found = values(result(name)[0]), values(SUITES[name][0].rows(context(name, batch_size=20)))
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[place] for place in expected], list(expected.values()), rtol=1e-4, atol=1e-5)


def test_declared_columns_are_rows(name):
    """A suite without a column, in the table of runs or in one of its own, would be missing from every table."""
    suite, _, absent = SUITES[name]
    found = {(row.case, row.severity, row.metric) for row in result(name)[0]}
    own = [column for figure in suite.figures if isinstance(figure, CaseTable) for column in figure.columns]
    assert suite.columns or own
    assert {c.title for c in suite.columns if (c.case, c.level, c.metric) not in found} == set(absent)
    assert len({column.title for column in suite.columns}) == len(suite.columns)


def test_declared_figures_have_rows(name):
    suite = SUITES[name][0]
    found = {(row.case, row.metric) for row in result(name)[0]}
    for figure in suite.figures:
        if isinstance(figure, Curves):
            assert {(case, panel.metric) for panel in figure.panels for case in panel.cases} <= found
        elif isinstance(figure, LevelGrid):
            assert {(case, "error") for _, cases in figure.groups for case in cases} <= found
        elif isinstance(figure, LevelTable):
            assert {(column.case, column.metric) for column in figure.columns} <= found
        elif isinstance(figure, CaseTable):
            assert {column.metric for column in figure.columns} <= {metric for _, metric in found}
        elif isinstance(figure, Shift):
            assert {(figure.case, figure.metric), *([figure.clean] if figure.clean else [])} <= found
    assert suite.baseline is None or (suite.baseline, "error") in found


def test_intervals_hold_the_value(name):
    rows = [row for row in result(name)[0] if row.low is not None]
    for row in rows:
        assert row.low - 1e-6 <= row.value <= row.high + 1e-6, row


def test_progress_is_of_all_cases(name):
    done = []
    count = lambda fraction=1.0: done.append(fraction)  # noqa: E731
    list(SUITES[name][0].rows(context(name, store=result(name)[1], advance=count)))
    assert sum(done) == pytest.approx(SUITES[name][0].num_cases)


def test_suites_and_declarations_survive_saving(name):
    suite = SUITES[name][0]
    assert config.from_json(config.to_json(suite.declaration)) == suite.declaration
    if name not in ("natural_shift", "out_of_distribution"):
        # Those hold arrays, of which a fingerprint is saved.
        assert config.from_json(config.to_json(suite)) == suite


def test_what_is_no_predictor_is_named(name):
    if name in ("learned_ranges", "diversity"):
        pytest.skip("has no rows of predictors without members or learned ranges")
    wrong = lambda images: jnp.zeros((len(images), 7))  # noqa: E731
    examples = data.evaluation(OTHER.get(name, DIGITS), batch_size=16, mesh=data_mesh(jax.devices()[:1]))
    with pytest.raises(ValueError, match="Expected"):
        list(SUITES[name][0].rows(suites.Context(KEY, wrong, examples)))
