"""Published sets of common corruptions, such as CIFAR-10-C's arrays, instead of corruptions made on the fly."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from robust_jax import data as data_room
from robust_jax.data import Evaluation
from robust_jax.suites.base import Context
from robust_jax.suites.case import measure_batch, run_case
from robust_jax.suites.common_corruptions import CommonCorruptions
from robust_jax.suites.other_sets import evaluation_beside
from robust_jax.suites.relabelled import Relabelled
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import Table

# Examples whose labels are compared, to tell whether two sets are in the same order.
CHECKED = 64


@dataclasses.dataclass(frozen=True)
class PublishedCorruptions(CommonCorruptions):
    """As :class:`~robust_jax.suites.CommonCorruptions`, with the same rows, on images that somebody else corrupted.

    Of a set with as many examples as there are clean ones all are taken, in whatever order. Of a larger one those with
    the ids of the clean examples are, whose labels must then agree: the first 1,000 of CIFAR-10-C belong to the first
    1,000 test images in the official order, which TFDS does not keep.

    Raises:
        ValueError: as :class:`~robust_jax.suites.CommonCorruptions`; or if a severity is none of 1 to 5, or a setting
            of corruptions made on the fly is given.
    """

    published: Any = data_room.CorruptedArrays("CIFAR-10-C")
    """One of :class:`~robust_jax.data.CorruptedArrays`, ``CorruptedTfds``, ``CorruptedFolders``, of any corruption."""

    def __post_init__(self):
        super().__post_init__()
        for severity in self.severities:
            self._set(self.corruption_names[0], severity)
        for field in dataclasses.fields(CommonCorruptions):
            if field.name in ("preset", "compat", "textures") and getattr(self, field.name) != field.default:
                raise ValueError(f"Published images are as they are, got {field.name}={getattr(self, field.name)!r}.")

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images under every corruption at the middle severity, with what is predicted for them.

        The clean images are there, too, where they are in the same order.
        """
        severity = sorted(self.severities)[len(self.severities) // 2]
        columns = {name: self._load(context.data, name, severity)[0] for name in self.corruption_names}
        first, classes = self._load(context.data, self.corruption_names[0], severity)
        if _agree(context.data.source, first, classes):
            columns = {"clean": context.data.source, **columns}
        positions = np.arange(min(num_images, len(first)))
        shown = {name.replace("_", " "): jnp.float32(part.take(positions)[0]) / 255 for name, part in columns.items()}
        labels = jnp.asarray(classes[first.take(positions)[1]])
        return predicted_samples(context, shown, labels, num_images=num_images)

    def _check_size(self, data: Evaluation) -> None:
        """Before hours are spent on the sets that come first."""
        for name in self.corruption_names:
            self._load(data, name, self.severities[0])

    def _place(self, context: Context, name: str, severity: float) -> tuple[str, str]:
        examples, classes = self._examples(context.data, name, severity)
        return context.folder("published", examples.fingerprint, classes), f"{name} {severity:g}"

    def _computed(self, context: Context, name: str, severity: float) -> Table:
        examples, classes = self._examples(context.data, name, severity)
        return run_case(partial(measure_batch, context.classifier()), Relabelled(examples, classes))

    def _examples(self, data: Evaluation, name: str, severity: float) -> tuple[Evaluation, Int[np.ndarray, "m"]]:
        source, classes = self._load(data, name, severity)
        return evaluation_beside(data, source, name), classes

    def _set(self, name: str, severity: float) -> Any:
        """The published set of one case."""
        whole = int(severity) if severity == int(severity) else severity
        return dataclasses.replace(self.published, corruption=name, severity=whole)

    def _load(self, data: Evaluation, name: str, severity: float) -> tuple[data_room.Source, Int[np.ndarray, "m"]]:
        """The examples that belong to the clean ones, and the model's class for each of theirs."""
        source = self._set(name, severity).load("test")
        classes = data_room.map_classes(source.class_names, data.class_names, where=source.name)
        if tuple(source.image_shape) != tuple(data.image_shape):
            shapes = f"{tuple(data.image_shape)}, as in {data.name}, in {source.name}, got {tuple(source.image_shape)}"
            raise ValueError(f"Expected images of shape {shapes}.")
        if len(source) == data.num_examples:
            return source, classes
        ids = data.source.ids
        if len(source) < data.num_examples or ids.max() >= len(source):
            raise ValueError(f"{source.name} has {len(source)} examples, {data.name} {data.num_examples} or more.")
        source = source.subset(ids)
        if not _agree(data.source, source, classes):
            raise ValueError(
                f"The labels of {source.name} are not those of the same examples of {data.name}; test on as many as it "
                "has, or on data in its order."
            )
        return source, classes


def _agree(clean: data_room.Source, source: data_room.Source, classes: Int[np.ndarray, "m"] | None = None) -> bool:
    """Whether some examples, spread over the set, have the same labels in both."""
    if len(clean) != len(source):
        return False
    positions = np.unique(np.linspace(0, len(clean) - 1, CHECKED).astype(np.int64))
    expected, labels = (part.take(positions)[1] for part in (clean, source))
    return np.array_equal(expected, labels if classes is None else classes[labels])
