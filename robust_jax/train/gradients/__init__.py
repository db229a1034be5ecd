"""How a training step differentiates: ``gradient(key, loss_fn, params, batch) -> (gradient, loss)``."""

from robust_jax.train.gradients.base import Gradient, LossFn, Mean
from robust_jax.train.gradients.per_example import PerExampleClipped
from robust_jax.train.gradients.sharpness import Sharpness, WeightPerturbed

__all__ = ["Gradient", "LossFn", "Mean", "PerExampleClipped", "Sharpness", "WeightPerturbed"]
