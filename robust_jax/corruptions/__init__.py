"""Label-preserving damage: ``corruption(key, image, severity) -> image``, images in [0, 1]."""

from robust_jax.corruptions.lp import Gaussian, RandomLp

__all__ = ["Gaussian", "RandomLp"]
