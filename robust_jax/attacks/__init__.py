"""Worst-case inputs: ``attack(keys, predictor, images, labels) -> adversarial images``, for any predictor."""

from robust_jax.attacks.acceptance import Acceptance, repeated_acceptance
from robust_jax.attacks.autoattack import AutoAttack, AutoAttackResult, Stage
from robust_jax.attacks.base import Attack
from robust_jax.attacks.black_box.boundary import BoundaryAttack
from robust_jax.attacks.black_box.hop_skip_jump import HopSkipJump
from robust_jax.attacks.black_box.nes import NES
from robust_jax.attacks.black_box.one_pixel import OnePixel
from robust_jax.attacks.black_box.spsa import SPSA
from robust_jax.attacks.black_box.square import Square
from robust_jax.attacks.engine import Maximum, maximise
from robust_jax.attacks.gradient.apgd import APGD, APGDT
from robust_jax.attacks.gradient.nfgsm import NFGSM
from robust_jax.attacks.gradient.obs_attack import ObsAtk, ObsAtkResult, project_zero_mean
from robust_jax.attacks.gradient.pgd import BIM, FGSM, MIFGSM, NIFGSM, PGD, RFGSM
from robust_jax.attacks.gradient.pyramid import Pyramid, PyramidPGD
from robust_jax.attacks.gradient.universal import UniversalPGD
from robust_jax.attacks.gradient.universal_measures import patch_success, shift_success, success_of
from robust_jax.attacks.gradient.virtual import virtual_direction
from robust_jax.attacks.losses import LOSSES, TARGETED_LOSSES, cross_entropy, dlr, margin, targeted_dlr
from robust_jax.attacks.minimum_norm.base import MinimumNorm
from robust_jax.attacks.minimum_norm.carlini_wagner import CarliniWagnerL2
from robust_jax.attacks.minimum_norm.carlini_wagner_l0_linf import CarliniWagnerL0, CarliniWagnerLinf
from robust_jax.attacks.minimum_norm.ddn import DDN
from robust_jax.attacks.minimum_norm.deepfool import DeepFool
from robust_jax.attacks.minimum_norm.ead import EAD
from robust_jax.attacks.minimum_norm.fab import FAB, FABT
from robust_jax.attacks.minimum_norm.jsma import JSMA
from robust_jax.attacks.problem import AttackResult, Problem
from robust_jax.attacks.starts import Gaussian
from robust_jax.attacks.threats import L0, L1, L2, THREATS, Linf, Threat
from robust_jax.attacks.transforms.parameter_pgd import ParameterPGD
from robust_jax.attacks.transforms.parameter_search import ParameterResult, ParameterSearch
from robust_jax.attacks.transforms.spatial import Spatial, rotate_translate
from robust_jax.attacks.transforms.threats_parameters import Joint, ParameterBox, Parameters, TransformThreat

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "DDN",
    "EAD",
    "FAB",
    "FABT",
    "FGSM",
    "JSMA",
    "L0",
    "L1",
    "L2",
    "LOSSES",
    "MIFGSM",
    "NES",
    "NFGSM",
    "NIFGSM",
    "PGD",
    "RFGSM",
    "SPSA",
    "TARGETED_LOSSES",
    "THREATS",
    "Acceptance",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "AutoAttackResult",
    "BoundaryAttack",
    "CarliniWagnerL0",
    "CarliniWagnerL2",
    "CarliniWagnerLinf",
    "DeepFool",
    "Gaussian",
    "HopSkipJump",
    "Joint",
    "Linf",
    "Maximum",
    "MinimumNorm",
    "ObsAtk",
    "ObsAtkResult",
    "OnePixel",
    "ParameterBox",
    "ParameterPGD",
    "ParameterResult",
    "ParameterSearch",
    "Parameters",
    "Problem",
    "Pyramid",
    "PyramidPGD",
    "Spatial",
    "Square",
    "Stage",
    "Threat",
    "TransformThreat",
    "UniversalPGD",
    "cross_entropy",
    "dlr",
    "margin",
    "maximise",
    "patch_success",
    "project_zero_mean",
    "repeated_acceptance",
    "rotate_translate",
    "shift_success",
    "success_of",
    "targeted_dlr",
    "virtual_direction",
]
