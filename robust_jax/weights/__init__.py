"""Weight files of other libraries: read without executing anything, matched to a network by name and shape."""

from robust_jax.weights.load import WeightsReport, inspect_weights, load_weights
from robust_jax.weights.torch_file import read_tensors

__all__ = ["WeightsReport", "inspect_weights", "load_weights", "read_tensors"]
