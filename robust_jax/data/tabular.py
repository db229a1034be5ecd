"""Tables of numbers with real targets and published splits, such as the regression sets of UCI."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from robust_jax.core.checks import check_non_negative, nearest
from robust_jax.data.arrays import check_finite
from robust_jax.data.source import Source, check_split, check_validation, hold_out, read_arrays


@dataclasses.dataclass(frozen=True)
class Tabular:
    """Regression on the rows of a ``.npz`` file, standardised by the training split.

    The file holds inputs ``x`` float [n, d], targets ``y`` float [n] or [n, t], and for each published split I the
    rows ``test_I`` int [m] that are tested on; all others are trained on. A row is an image of one pixel with d
    channels, f32[1, 1, d], which :class:`~robust_jax.models.Mlp` takes with ``mean=(0.0,)`` and ``std=(1.0,)``. Inputs
    and targets have mean 0 and variance 1 over the training split of the file; a constant column is 0. Suites report
    in the target's own unit.

    References:
        Hernández-Lobato & Adams (arXiv 1502.05336), section 5.1, for the UCI sets and their splits.
    """

    name: str
    """Name of the set: ``NAME.npz`` in ``data_dir``."""
    number: int = 0
    """Number of the published split."""
    data_dir: str | None = None
    """Folder of the files; by default $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    validation: float = 0.0
    """Training rows held out: a fraction, or a count."""

    def __post_init__(self):
        check_non_negative("number", self.number)
        check_validation(self.validation)

    def load(self, split: str) -> Source:
        """One split: train, validation or test.

        Raises:
            FileNotFoundError: if the file is missing; the nearest name is given.
            ValueError: if it lacks an array or the split, or its numbers are not finite.
        """
        check_split(split)
        where = f"{self.name}.npz"
        inputs, targets, test_rows = _read(self._file(), self.number, where)
        is_test = np.zeros(len(inputs), bool)
        is_test[test_rows] = True
        if is_test.all() or not is_test.any():
            raise ValueError(f"Expected rows to train and to test on in split {self.number} of {where}, got one kind.")
        return _source(f"{self.name}_split{self.number}", split, inputs, targets, is_test, self.validation)

    def _file(self) -> Path:
        root = Path(self.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"No data folder {root}.")
        file = root / f"{self.name}.npz"
        if not file.is_file():
            names = sorted(path.stem for path in root.glob("*.npz"))
            raise FileNotFoundError(f"No file {self.name}.npz in {root}.{nearest(self.name, names)}")
        return file


@dataclasses.dataclass(frozen=True)
class Diabetes:
    """Progression of diabetes in 442 patients, by ten measurements, that comes with scikit-learn (Efron et al., 2004).

    Rows are as those of :class:`Tabular`. A tenth of them, drawn by ``number``, is the test split.
    """

    number: int = 0
    """Number of the split."""
    validation: float = 0.0
    """Training rows held out: a fraction, or a count."""

    def __post_init__(self):
        check_non_negative("number", self.number)
        check_validation(self.validation)

    @property
    def name(self) -> str:
        return "diabetes"

    def load(self, split: str) -> Source:
        """One split: train, validation or test."""
        check_split(split)
        from sklearn.datasets import load_diabetes

        table: Any = load_diabetes()  # scikit-learn has no types.
        inputs, targets = np.asarray(table["data"]), np.asarray(table["target"])
        is_test = np.zeros(len(inputs), bool)
        order = np.random.Generator(np.random.PCG64(self.number)).permutation(len(inputs))
        is_test[order[: len(inputs) // 10]] = True
        return _source(f"{self.name}_split{self.number}", split, inputs, targets[:, None], is_test, self.validation)


def _source(
    name: str,
    split: str,
    inputs: Float[np.ndarray, "n d"],
    targets: Float[np.ndarray, "n t"],
    is_test: Bool[np.ndarray, "n"],
    validation: float,
) -> Source:
    inputs, _ = _standardised(inputs, ~is_test)
    targets, scale = _standardised(targets, ~is_test)
    source = Source(
        name=name,
        split=split,
        class_names=(),
        image_shape=(1, 1, inputs.shape[1]),
        read=read_arrays(inputs[:, None, None], targets),
        ids=np.flatnonzero(is_test if split == "test" else ~is_test),
        threaded=False,
        target_scale=tuple(scale.tolist()),
        image_dtype="float32",
    )
    return source if split == "test" else hold_out(source, split, validation)


def _read(
    file: Path, number: int, where: str
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n t"], Int[np.ndarray, "m"]]:
    with np.load(file, allow_pickle=False) as arrays:
        missing = {"x", "y"} - set(arrays.files)
        if missing:
            raise ValueError(f"{where} has no array {min(missing)!r}; it holds {', '.join(arrays.files)}.")
        splits = sorted(int(name[5:]) for name in arrays.files if name.startswith("test_") and name[5:].isdigit())
        if number not in splits:
            held = f"splits {splits[0]} to {splits[-1]}" if splits else "no splits"
            raise ValueError(f"Expected a published split of {where}, got number={number}; it holds {held}.")
        inputs, targets, rows = arrays["x"], arrays["y"], arrays[f"test_{number}"]
    targets = targets[:, None] if targets.ndim == 1 else targets
    if inputs.ndim != 2 or targets.ndim != 2 or len(targets) != len(inputs):
        raise ValueError(f"Expected x [n, d] and y [n] or [n, t] in {where}, got {inputs.shape} and {targets.shape}.")
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or (rows < 0).any() or (rows >= len(inputs)).any():
        raise ValueError(f"Expected test_{number} as rows 0 to {len(inputs) - 1} of {where}, got {rows.dtype} {rows}.")
    check_finite("inputs", inputs, where=where)
    check_finite("targets", targets, where=where)
    return inputs, targets, rows


def _standardised(
    values: Float[np.ndarray, "n d"], used: Bool[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "d"]]:
    """Values with mean 0 and variance 1 over the rows used, and the standard deviation of each column."""
    values = values.astype(np.float64)
    constant = np.ptp(values[used], axis=0) == 0
    mean = np.where(constant, values[used][0], values[used].mean(axis=0))
    scale = np.where(constant, 1.0, values[used].std(axis=0))
    return ((values - mean) / scale).astype(np.float32), scale
