"""The 19 corruptions of ImageNet-C (Hendrycks & Dietterich, arXiv 1903.12261)."""

from robust_jax.corruptions.imagenet_c.blur import DefocusBlur, GaussianBlur, MotionBlur, ZoomBlur
from robust_jax.corruptions.imagenet_c.colour import Brightness, Contrast, Saturate
from robust_jax.corruptions.imagenet_c.frost import Frost
from robust_jax.corruptions.imagenet_c.geometry import ElasticTransform, Pixelate
from robust_jax.corruptions.imagenet_c.glass import GlassBlur
from robust_jax.corruptions.imagenet_c.jpeg import JpegCompression
from robust_jax.corruptions.imagenet_c.noise import GaussianNoise, ImpulseNoise, ShotNoise, SpeckleNoise
from robust_jax.corruptions.imagenet_c.spatter import Spatter
from robust_jax.corruptions.imagenet_c.weather import Fog, Snow

COMMON = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The benchmark's 15 corruptions, in its order."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Four more, meant for validation."""

__all__ = [
    "COMMON",
    "EXTRA",
    "Brightness",
    "Contrast",
    "DefocusBlur",
    "ElasticTransform",
    "Fog",
    "Frost",
    "GaussianBlur",
    "GaussianNoise",
    "GlassBlur",
    "ImpulseNoise",
    "JpegCompression",
    "MotionBlur",
    "Pixelate",
    "Saturate",
    "ShotNoise",
    "Snow",
    "Spatter",
    "SpeckleNoise",
    "ZoomBlur",
]
