"""Meaning of a prediction: its log-likelihood and its measures, per example."""

from robust_jax.tasks.classification import Classification
from robust_jax.tasks.denoising import Denoising
from robust_jax.tasks.infer import infer_task
from robust_jax.tasks.regression import Regression
from robust_jax.tasks.segmentation import Segmentation, is_label_map, pixel_mean

__all__ = ["Classification", "Denoising", "Regression", "Segmentation", "infer_task", "is_label_map", "pixel_mean"]
