"""Other data sets of the same classes: accuracy lost to a natural shift (arXiv 2007.00644)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_jax import config, metrics
from robust_jax import data as data_room
from robust_jax.core.checks import check_choice, nearest
from robust_jax.data import Evaluation
from robust_jax.declarations import Column, Figure, Shift
from robust_jax.metrics import Interval
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, measure_batch, metric_rows, run_case, to_host
from robust_jax.suites.clean import clean_table
from robust_jax.suites.identity import digest
from robust_jax.suites.other_sets import evaluation_beside
from robust_jax.suites.relabelled import Relabelled
from robust_jax.suites.store import CaseStore, Table
from robust_jax.types import Images, LogitsFn, Row

NAME = "natural_shift"
SUBSETS = ("named", "present")
# Resampled apart from the clean examples, of which they are independent.
SHIFT_SEED = 1


@dataclasses.dataclass(frozen=True)
class NaturalShift(Suite):
    r"""Errors on other data sets, on the clean test images of the same classes, and what is lost between them.

    The predictor chooses among the classes of a set only, so that a model of ImageNet's 1,000 classes is asked about
    the 200 of ImageNet-A or -R; then it is asked the same about the clean images of these classes. Classes are mapped
    by name, see :func:`~robust_jax.data.map_classes`. With the accuracies :math:`a_1` on the clean subset and
    :math:`a_2` on the set there are rows of the accuracy drop :math:`a_1 - a_2` and of the relative drop
    :math:`(a_1 - a_2) / a_1`, for every set and as a mean over sets. Effective robustness needs several models, and is
    in the report of several runs.

    Raises:
        ValueError: if there are no sets, or ``subset`` or a name in ``class_maps`` is unknown.

    References:
        Taori et al., arXiv 2007.00644, sections 2 and 3.
    """

    sets: dict[str, Any]
    """Data sets by the name that rows give them; their test splits are used."""
    class_maps: dict[str, dict[str, str | None]] = dataclasses.field(default_factory=dict)
    """By set: the model's name for classes that the set calls otherwise; None leaves a class out, ``"*"`` is every
    class of an unknown name that is not listed."""
    subset: str = "named"
    """What is chosen among: ``named``, the classes that the set names; ``present``, those it has examples of, for
    sets that name all and hold fewer, as TFDS's imagenet_a and imagenet_r."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        if not self.sets:
            raise ValueError("Expected one data set or more in sets, got none.")
        check_choice("subset", self.subset, SUBSETS)
        for name in self.class_maps:
            if name not in self.sets:
                raise ValueError(f"Unknown set {name!r} in class_maps.{nearest(name, self.sets)}")

    def __hash__(self):
        # A dict has no hash of its own; the text is canonical.
        return hash(config.to_json(self))

    @property
    def num_cases(self) -> int:
        return 2 * len(self.sets)

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("shifted error %", "all", "mean_error", scale=100),
            Column("accuracy drop %", "all", "mean_accuracy_drop", scale=100),
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(Shift(name, name, "error", clean=(name, "clean_error"), natural=True) for name in self.sets)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields each set's rows when it is done, then the means over sets; all with 95 % bootstrap intervals.

        A set and the clean images are resampled independently of each other.

        Raises:
            ValueError: if a set's classes are not the model's (those missing are named), its images have another shape
                than the clean ones, or no clean example is of its classes.
        """
        fields = {**context.fields(self.name), "severity": None}
        # Before hours are spent on the sets that come first.
        shifted = {name: self._prepare(name, context.data) for name in self.sets}
        drops, count = [], 0
        for name, (evaluation, classes) in shifted.items():
            table, subset, chosen = self._tables(context, name, evaluation, classes)
            yield from metric_rows(table, **fields, case=name)
            error = metrics.bootstrap_interval(subset["error"])
            yield make_row("clean_error", error, len(subset["error"]), **fields, case=name)
            yield make_row("num_classes", Interval(float(chosen)), len(table["error"]), **fields, case=name)
            count += len(table["error"])
            drops.append(_Drop.of(subset["error"], table["error"]))
            for metric, interval in drops[-1].intervals().items():
                yield make_row(metric, interval, len(table["error"]), **fields, case=name)
        for metric, interval in _mean_intervals(drops).items():
            yield make_row(metric, interval, count, **fields, case="all")

    def _prepare(self, name: str, data: Evaluation) -> tuple[Evaluation, Int[np.ndarray, "m"]]:
        """The set, and the model's class for each of its own."""
        source = self.sets[name].load("test")
        renamed = self.class_maps.get(name, {})
        classes = data_room.map_classes(source.class_names, data.class_names, renamed=renamed, where=name)
        return evaluation_beside(data, source, name), classes

    def _tables(
        self, context: Context, name: str, evaluation: Evaluation, classes: Int[np.ndarray, "m"]
    ) -> tuple[Table, Table, int]:
        """Measures of the set and of the clean examples of its classes, and the number of classes chosen among."""
        data, store = context.data, context.store
        folder = f"{NAME}_{digest(evaluation.fingerprint, classes)}"
        known = self._known(data, evaluation, classes, store, folder)
        chosen = digest(data.class_names, known)

        def measured(examples: Evaluation, mapping: np.ndarray, folder: str, case: str) -> Table:
            def compute() -> Table:
                restricted = jax.tree_util.Partial(_restrict, context.classifier(), jnp.asarray(known))
                return run_case(partial(measure_batch, restricted), Relabelled(examples, mapping))

            table = store.table(folder, case, compute)
            if len(table["error"]) == 0:
                raise ValueError(f"No example of {examples.name} is of the classes of {name}.")
            context.advance()
            return table

        shifted = measured(evaluation, classes, folder, f"among {chosen}")
        if known.all():
            clean = clean_table(context)
            context.advance()
        else:
            # Sets of the same classes share it.
            mapping = np.where(known, np.arange(data.num_classes), -1)
            clean = measured(data, mapping, context.folder(f"{NAME}_clean"), f"among {chosen}")
        return shifted, clean, int(known.sum())

    def _known(
        self, data: Evaluation, evaluation: Evaluation, classes: Int[np.ndarray, "m"], store: CaseStore, folder: str
    ) -> Bool[np.ndarray, "k"]:
        """Which of the model's classes are chosen among."""
        if self.subset == "named":
            return np.isin(np.arange(data.num_classes), classes)
        present = lambda: {"present": _present(evaluation, classes, data.num_classes)}  # noqa: E731
        return store.table(folder, "present", present)["present"]


@dataclasses.dataclass(frozen=True, eq=False)
class _Drop:
    """Accuracies on the clean subset and under shift, and resampled ones."""

    clean: float
    shifted: float
    resampled_clean: Float[np.ndarray, "resamples"]
    resampled_shifted: Float[np.ndarray, "resamples"]

    @classmethod
    def of(cls, clean_errors: Float[np.ndarray, "n"], shifted_errors: Float[np.ndarray, "m"]) -> _Drop:
        clean, shifted = (1 - np.asarray(errors, np.float64) for errors in (clean_errors, shifted_errors))
        return cls(
            float(clean.mean()),
            float(shifted.mean()),
            metrics.bootstrap_means(clean[:, None])[:, 0],
            metrics.bootstrap_means(shifted[:, None], seed=SHIFT_SEED)[:, 0],
        )

    def values(self) -> Mapping[str, tuple[float, Float[np.ndarray, "resamples"]]]:
        """Value and resampled values of each metric."""
        drop, resampled = self.clean - self.shifted, self.resampled_clean - self.resampled_shifted
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = float(np.divide(drop, self.clean)), np.divide(resampled, self.resampled_clean)
        return {"accuracy_drop": (drop, resampled), "relative_accuracy_drop": relative}

    def intervals(self) -> dict[str, Interval]:
        """With percentile intervals."""
        return {metric: metrics.percentile_interval(*pair) for metric, pair in self.values().items()}


def _mean_intervals(drops: list[_Drop]) -> dict[str, Interval]:
    """Means over sets. The clean subsets share their examples; each set's intervals are resampled on their own."""
    errors = (1 - float(np.mean([d.shifted for d in drops])), 1 - np.mean([d.resampled_shifted for d in drops], axis=0))
    found = {"mean_error": metrics.percentile_interval(*errors)}
    for metric in drops[0].values():
        values, resampled = zip(*(drop.values()[metric] for drop in drops), strict=True)
        found[f"mean_{metric}"] = metrics.percentile_interval(float(np.mean(values)), np.mean(resampled, axis=0))
    return found


def _restrict(predictor: LogitsFn, known: Bool[Array, "k"], images: Images) -> Float[Array, "b k"]:
    """Logits, those of other classes -inf: an argument that passes through jit, so that sets share one program."""
    return jnp.where(known[None, :], predictor(images), -jnp.inf)


def _present(evaluation: Evaluation, classes: Int[np.ndarray, "m"], num_classes: int) -> Bool[np.ndarray, "k"]:
    """Which of the model's classes the set has examples of."""
    found = np.zeros(num_classes, bool)
    for batch in Relabelled(evaluation, classes).batches():
        labels, mask = to_host((batch.label, batch.mask))
        found[labels[mask]] = True
    return found
