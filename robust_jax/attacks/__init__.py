"""Worst-case inputs: ``attack(keys, logits_fn, images, labels) -> adversarial images``, for any logits function."""

from robust_jax.attacks.apgd import APGD, APGDT
from robust_jax.attacks.autoattack import AutoAttack, AutoAttackResult
from robust_jax.attacks.base import Attack
from robust_jax.attacks.composition import bpda, mean_of, mean_of_stacked
from robust_jax.attacks.ddn import DDN
from robust_jax.attacks.deepfool import DeepFool
from robust_jax.attacks.fab import FAB, FABT
from robust_jax.attacks.losses import LOSSES, TARGETED_LOSSES, cross_entropy, dlr, margin, targeted_dlr
from robust_jax.attacks.minimum_norm import MinimumNorm
from robust_jax.attacks.nes import NES
from robust_jax.attacks.one_pixel import OnePixel
from robust_jax.attacks.pgd import BIM, FGSM, MIFGSM, NIFGSM, PGD, RFGSM
from robust_jax.attacks.problem import AttackResult, Problem
from robust_jax.attacks.randomised import Randomised, through
from robust_jax.attacks.spsa import SPSA
from robust_jax.attacks.square import Square
from robust_jax.attacks.threats import L0, L1, L2, THREATS, Linf, Threat

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "DDN",
    "FAB",
    "FABT",
    "FGSM",
    "L0",
    "L1",
    "L2",
    "LOSSES",
    "MIFGSM",
    "NES",
    "NIFGSM",
    "PGD",
    "RFGSM",
    "SPSA",
    "TARGETED_LOSSES",
    "THREATS",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "AutoAttackResult",
    "DeepFool",
    "Linf",
    "MinimumNorm",
    "OnePixel",
    "Problem",
    "Randomised",
    "Square",
    "Threat",
    "bpda",
    "cross_entropy",
    "dlr",
    "margin",
    "mean_of",
    "mean_of_stacked",
    "targeted_dlr",
    "through",
]
