"""ImageNet-C-bar and CIFAR-10-C-bar: corruptions unlike those of ImageNet-C (Mintun et al., arXiv 2102.11273)."""

from robust_jax.corruptions.c_bar.blur import CircularMotionBlur
from robust_jax.corruptions.c_bar.chromatic import TransverseChromaticAberration
from robust_jax.corruptions.c_bar.distortion import CausticRefraction, PinchAndTwirl, Ripple
from robust_jax.corruptions.c_bar.noise import BlueNoiseSample, BrownishNoise, PerlinNoise
from robust_jax.corruptions.c_bar.obscure import CheckerboardCutout, Lines
from robust_jax.corruptions.c_bar.sparkles import InverseSparkles, Sparkles
from robust_jax.corruptions.c_bar.waves import ConcentricSine, PlasmaNoise, SingleFrequencyGreyscale

BAR_IMAGENET = (
    "blue_noise_sample",
    "plasma_noise",
    "checkerboard_cutout",
    "concentric_sine",
    "single_frequency_greyscale",
    "brownish_noise",
    "perlin_noise",
    "sparkles",
    "inverse_sparkles",
    "caustic_refraction",
)
"""The corruptions of ImageNet-C-bar."""

BAR_CIFAR = (
    "blue_noise_sample",
    "brownish_noise",
    "checkerboard_cutout",
    "circular_motion_blur",
    "inverse_sparkles",
    "lines",
    "pinch_and_twirl",
    "ripple",
    "sparkles",
    "transverse_chromatic_aberration",
)
"""The corruptions of CIFAR-10-C-bar."""

__all__ = [
    "BAR_CIFAR",
    "BAR_IMAGENET",
    "BlueNoiseSample",
    "BrownishNoise",
    "CausticRefraction",
    "CheckerboardCutout",
    "CircularMotionBlur",
    "ConcentricSine",
    "InverseSparkles",
    "Lines",
    "PerlinNoise",
    "PinchAndTwirl",
    "PlasmaNoise",
    "Ripple",
    "SingleFrequencyGreyscale",
    "Sparkles",
    "TransverseChromaticAberration",
]
