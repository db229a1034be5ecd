"""The published levels of a corruption, one per severity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def levels(imagenet: Sequence[float], cifar: Sequence[float]) -> Mapping[str, Sequence[float]]:
    """By preset: those of ImageNet-C-bar, and those of CIFAR-10-C-bar for small images."""
    return {"imagenet224": imagenet, "cifar32": cifar, "tiny64": cifar}
