"""TensorFlow Datasets, read without TensorFlow."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from robust_jax.core.checks import check_choice, nearest
from robust_jax.data.images import fit_image
from robust_jax.data.source import Source, check_split, check_validation, hold_out, limit


@dataclasses.dataclass(frozen=True)
class Tfds:
    """A data set prepared as ``array_record`` under ``DATA_DIR/NAME/VERSION``, the highest version.

    A stock set must be prepared once, which needs TensorFlow: ``pip install robust_jax[prepare]``, then
    ``tfds build NAME --file_format=array_record``.
    """

    name: str
    """Name of the set, as cifar10."""
    data_dir: str | None = None
    """Folder of prepared sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    image_size: int | None = None
    """Resize the shorter side and cut a square of this size; None takes images as they are."""
    validation: float = 0.0
    """Training examples held out: a fraction, or a count."""
    num_train: int | None = None
    """Use only the first so many training examples."""
    num_test: int | None = None
    """Use only the first so many test examples."""
    test_split: str = "test"
    """The split tested on, where it is called otherwise, as validation for ImageNet."""

    def __post_init__(self):
        check_validation(self.validation)

    def load(self, split: str) -> Source:
        """One split: train, validation or test.

        Raises:
            FileNotFoundError: if the set is not there; the nearest name is given, and how to prepare it.
            ValueError: if it lacks the split, or is no image classification set.
        """
        check_split(split)
        builder = _builder(self.name, self.data_dir)
        published = self.test_split if split == "test" else "train"
        check_choice(f"split of {self.name}", published, builder.info.splits)
        features = builder.info.features
        for feature in ("image", "label"):
            if feature not in features:
                raise ValueError(f"{self.name} has no feature {feature!r}, only {', '.join(features)}.")
        records = builder.as_data_source(split=published)
        read = _RecordReader(records, self.image_size)
        label = features["label"]
        source = Source(
            name=self.name,
            split=split,
            class_names=tuple(label.names or map(str, range(label.num_classes))),
            image_shape=read(0)[0].shape,
            read=read,
            ids=np.arange(len(records)),
        )
        if split == "test":
            return limit(source, self.num_test)
        source = hold_out(source, split, self.validation)
        return limit(source, self.num_train) if split == "train" else source


@dataclasses.dataclass(frozen=True)
class _RecordReader:
    records: Any
    size: int | None

    def __call__(self, index: int) -> tuple[np.ndarray, int]:
        _quieten()
        example = self.records[index]
        image = example["image"]
        if self.size is not None:
            image = fit_image(Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image), self.size)
        return image, int(example["label"])


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"No data folder {root}.")
    versions = sorted((root / name).glob("**/features.json"), key=lambda file: _version(file.parent.name))
    if not versions:
        prepared = sorted(child.name for child in root.iterdir() if (child).is_dir())
        raise FileNotFoundError(
            f"No prepared data set {name!r} in {root}.{nearest(name, prepared)} To prepare a stock one: "
            f"pip install robust_jax[prepare]; tfds build {name} --file_format=array_record --data_dir={root}"
        )
    return tfds.builder_from_directory(versions[-1].parent)


def _quieten() -> None:
    """Silences the note, in every process that decodes, that OpenCV would be faster than Pillow."""
    logging.set_verbosity(logging.ERROR)


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in name.split("."))
