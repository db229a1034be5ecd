"""Data sets that are evaluated beside the test images."""

from __future__ import annotations

from robust_jax import data as data_room
from robust_jax.data import Evaluation, Source


def evaluation_beside(data: Evaluation, source: Source, name: str) -> Evaluation:
    """Another data set, in batches and on devices as the test images are.

    Args:
        data: the test images.
        source: the other set.
        name: what it is called in errors.

    Raises:
        ValueError: if its images have another shape.
    """
    if tuple(source.image_shape) != tuple(data.image_shape):
        raise ValueError(
            f"Expected images of shape {tuple(data.image_shape)}, as in {data.name}, in {name}, got "
            f"{tuple(source.image_shape)}."
        )
    return data_room.evaluation(source, batch_size=data.batch_size, mesh=data.mesh, resident=False)
