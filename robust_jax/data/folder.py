"""Folders of images, a subfolder a class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from robust_jax.core.checks import check_choice, check_positive, nearest
from robust_jax.data.images import fit_image
from robust_jax.data.source import Source, check_count, check_split, check_validation, hold_out, thin

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
UNKNOWN = "unknown"
FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """``PATH/train/CLASS/*`` and ``PATH/test/CLASS/*`` (or ``val``); classes and files in alphabetical order.

    Every image is resized on its shorter side and cut to a square on the host; random crops are an augmentation.
    """

    path: str
    """The folder."""
    image_size: int = 64
    """Side of the images in pixels."""
    validation: float = 0.0
    """Training examples held out: a fraction, or a count."""
    num_train: int | None = None
    """Use only so many training examples, evenly spaced, so that every class is among them."""
    num_test: int | None = None
    """Use only so many test examples, evenly spaced, so that every class is among them."""

    def __post_init__(self):
        check_positive("image_size", self.image_size)
        check_validation(self.validation)
        check_count("num_train", self.num_train)
        check_count("num_test", self.num_test)

    @property
    def name(self) -> str:
        return Path(self.path).name

    def load(self, split: str) -> Source:
        """One split: train, validation or test.

        Raises:
            FileNotFoundError: if a folder is missing (the nearest is named) or holds no images.
            ValueError: naming the file, when one that cannot be read or a class unknown in training is met.
        """
        check_split(split)
        classes = _classes(_folder(Path(self.path), "train"))
        folder = _folder(Path(self.path), "test" if split == "test" else "train")
        files, labels = _list_images(folder, classes)
        source = Source(
            name=self.name,
            split=split,
            class_names=classes,
            image_shape=(self.image_size, self.image_size, 3),
            read=_FileReader(tuple(files), tuple(labels), self.image_size),
            ids=np.arange(len(files)),
        )
        if split == "test":
            return thin(source, self.num_test)
        source = hold_out(source, split, self.validation)
        return thin(source, self.num_train) if split == "train" else source


@dataclasses.dataclass(frozen=True)
class ClassFolder:
    """``PATH/CLASS/*``, for testing only, as ImageNet-A, -O, -R, -V2 and -Sketch come; files in alphabetical order.

    Classes have the names of their folders, in alphabetical order, or by value where all are numbers, as in
    ImageNet-V2.
    """

    path: str
    """The folder."""
    image_size: int = 224
    """Side of the images in pixels."""
    num_test: int | None = None
    """Use only so many, evenly spaced, so that every class is among them."""
    labelled: bool = True
    """Whether folders say what is on their images. Those of ImageNet-O do not: its images are of no known class, and
    lie under the one they are taken for. Unlabelled, all are of the one class ``unknown``."""

    def __post_init__(self):
        check_positive("image_size", self.image_size)
        check_count("num_test", self.num_test)

    @property
    def name(self) -> str:
        return Path(self.path).name

    def load(self, split: str) -> Source:
        """The test split; there is no other.

        Raises:
            FileNotFoundError: if the folder is missing (the nearest is named) or holds no images.
            ValueError: naming the file, when one that cannot be read is met.
        """
        check_choice(f"split of {self.name}", split, ("test",))
        path = existing_folder(Path(self.path))
        classes = _classes(path)
        if all(name.isdecimal() for name in classes):
            classes = tuple(sorted(classes, key=int))
        files, labels = _list_images(path, classes)
        if not self.labelled:
            classes, labels = (UNKNOWN,), [0] * len(files)
        source = Source(
            name=self.name,
            split=split,
            class_names=classes,
            image_shape=(self.image_size, self.image_size, 3),
            read=_FileReader(tuple(files), tuple(labels), self.image_size),
            ids=np.arange(len(files)),
        )
        return thin(source, self.num_test)


@dataclasses.dataclass(frozen=True)
class _FileReader:
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    size: int

    def __call__(self, index: int) -> tuple[np.ndarray, int]:
        try:
            with Image.open(self.files[index]) as image:
                return fit_image(image, self.size), self.labels[index]
        except OSError as error:
            raise ValueError(f"Cannot read image {self.files[index]}: {error}") from error


def existing_folder(path: Path) -> Path:
    """The folder itself; raises ``FileNotFoundError`` if it is not there, with the nearest that is."""
    if not path.is_dir():
        siblings = [other.name for other in path.parent.glob("*/")] if path.parent.is_dir() else []
        raise FileNotFoundError(f"No data folder {path}.{nearest(path.name, siblings) if siblings else ''}")
    return path


def _folder(path: Path, split: str) -> Path:
    existing_folder(path)
    for name in FOLDERS[split]:
        if (path / name).is_dir():
            return path / name
    raise FileNotFoundError(f"{path} has no {' or '.join(FOLDERS[split])} folder.")


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != "."))
    if not classes:
        raise FileNotFoundError(f"{folder} has no class folders.")
    return classes


def _list_images(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], list[int]]:
    files, labels = [], []
    for name in _classes(folder):
        if name not in classes:
            raise ValueError(f"{folder / name} is a class that training does not have.{nearest(name, classes)}")
        for file in sorted((folder / name).rglob("*")):
            if file.suffix.lower() in SUFFIXES:
                files.append(file)
                labels.append(classes.index(name))
    if not files:
        raise FileNotFoundError(f"{folder} holds no images.")
    return files, labels
