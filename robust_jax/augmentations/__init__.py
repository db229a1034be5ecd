"""Random training transforms of one image: ``augmentation(key, image) -> image``, images in [0, 1].

They run inside the compiled training step, under ``jax.vmap`` with a key of its own for every image. With label maps,
``augmentation.with_map(key, image, label_map)`` moves the map with its image; those that mix images do not have it.
"""

from robust_jax.augmentations.aug_mix import AugMix
from robust_jax.augmentations.blur import GaussianBlur
from robust_jax.augmentations.colour_jitter import ColourJitter
from robust_jax.augmentations.compose import Chain, Identity, OneOf
from robust_jax.augmentations.crop import RandomCrop
from robust_jax.augmentations.deep_augment import DeepAugment
from robust_jax.augmentations.erase import Cutout, RandomErasing
from robust_jax.augmentations.flip import HorizontalFlip
from robust_jax.augmentations.lp import Gaussian, RandomLp
from robust_jax.augmentations.maps import moving_maps
from robust_jax.augmentations.mixers import CutMix, Mixup
from robust_jax.augmentations.noise2net import Noise2Net
from robust_jax.augmentations.operations import OPERATIONS, operate, operation_number
from robust_jax.augmentations.patch_gaussian import PatchGaussian
from robust_jax.augmentations.policies import AutoAugment, RandAugment, TrivialAugment
from robust_jax.augmentations.prime import Diffeomorphism, Prime, RandomFilter, SmoothColour
from robust_jax.augmentations.resized_crop import RandomResizedCrop
from robust_jax.augmentations.spatial import RotateTranslate
from robust_jax.augmentations.yoco import Yoco

__all__ = [
    "OPERATIONS",
    "AugMix",
    "AutoAugment",
    "Chain",
    "ColourJitter",
    "CutMix",
    "Cutout",
    "DeepAugment",
    "Diffeomorphism",
    "Gaussian",
    "GaussianBlur",
    "HorizontalFlip",
    "Identity",
    "Mixup",
    "Noise2Net",
    "OneOf",
    "PatchGaussian",
    "Prime",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomFilter",
    "RandomLp",
    "RandomResizedCrop",
    "RotateTranslate",
    "SmoothColour",
    "TrivialAugment",
    "Yoco",
    "moving_maps",
    "operate",
    "operation_number",
]
