"""What the benchmarks of named corruptions share: the loop over corruptions and severities, and means over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax import corruptions, metrics
from robust_jax.core.checks import check_choice
from robust_jax.core.keys import example_keys, named_key
from robust_jax.data import Evaluation
from robust_jax.declarations import Figure, LevelGrid, Shift
from robust_jax.metrics import Interval
from robust_jax.metrics import common_corruptions as means
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, measure_batch, metric_rows, run_case
from robust_jax.suites.clean import clean_table
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Images, PRNGKey, Row

SETS = {
    "common": corruptions.COMMON,
    "extra": corruptions.EXTRA,
    "all": corruptions.COMMON + corruptions.EXTRA,
    "bar_imagenet": corruptions.BAR_IMAGENET,
    "bar_cifar": corruptions.BAR_CIFAR,
}
"""Names that stand for several corruptions."""

Summary = Callable[[Float[np.ndarray, "..."], Float[np.ndarray, "... c s"]], Float[np.ndarray, "..."]]
"""Of the error on clean images and the matrix of errors under corruption."""


@dataclasses.dataclass(frozen=True)
class CorruptionSuite(Suite):
    """Errors under named corruptions at several severities, made on the devices as they are needed.

    The randomness of an example depends on the key, the corruption and its id alone, not on the severity: along the
    severities an image is damaged by the same draw, more and more. One compiled program corrupts at all severities;
    the network has one of its own, which all corruptions share.

    Raises:
        ValueError: if a name, the preset or compat is unknown (the nearest is named), a corruption is there twice, or
            a severity is not in (0, 5].
    """

    names: tuple[str, ...]
    """Corruptions, or sets of them: common (15), extra (4), all (these 19), bar_imagenet, bar_cifar (10 each)."""
    severities: tuple[float, ...] = corruptions.SEVERITIES
    """Severities, in (0, 5]."""
    preset: str = "auto"
    """Whose constants, see :class:`~robust_jax.corruptions.BenchmarkCorruption`."""
    compat: str = "original"
    """``original`` or ``clean``, see there."""
    textures: str | None = None
    """Folder of photographs of frost; by default frost is drawn."""

    name: ClassVar[str]

    def __post_init__(self):
        if isinstance(self.names, str):
            object.__setattr__(self, "names", (self.names,))
        for name in self.names:
            check_choice("corruption", name, (*corruptions.COMPONENTS, *SETS))
        names = self.corruption_names
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Expected names of one or more corruptions, each once, got {', '.join(names) or 'none'}.")
        check_choice("preset", self.preset, corruptions.PRESETS)
        check_choice("compat", self.compat, corruptions.COMPATS)
        if not self.severities or not all(0 < severity <= 5 for severity in self.severities):
            raise ValueError(f"Expected severities in (0, 5], got severities={self.severities!r}.")

    @property
    def corruption_names(self) -> tuple[str, ...]:
        """Of all corruptions, sets written out."""
        return tuple(member for name in self.names for member in SETS.get(name, (name,)))

    @property
    def num_cases(self) -> int:
        return len(self.corruption_names) * len(self.severities)

    @property
    def figures(self) -> tuple[Figure, ...]:
        names, variables = self.corruption_names, {}
        for variable in corruptions.VARIABLES:
            cases = tuple(c for c in corruptions.COMPONENTS if c in names and _variable(c) == variable)
            if cases:
                variables[variable] = cases
        means = [metric for case, level, metric in self.summaries() if (case, level) == ("all", None)]
        title = self.name.replace("_", " ")
        shifts = (Shift(title, "all", metric) for metric in ("mean_error_15", "mean_error") if metric in means)
        return (LevelGrid(tuple(variables.items())), *shifts)

    @property
    def benchmark(self) -> tuple[str, ...]:
        """The corruptions that means without a number are over."""
        return self.corruption_names

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields each case's rows when it is done, then the means; all with 95 % bootstrap intervals.

        A row of a case has the corruption's name and its severity. Means have the severity None, except those over
        all corruptions at one of them. Their intervals resample images, each with its results in all cases.
        """
        self._check_size(context.data)
        fields = context.fields(self.name)
        clean = clean_table(context)["error"]
        calibration = MeanCalibration()
        errors = []
        for name in self.corruption_names:
            for severity in self.severities:
                table = self._case(context, name, severity)
                context.advance()
                errors.append(table["error"])
                if name in self.benchmark:
                    calibration.add(table)
                yield from metric_rows(table, **fields, case=name, severity=severity)

        def row(metric: str, interval: Interval, case: str = "all", severity: float | None = None) -> Row:
            return make_row(metric, interval, context.data.num_examples, **fields, case=case, severity=severity)

        values = np.stack([clean, *errors], axis=1)
        for (case, severity, metric), interval in self._intervals(values).items():
            yield row(metric, interval, case, severity)
        for metric, interval in calibration.intervals().items():
            yield row(metric, interval)
        for metric, interval in self._comparisons(context, values).items():
            yield row(metric, interval)

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images under every corruption at the middle severity, with what is predicted for them."""
        batch = next(iter(context.data.batches()))
        columns = {"clean": batch.image, **self._sample_columns(context.key, batch)}
        return predicted_samples(context, columns, batch.label, num_images=num_images)

    def _sample_columns(self, key: PRNGKey, batch: Batch) -> dict[str, Images]:
        severity = sorted(self.severities)[len(self.severities) // 2]
        return {
            name.replace("_", " "): self._corrupt(key, name, severity, batch).image for name in self.corruption_names
        }

    def summaries(self) -> Mapping[tuple[str, float | None, str], Summary]:
        """The means to report, by case, severity and metric."""
        names = self.corruption_names
        over: dict[tuple[str, float | None, str], tuple[str, ...]] = {("all", None, "mean_error"): self.benchmark}
        over |= {(name, None, "mean_error"): (name,) for name in names}
        for variable in corruptions.VARIABLES:
            members = tuple(name for name in names if _variable(name) == variable)
            if members:
                over[f"variable {variable}", None, "mean_error"] = members
        found: dict[tuple[str, float | None, str], Summary] = {
            case: partial(_mean_error, names, members) for case, members in over.items()
        }
        for index, severity in enumerate(self.severities):
            found[f"severity {severity:g}", severity, "mean_error"] = partial(
                _mean_error_at, names, self.benchmark, index
            )
        found["all", None, "worst_severity_error"] = lambda _, e: means.worst_severity_error(e, names, self.benchmark)
        found["all", None, "retained_accuracy"] = lambda c, e: means.retained_accuracy(e, c, names, self.benchmark)
        return found

    def _check_size(self, data: Evaluation) -> None:
        """Before hours are spent on the corruptions that come first."""
        for name in self.corruption_names:
            least = corruptions.COMPONENTS[name].min_size
            height, width = data.image_shape[:2]
            if min(height, width) < least:
                raise ValueError(f"Expected images of at least {least}x{least} for {name}, got {height}x{width}.")

    def _intervals(self, values: Float[np.ndarray, "n m"]) -> dict[tuple[str, float | None, str], Interval]:
        shape = (len(self.corruption_names), len(self.severities))
        statistics: dict[tuple[str, float | None, str], tuple[metrics.Statistic, str]] = {
            name: (lambda m, f=f: f(m[..., 0], m[..., 1:].reshape(*m.shape[:-1], *shape)), "percentile")
            for name, f in self.summaries().items()
        }
        return metrics.bootstrap_intervals(values, statistics)

    def _comparisons(self, context: Context, values: Float[np.ndarray, "n m"]) -> dict[str, Interval]:
        """Metrics that need other suites' finished cases; none where they are not in the store."""
        del context, values
        return {}

    def _case(self, context: Context, name: str, severity: float) -> Table:
        """Measures ``[n]`` of every example under one corruption at one severity."""
        return context.store.table(
            *self._place(context, name, severity), lambda: self._computed(context, name, severity)
        )

    def _computed(self, context: Context, name: str, severity: float) -> Table:
        classifier = context.classifier()
        return run_case(
            lambda batch: measure_batch(classifier, self._corrupt(context.key, name, severity, batch)), context.data
        )

    def _place(self, context: Context, name: str, severity: float) -> tuple[str, str]:
        """Folder and name of a case in the store; suites of other corruptions share the folder."""
        folder = context.folder("corruptions", context.key, self.preset, self.compat, self._fields(name))
        return folder, f"{name} {severity:g}"

    def _corrupt(self, key: PRNGKey, name: str, severity: float, batch: Batch) -> Batch:
        settings = (name, self.preset, self.compat, self._fields(name))
        images = _corrupted(*settings, named_key(key, name), jnp.float32(severity), batch)
        # Laid out as the clean images are, the network does not compile again.
        return batch._replace(image=jax.device_put(images, batch.image.sharding))

    def _fields(self, name: str) -> tuple[tuple[str, str], ...]:
        return (("textures", self.textures),) if name == "frost" and self.textures is not None else ()


class MeanCalibration:
    """Means over cases of NLL and Brier score, or of other measures, and of the ECE; keeps little of each case."""

    def __init__(self, names: Sequence[str] = ("nll", "brier")):
        self._names = tuple(names)
        self._values: Float[np.ndarray, "n m"] = np.zeros(())
        self._eces, self._resampled, self._count = 0.0, np.zeros(()), 0

    def add(self, table: Table) -> None:
        """One case."""
        gaps = metrics.binned_gaps(table["confidence"], 1 - table["error"])
        self._eces += np.abs(gaps.mean(axis=0)).sum()
        self._resampled = self._resampled + np.abs(metrics.bootstrap_means(gaps)).sum(axis=-1)
        self._values = self._values + np.stack([table[name] for name in self._names], axis=1).astype(np.float64)
        self._count += 1

    def intervals(self) -> dict[str, Interval]:
        """Percentile intervals; of the ECE the basic one, see :func:`~robust_jax.metrics.bootstrap_interval`."""
        values = self._values / self._count
        ece, resampled = self._eces / self._count, self._resampled / self._count
        low, high = np.maximum(2 * ece - np.quantile(resampled, [0.975, 0.025]), 0)
        found = {f"mean_{name}": metrics.bootstrap_interval(values[:, i]) for i, name in enumerate(self._names)}
        return found | {"mean_ece": Interval(float(ece), float(low), float(high))}


def _variable(name: str) -> str:
    """The variable of the imaging process that a corruption intervenes on."""
    return corruptions.COMPONENTS[name].variable


def _mean_error(names: Sequence[str], over: Sequence[str], clean: np.ndarray, errors: np.ndarray) -> np.ndarray:
    return means.mean_error(errors, names, over)


def _mean_error_at(
    names: Sequence[str], over: Sequence[str], index: int, clean: np.ndarray, errors: np.ndarray
) -> np.ndarray:
    return means.mean_error(errors[..., index : index + 1], names, over)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _corrupted(
    name: str, preset: str, compat: str, fields: tuple, key: PRNGKey, severity: Float[Array, ""], batch: Batch
) -> Images:
    keys = example_keys(key, batch.id)
    return corruptions.corrupt_batch(keys, batch.image, name, severity, preset=preset, compat=compat, **dict(fields))
