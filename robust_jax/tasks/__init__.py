"""Meaning of a prediction: its log-likelihood and its measures, per example."""

from robust_jax.tasks.classification import Classification
from robust_jax.tasks.infer import infer_task
from robust_jax.tasks.regression import Regression

__all__ = ["Classification", "Regression", "infer_task"]
