"""The perturbation sequences of ImageNet-P and CIFAR-10-P (Hendrycks & Dietterich, arXiv 1903.12261)."""

from robust_jax.corruptions.imagenet_p.base import PerturbationSequence
from robust_jax.corruptions.imagenet_p.blur import GaussianBlurSequence, MotionBlurSequence, ZoomBlurSequence
from robust_jax.corruptions.imagenet_p.geometry import (
    RotateSequence,
    ScaleSequence,
    ShearSequence,
    TiltSequence,
    TranslateSequence,
)
from robust_jax.corruptions.imagenet_p.noise import GaussianNoiseSequence, ShotNoiseSequence, SpeckleNoiseSequence
from robust_jax.corruptions.imagenet_p.weather import BrightnessSequence, SnowSequence, SpatterSequence

SEQUENCES: dict[str, type[PerturbationSequence]] = {
    "gaussian_noise": GaussianNoiseSequence,
    "shot_noise": ShotNoiseSequence,
    "motion_blur": MotionBlurSequence,
    "zoom_blur": ZoomBlurSequence,
    "snow": SnowSequence,
    "brightness": BrightnessSequence,
    "translate": TranslateSequence,
    "rotate": RotateSequence,
    "tilt": TiltSequence,
    "scale": ScaleSequence,
    "speckle_noise": SpeckleNoiseSequence,
    "gaussian_blur": GaussianBlurSequence,
    "spatter": SpatterSequence,
    "shear": ShearSequence,
}
"""The component class of each perturbation."""

PERTURBATIONS = tuple(SEQUENCES)[:10]
"""ImageNet-P's ten perturbations, in its order."""

PERTURBATIONS_EXTRA = tuple(SEQUENCES)[10:]
"""Four more, meant for validation."""

PERTURBATIONS_CIFAR = tuple("spatter" if name == "snow" else name for name in PERTURBATIONS)
"""CIFAR-10-P's ten: with spatter for snow, as they are evaluated in the original."""

__all__ = [
    "PERTURBATIONS",
    "PERTURBATIONS_CIFAR",
    "PERTURBATIONS_EXTRA",
    "SEQUENCES",
    "BrightnessSequence",
    "GaussianBlurSequence",
    "GaussianNoiseSequence",
    "MotionBlurSequence",
    "PerturbationSequence",
    "RotateSequence",
    "ScaleSequence",
    "ShearSequence",
    "ShotNoiseSequence",
    "SnowSequence",
    "SpatterSequence",
    "SpeckleNoiseSequence",
    "TiltSequence",
    "TranslateSequence",
    "ZoomBlurSequence",
]
