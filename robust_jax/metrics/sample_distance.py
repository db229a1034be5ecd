"""How near an augmentation comes to a corruption (Mintun, Kirillov & Xie, arXiv 2102.11273, section 4)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

# Differences of so many entries are held at once.
_CHUNK_ENTRIES = 2**22


def minimal_sample_distance(
    augmented_features: Float[np.ndarray, "m f"], corrupted_features_mean: Float[np.ndarray, "f"]
) -> float:
    r"""The least distance of a sampled augmentation from a corruption's mean, in a feature space.

    .. math:: d_{MSD} = \min_{a \in A} \, \lVert f(a) - \mathbb{E}_c f(c) \rVert_2

    A transform's features f are those of the last hidden layer, averaged over a fixed set of images (100 in the paper)
    all transformed with the same parameters; see :func:`transform_features`. The paper draws 100,000 augmentations,
    and 100 corruptions for the mean. Where one augmentation in many resembles the corruption the distance is small,
    though the distance between the two means is not: this is what predicts the error under the corruption.

    Args:
        augmented_features: f(a) of each sampled augmentation.
        corrupted_features_mean: mean of f(c) over sampled corruptions.

    Raises:
        ValueError: if there is no augmentation, or the numbers of features differ.
    """
    augmented, corrupted = np.asarray(augmented_features), np.asarray(corrupted_features_mean)
    if augmented.ndim != 2 or len(augmented) == 0 or corrupted.shape != augmented.shape[1:]:
        raise ValueError(
            "Expected augmented_features of shape [m, f], m > 0, and corrupted_features_mean of shape [f], "
            f"got {augmented.shape} and {corrupted.shape}."
        )
    corrupted = corrupted.astype(np.float64)
    rows = max(1, _CHUNK_ENTRIES // max(1, len(corrupted)))
    chunks = (augmented[i : i + rows] - corrupted for i in range(0, len(augmented), rows))
    return float(np.sqrt(min(np.min(np.einsum("mf,mf->m", chunk, chunk)) for chunk in chunks)))


def transform_features(image_features: Float[np.ndarray, "m n f"]) -> Float[np.ndarray, "m f"]:
    """f of m transforms: the mean of the features of n images, each transform with its own one set of parameters."""
    return np.asarray(image_features, np.float64).mean(axis=1)
