"""The names of the published corruptions, how their papers group them, and what of the imaging process each acts on.

Names are those of the published files. Everything here is data; the corruptions themselves are components of
:mod:`robust_jax.corruptions`.
"""

from __future__ import annotations

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
"""The 15 corruptions of ImageNet-C, in the order of arXiv 1903.12261."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Four more, which the paper keeps for validation."""

GROUPS = {"noise": COMMON[:3], "blur": COMMON[3:7], "weather": COMMON[7:11], "digital": COMMON[11:]}
"""The paper's groups of the 15."""

ALEXNET_ERRORS = (
    0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572, 0.819324, 0.564592,
    0.853204, 0.646056, 0.717840, 0.606500,
)  # fmt: skip
"""AlexNet's error on ImageNet-C under each of ``COMMON``, the mean over five severities."""

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
"""The ten corruptions of ImageNet-C-bar (arXiv 2102.11273)."""

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
"""The ten corruptions of CIFAR-10-C-bar."""

VARIABLES = {
    "illumination": ("brightness", "contrast", "sparkles", "inverse_sparkles"),
    "weather": ("snow", "frost", "fog", "spatter", "perlin_noise"),
    "optics": (
        "defocus_blur",
        "glass_blur",
        "gaussian_blur",
        "elastic_transform",
        "pinch_and_twirl",
        "ripple",
        "caustic_refraction",
        "transverse_chromatic_aberration",
    ),
    "motion": ("motion_blur", "zoom_blur", "circular_motion_blur"),
    "sensor": (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "speckle_noise",
        "blue_noise_sample",
        "brownish_noise",
    ),
    "processing": ("pixelate", "saturate"),
    "transmission": (
        "jpeg_compression",
        "plasma_noise",
        "checkerboard_cutout",
        "concentric_sine",
        "single_frequency_greyscale",
        "lines",
    ),
}
"""Variables of the imaging process, from the scene to the file, and the corruptions that intervene on each."""

VARIABLES_OF = {name: variable for variable, names in VARIABLES.items() for name in names}
"""The variable of each corruption."""
