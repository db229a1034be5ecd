"""Data sets and pipelines. The only room that imports tensorflow_datasets and grain."""

from robust_jax.data.arrays import Arrays, Npz
from robust_jax.data.class_map import map_classes
from robust_jax.data.corrupted import CorruptedArrays, CorruptedFolders, CorruptedTfds
from robust_jax.data.digits import Digits
from robust_jax.data.evaluation import Evaluation, evaluation
from robust_jax.data.few_labels import FewLabels
from robust_jax.data.folder import ClassFolder, ImageFolder
from robust_jax.data.long_tailed import LongTailed, Oversampled, long_tailed_counts
from robust_jax.data.masks import MaskFolder
from robust_jax.data.pipeline import Feed, MultiFeed, train_feed
from robust_jax.data.resized import Resized
from robust_jax.data.shapes import Shapes
from robust_jax.data.source import DataSet, Source
from robust_jax.data.tabular import Diabetes, Tabular
from robust_jax.data.tfds import Tfds
from robust_jax.data.turned import Turned

__all__ = [
    "Arrays",
    "ClassFolder",
    "CorruptedArrays",
    "CorruptedFolders",
    "CorruptedTfds",
    "DataSet",
    "Diabetes",
    "Digits",
    "Evaluation",
    "Feed",
    "FewLabels",
    "ImageFolder",
    "LongTailed",
    "MaskFolder",
    "MultiFeed",
    "Npz",
    "Oversampled",
    "Resized",
    "Shapes",
    "Source",
    "Tabular",
    "Tfds",
    "Turned",
    "evaluation",
    "long_tailed_counts",
    "map_classes",
    "train_feed",
]
