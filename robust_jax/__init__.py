"""Robust image classification in JAX: training, corruption, evaluation, reports.

Rooms are imported when first used, so ``import robust_jax`` is quick.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = (
    "attacks", "augmentations", "commands", "config", "core", "corruptions", "data", "detectors", "images",
    "mathematics", "metrics", "models", "objectives", "posteriors", "predictors", "report", "suites", "tasks", "train",
    "types", "weights",
)  # fmt: skip
_NAMES = {"Experiment": "train", "Execution": "train", "Paper": "types", "Scale": "types", "Batch": "types"}

# Named once, though a type checker wants a list of literals.
__all__ = [*_ROOMS, *_NAMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
