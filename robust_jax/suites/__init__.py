"""Evaluation recipes: ``suite.rows(suites.Context(key, predictor, data))`` yields tidy rows."""

from robust_jax.suites.adversarial import Adversarial
from robust_jax.suites.attack_survey import AttackSurvey
from robust_jax.suites.autoattack import AutoAttack
from robust_jax.suites.base import Context, Suite, declarations
from robust_jax.suites.calibration import Calibration
from robust_jax.suites.case import RowLabels
from robust_jax.suites.class_separation import ClassSeparation
from robust_jax.suites.clean import Clean
from robust_jax.suites.common_corruptions import CommonCorruptions
from robust_jax.suites.corruptions_bar import CorruptionsBar
from robust_jax.suites.denoising import Denoising
from robust_jax.suites.diversity import Diversity
from robust_jax.suites.evaluate import evaluate
from robust_jax.suites.interventions import Interventions
from robust_jax.suites.learned_ranges import LearnedRanges
from robust_jax.suites.members import Members
from robust_jax.suites.natural_shift import NaturalShift
from robust_jax.suites.out_of_distribution import OutOfDistribution
from robust_jax.suites.perturbations import Perturbations
from robust_jax.suites.published_corruptions import PublishedCorruptions
from robust_jax.suites.random_lp import RandomLp
from robust_jax.suites.regression import RegressionSuite
from robust_jax.suites.samples import HasSamples, Samples
from robust_jax.suites.segmentation import SegmentationSuite
from robust_jax.suites.spatial import Spatial
from robust_jax.suites.store import CaseStore
from robust_jax.suites.translation import Translation
from robust_jax.suites.universal import Universal

__all__ = [
    "Adversarial",
    "AttackSurvey",
    "AutoAttack",
    "Calibration",
    "CaseStore",
    "ClassSeparation",
    "Clean",
    "CommonCorruptions",
    "Context",
    "CorruptionsBar",
    "Denoising",
    "Diversity",
    "HasSamples",
    "Interventions",
    "LearnedRanges",
    "Members",
    "NaturalShift",
    "OutOfDistribution",
    "Perturbations",
    "PublishedCorruptions",
    "RandomLp",
    "RegressionSuite",
    "RowLabels",
    "Samples",
    "SegmentationSuite",
    "Spatial",
    "Suite",
    "Translation",
    "Universal",
    "declarations",
    "evaluate",
]
