"""Published sets of common corruptions, such as CIFAR-10-C's arrays, instead of corruptions made on the fly."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

from robust_jax import config
from robust_jax import data as data_room
from robust_jax.suites.case import admitted, measure_batch, run_case
from robust_jax.suites.common_corruptions import CommonCorruptions
from robust_jax.suites.relabelled import Relabelled
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.types import Evaluation, LogitsFn, PRNGKey

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

    def samples(self, key: PRNGKey, predictor: LogitsFn, data: Evaluation, *, num_images: int = 6) -> Samples:
        """The first images under every corruption at the middle severity, with what is predicted for them.

        The clean images are there, too, where they are in the same order.
        """
        del key
        severity = sorted(self.severities)[len(self.severities) // 2]
        columns = {name: self._load(data, name, severity)[0] for name in self.corruption_names}
        first, classes = self._load(data, self.corruption_names[0], severity)
        if _agree(data.source, first, classes):
            columns = {"clean": data.source, **columns}
        positions = np.arange(min(num_images, len(first)))
        shown = {name.replace("_", " "): np.float32(part.take(positions)[0]) / 255 for name, part in columns.items()}
        labels = classes[first.take(positions)[1]]
        return predicted_samples(predictor, shown, labels, data.class_names, num_images=num_images)

    def _check_size(self, data: Evaluation) -> None:
        """Before hours are spent on the sets that come first."""
        for name in self.corruption_names:
            self._load(data, name, self.severities[0])

    def _place(self, key: PRNGKey, data: Evaluation, name: str, severity: float) -> tuple[str, str]:
        del key
        published = config.to_json(self._set("", 1))
        return f"published_{digest(identity(data), published)}", f"{name} {severity:g}"

    def _case(
        self, key: PRNGKey, predictor: LogitsFn, data: Evaluation, store: CaseStore, name: str, severity: float
    ) -> Table:
        place = self._place(key, data, name, severity)
        table = store.get(*place)
        if table is None:
            source, classes = self._load(data, name, severity)
            examples = data_room.evaluation(source, batch_size=data.batch_size, mesh=data.mesh, resident=False)
            table = run_case(partial(measure_batch, admitted(predictor, data)), Relabelled(examples, classes))
            store.put(*place, table)
        return table

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
