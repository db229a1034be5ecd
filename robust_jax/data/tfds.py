"""TensorFlow Datasets, read without TensorFlow."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict, cast

import numpy as np
from PIL import Image

from robust_jax.core.checks import check_choice, nearest
from robust_jax.data.images import fit_image
from robust_jax.data.source import Example, Source, check_count, check_split, check_validation, hold_out, limit

if TYPE_CHECKING:
    # At run time it is imported late: it takes seconds.
    import tensorflow_datasets as tfds

# As stored, by number of channels: decoders differ on pictures stored otherwise, as grey among coloured ones.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Bytes of a decoded image up to which one thread decodes faster than two, as measured.
SMALL = 64 * 64 * 3


@dataclasses.dataclass(frozen=True)
class Tfds:
    """A data set prepared as ``array_record`` under ``DATA_DIR/NAME/VERSION``, the highest version.

    A stock set must be prepared once, which needs TensorFlow: ``pip install robust_jax[prepare]``, then
    ``tfds build NAME --file_format=array_record``.

    ``DATA_DIR/aliases.json`` may name stand-ins, as ``{"cifar10": "cifar10_subset"}``: ``cifar10`` is then read from
    ``cifar10_subset`` unless it is prepared itself. Rows carry the name of the set that was read.
    """

    name: str
    """Name of the set, as cifar10; with its config where it has several, as cifar10_corrupted/fog_3."""
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
        check_count("num_train", self.num_train)
        check_count("num_test", self.num_test)

    def load(self, split: str) -> Source:
        """One split: train, validation or test.

        Raises:
            FileNotFoundError: if the set is not there; the nearest name is given, and how to prepare it.
            ValueError: if it lacks the split, has several configs and none is named, is no image classification set, or
                ``aliases.json`` cannot be read.
        """
        check_split(split)
        name, builder = _builder(self.name, self.data_dir)
        published = self.test_split if split == "test" else "train"
        check_choice(f"split of {name}", published, builder.info.splits)
        shape, class_names = _features(name, cast(Mapping[str, object], builder.info.features))
        # Decoded here, by Pillow: TFDS takes OpenCV where it is installed, whose pixels differ.
        records = builder.as_data_source(split=published, decoders={"image": _skip_decoding()})
        read = _RecordReader(f"{name}/{published}", records, MODES[shape[2]], self.image_size)
        source = Source(
            name=name,
            split=split,
            class_names=class_names,
            image_shape=read(0)[0].shape,
            read=read,
            ids=np.arange(len(records)),
            read_many=read.many,
            threaded=not (shape[0] and shape[1]) or math.prod((shape[0], shape[1], shape[2])) > SMALL,
        )
        if split == "test":
            return limit(source, self.num_test)
        source = hold_out(source, split, self.validation)
        return limit(source, self.num_train) if split == "train" else source


class Record(TypedDict):
    """One example as stored, the image not decoded."""

    image: bytes
    label: int


class Records(Protocol):
    """Random access to the records of a split."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...

    def __getitems__(self, indices: Sequence[int], /) -> Sequence[Record]: ...


class Builder(Protocol):
    """The part of a builder that is used here; TFDS decorates the method so that its parameters are lost."""

    @property
    def info(self) -> tfds.core.DatasetInfo: ...

    def as_data_source(self, *, split: str, decoders: Mapping[str, tfds.decode.SkipDecoding]) -> Records: ...


@dataclasses.dataclass(frozen=True)
class _RecordReader:
    where: str
    records: Records
    mode: str
    size: int | None

    def __call__(self, index: int) -> Example:
        return self._decode(index, self.records[index])

    def many(self, indices: Sequence[int]) -> list[Example]:
        return [self._decode(*pair) for pair in zip(indices, self.records.__getitems__(indices), strict=True)]

    def _decode(self, index: int, record: Record) -> Example:
        try:
            with Image.open(io.BytesIO(record["image"])) as image:
                image = fit_image(image, self.size, self.mode)
        except OSError as error:
            raise ValueError(f"Cannot read image {index} of {self.where}: {error}") from error
        return image, int(record["label"])


def _features(name: str, features: Mapping[str, object]) -> tuple[tuple[int | None, int | None, int], tuple[str, ...]]:
    """Return the shape of the images, None where it varies, and the names of the classes.

    Raises:
        ValueError: if it lacks them, or they are not of pictures and classes.
    """
    import tensorflow_datasets as tfds

    for feature in ("image", "label"):
        if feature not in features:
            raise ValueError(f"{name} has no feature {feature!r}, only {', '.join(features)}.")
    image, label = features["image"], features["label"]
    shape = cast(tuple[int | None, int | None, int], image.shape) if isinstance(image, tfds.features.Image) else None
    if (
        not isinstance(image, tfds.features.Image)
        or image.np_dtype != np.uint8
        or shape is None
        or shape[2] not in MODES
    ):
        raise ValueError(f"Expected pictures of uint8 with 1, 3 or 4 channels in {name}, got image={image}.")
    if not isinstance(label, tfds.features.ClassLabel) or label.num_classes is None:
        raise ValueError(f"Expected labels of a known number of classes in {name}, got label={label}.")
    return _shape(image), tuple(label.names or map(str, range(label.num_classes)))


def _shape(image: tfds.features.Image) -> tuple[int | None, int | None, int]:
    return cast(tuple[int | None, int | None, int], image.shape)


def _skip_decoding() -> tfds.decode.SkipDecoding:
    import tensorflow_datasets as tfds

    return tfds.decode.SkipDecoding()


def _builder(name: str, data_dir: str | None) -> tuple[str, Builder]:
    """Return the name of the set that is read, which a stand-in has of its own, and its builder.

    Raises:
        FileNotFoundError: if neither the set nor a stand-in is there.
        ValueError: if it has several configs and none is named, or ``aliases.json`` is not names to names.
    """
    import tensorflow_datasets as tfds

    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"No data folder {root}.")
    aliases = _aliases(root / "aliases.json")
    found = name
    versions = _versions(root / name)
    if not versions and name in aliases:
        found = aliases[name]
        versions = _versions(root / found)
    if not versions:
        prepared = _prepared(root)
        stand_in = f", nor its stand-in {found!r}" if found != name else ""
        raise FileNotFoundError(
            f"No prepared data set {name!r} in {root}{stand_in}.{nearest(name, prepared)} To prepare a stock one: "
            f"pip install robust_jax[prepare]; tfds build {name} --file_format=array_record --data_dir={root}"
        )
    configs = {version.parent.parent for version in versions}
    if len(configs) > 1:
        valid = ", ".join(sorted(str(path.relative_to(root)) for path in configs))
        raise ValueError(f"{found} has several configs, expected the name of one: {valid}.")
    return found, cast(Builder, tfds.builder_from_directory(versions[-1].parent))


def _versions(folder: Path) -> list[Path]:
    """The prepared versions of a set, the highest last."""
    return sorted(folder.glob("**/features.json"), key=lambda file: _version(file.parent.name))


def _aliases(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        aliases = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"Cannot read {path}: {error}") from error
    if not isinstance(aliases, dict) or not all(isinstance(stand_in, str) for stand_in in aliases.values()):
        raise ValueError(f'Expected {path} to map names to names, as {{"cifar10": "cifar10_subset"}}, got {aliases}.')
    return cast(dict[str, str], aliases)


def _prepared(root: Path) -> list[str]:
    """Names of the sets in a folder, a set's configs apart, as cifar10_corrupted/fog_3."""
    return sorted({str(version.parent.parent.relative_to(root)) for version in root.glob("**/features.json")})


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in name.split("."))
