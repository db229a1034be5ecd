"""Random training transforms of one image: ``augmentation(key, image) -> image``, images in [0, 1].

They run inside the compiled training step, under ``jax.vmap`` with a key of its own for every image.
"""

from robust_jax.augmentations.aug_mix import AugMix
from robust_jax.augmentations.compose import Chain, Identity, OneOf
from robust_jax.augmentations.crop import RandomCrop
from robust_jax.augmentations.flip import HorizontalFlip
from robust_jax.augmentations.lp import Gaussian, RandomLp
from robust_jax.augmentations.operations import OPERATIONS, operate, operation_number
from robust_jax.augmentations.policies import AutoAugment, RandAugment, TrivialAugment
from robust_jax.augmentations.spatial import RotateTranslate

__all__ = [
    "OPERATIONS",
    "AugMix",
    "AutoAugment",
    "Chain",
    "Gaussian",
    "HorizontalFlip",
    "Identity",
    "OneOf",
    "RandAugment",
    "RandomCrop",
    "RandomLp",
    "RotateTranslate",
    "TrivialAugment",
    "operate",
    "operation_number",
]
