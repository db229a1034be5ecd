"""Published sets of corrupted images, one corruption at one severity at a time: as arrays, from TFDS, as folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robust_jax.core.checks import check_choice, check_positive, nearest
from robust_jax.data.folder import ClassFolder, existing_folder
from robust_jax.data.source import Example, Source, check_count, limit
from robust_jax.data.tfds import Tfds

NUM_SEVERITIES = 5
LABELS = "labels.npy"
# What TFDS calls some corruptions of CIFAR-10-C otherwise than their files are called.
TFDS_NAMES = {"cifar10_corrupted": {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}}


@dataclasses.dataclass(frozen=True)
class CorruptedArrays:
    """A folder like CIFAR-10-C: ``CORRUPTION.npy``, uint8 [5 n, h, w, c], severity by severity, and ``labels.npy``.

    Arrays are mapped into memory, so that only what is asked for is read. The labels are those of all 5 n images, or
    of the n. Examples have the ids 0 to n - 1, whatever the severity.
    """

    path: str
    """The folder."""
    corruption: str = "gaussian_noise"
    """Name of the array."""
    severity: int = 1
    """From 1 to 5."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes; by default their numbers, up to the largest label."""
    num_test: int | None = None
    """Use only the first so many."""

    def __post_init__(self):
        check_level(self.severity)
        check_count("num_test", self.num_test)

    @property
    def name(self) -> str:
        return f"{Path(self.path).name}/{self.corruption}_{self.severity}"

    def load(self, split: str) -> Source:
        """The test split; there is no other.

        Raises:
            FileNotFoundError: if the folder or an array is missing; the nearest name is given.
            ValueError: if an array is not as it should be, naming its file.
        """
        check_test(split, self.name)
        folder = existing_folder(Path(self.path))
        names = [path.stem for path in folder.glob("*.npy") if path.name != LABELS]
        if self.corruption not in names:
            raise _unknown(folder, self.corruption, names)
        file = folder / f"{self.corruption}.npy"
        images = _map(file)
        if images.ndim != 4 or images.dtype != np.uint8 or len(images) % NUM_SEVERITIES or not len(images):
            raise ValueError(f"Expected uint8 images [5 n, h, w, c] in {file}, got {images.dtype} {images.shape}.")
        count = len(images) // NUM_SEVERITIES
        start = (self.severity - 1) * count
        labels = _labels(folder / LABELS, count)
        class_names = self.class_names or tuple(str(i) for i in range(int(labels.max()) + 1))
        reader = _MappedReader(str(file), images, labels[start : start + count], start)
        source = Source(
            self.name, split, class_names, images.shape[1:], reader, np.arange(count), reader.many, threaded=False
        )
        return limit(source, self.num_test)


@dataclasses.dataclass(frozen=True)
class CorruptedTfds:
    """``cifar10_corrupted`` or ``imagenet2012_corrupted`` of TFDS, a config for each corruption and severity.

    Each config has to be prepared, as :class:`~robust_jax.data.Tfds` says. Names are those of CIFAR-10-C's files, also
    where TFDS has others (``frosted_glass_blur``, ``elastic``).
    """

    dataset: str = "cifar10_corrupted"
    """Name of the set."""
    corruption: str = "gaussian_noise"
    """Name of the corruption."""
    severity: int = 1
    """From 1 to 5."""
    data_dir: str | None = None
    """Folder of prepared sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    image_size: int | None = None
    """Resize the shorter side and cut a square of this size; None takes images as they are."""
    num_test: int | None = None
    """Use only the first so many."""
    test_split: str | None = None
    """The split tested on; by default validation for ImageNet, else test."""

    def __post_init__(self):
        check_level(self.severity)
        check_count("num_test", self.num_test)

    @property
    def name(self) -> str:
        corruption = TFDS_NAMES.get(self.dataset, {}).get(self.corruption, self.corruption)
        return f"{self.dataset}/{corruption}_{self.severity}"

    def load(self, split: str) -> Source:
        """The test split; there is no other. Raises as :class:`~robust_jax.data.Tfds` does."""
        check_test(split, self.name)
        published = self.test_split or ("validation" if self.dataset.startswith("imagenet") else "test")
        return Tfds(
            self.name,
            data_dir=self.data_dir,
            image_size=self.image_size,
            num_test=self.num_test,
            test_split=published,
        ).load(split)


@dataclasses.dataclass(frozen=True)
class CorruptedFolders:
    """Folders like ImageNet-C: ``PATH/CORRUPTION/SEVERITY/CLASS/*``, or with the group's folder before the first."""

    path: str
    """The folder."""
    corruption: str = "gaussian_noise"
    """Name of the corruption."""
    severity: int = 1
    """From 1 to 5."""
    image_size: int = 224
    """Side of the images in pixels."""
    num_test: int | None = None
    """Use only so many, evenly spaced, so that every class is among them."""

    def __post_init__(self):
        check_level(self.severity)
        check_positive("image_size", self.image_size)
        check_count("num_test", self.num_test)

    @property
    def name(self) -> str:
        return f"{Path(self.path).name}/{self.corruption}_{self.severity}"

    def load(self, split: str) -> Source:
        """The test split; there is no other.

        Raises:
            FileNotFoundError: if a folder is missing (the nearest name is given) or holds no images.
        """
        check_test(split, self.name)
        folder = existing_folder(Path(self.path))
        found = {path.parent.name: path.parent for path in (*folder.glob("*/*/[1-5]"), *folder.glob("*/[1-5]"))}
        if self.corruption not in found:
            raise _unknown(folder, self.corruption, list(found))
        path = found[self.corruption] / str(self.severity)
        source = ClassFolder(str(path), image_size=self.image_size, num_test=self.num_test).load(split)
        return dataclasses.replace(source, name=self.name)


def check_level(severity: int) -> None:
    """Raises ``ValueError`` unless the severity is one of those published."""
    if severity not in range(1, NUM_SEVERITIES + 1):
        raise ValueError(f"Expected severity as a whole number from 1 to 5, got severity={severity!r}.")


def check_test(split: str, name: str) -> None:
    """Raises ``ValueError`` unless the split is test, the only one that a shifted set has."""
    check_choice(f"split of {name}", split, ("test",))


@dataclasses.dataclass(frozen=True, eq=False)
class _MappedReader:
    """Picklable: another process maps the file again instead of being sent its pixels."""

    file: str
    images: np.ndarray
    labels: np.ndarray
    start: int

    def __call__(self, index: int) -> Example:
        return np.asarray(self.images[self.start + index]), int(self.labels[index])

    def many(self, indices: Sequence[int]) -> list[Example]:
        rows = np.asarray(indices, np.int64)
        return list(zip(self.images[self.start + rows], self.labels[rows].tolist(), strict=True))

    def __reduce__(self) -> tuple:
        return _reopen, (self.file, self.labels, self.start)


def _reopen(file: str, labels: np.ndarray, start: int) -> _MappedReader:
    return _MappedReader(file, _map(Path(file)), labels, start)


def _map(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"Cannot read array {file}: {error}") from error


def _labels(file: Path, count: int) -> np.ndarray:
    """Labels of all severities."""
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} has no {file.name}.")
    labels = _map(file)
    if labels.shape == (count,):
        labels = np.tile(labels, NUM_SEVERITIES)
    if labels.shape != (NUM_SEVERITIES * count,) or not np.issubdtype(labels.dtype, np.integer):
        expected = f"{count} or {NUM_SEVERITIES * count}"
        raise ValueError(f"Expected {expected} integer labels in {file}, got {labels.dtype} {labels.shape}.")
    if (labels.reshape(NUM_SEVERITIES, count) != labels[:count]).any():
        raise ValueError(f"Expected the same {count} labels five times over, once a severity, in {file}.")
    if labels.min() < 0:
        raise ValueError(f"Expected labels >= 0 in {file}, got {labels.min()}.")
    return np.asarray(labels, np.int32)


def _unknown(folder: Path, corruption: str, valid: Sequence[str]) -> FileNotFoundError:
    hint = nearest(corruption, valid) if valid else " It has none at all."
    return FileNotFoundError(f"{folder} has no corruption {corruption!r}.{hint}")
