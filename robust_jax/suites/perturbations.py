"""Stability along the perturbation sequences of ImageNet-P and CIFAR-10-P (arXiv 1903.12261)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax import metrics
from robust_jax.core.checks import check_choice
from robust_jax.core.keys import example_keys, named_key
from robust_jax.corruptions import imagenet_p
from robust_jax.corruptions.base import COMPATS, PRESETS
from robust_jax.corruptions.imagenet_p import PerturbationSequence
from robust_jax.declarations import Column
from robust_jax.metrics import flips
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, run_case
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Images, LogitsFn, PRNGKey, Row

NAME = "perturbations"
AUTO = "auto"
SETS = {
    "imagenet": imagenet_p.PERTURBATIONS,
    "cifar": imagenet_p.PERTURBATIONS_CIFAR,
    "extra": imagenet_p.PERTURBATIONS_EXTRA,
    "all": imagenet_p.PERTURBATIONS + imagenet_p.PERTURBATIONS_EXTRA,
}
"""Names that stand for several perturbations."""

# Enough to keep the devices busy: each holds a batch of images.
FRAMES_IN_FLIGHT = 4

Summary = Callable[[Float[np.ndarray, "... m"]], Float[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class Perturbations(Suite):
    """How often predictions flip along sequences of slightly different images, and how far the top five move.

    Of each perturbation: ``flip_probability`` and, with five classes or more, ``top5_distance``, see
    :mod:`robust_jax.metrics.flips`. Over the ten of the benchmark (CIFAR's for images that size, else ImageNet's; if
    not all of them are there, over all there are): ``mean_flip_probability`` and ``mean_top5_distance``. Where the
    frames are ImageNet's or these scaled, and all ten are there, also ``mFR_AlexNet``, divided by AlexNet's flip
    probabilities (on other data than ImageNet a figure of its own, not to be compared with published ones).

    Frames are made on the devices as they are needed; those of an example depend on the key, the perturbation and its
    id alone. One compiled program makes all frames of a perturbation; the network has one of its own.

    References:
        Hendrycks & Dietterich, arXiv 1903.12261.

    Raises:
        ValueError: if a name, the preset or compat is unknown (the nearest is named), or a perturbation there twice.
    """

    names: tuple[str, ...] = (AUTO,)
    """Perturbations, or sets of them: imagenet, cifar (10 each), extra (4), all (these 14); auto, the benchmark's."""
    preset: str = "auto"
    """Whose constants, see :class:`~robust_jax.corruptions.imagenet_p.PerturbationSequence`."""
    compat: str = "original"
    """``original`` or ``clean``, see there."""
    crop: int | None = None
    """Side of the middle square that the predictor sees, see there: 224 for images of 256 and the law of ImageNet-P."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        if isinstance(self.names, str):
            object.__setattr__(self, "names", (self.names,))
        for name in self.names:
            check_choice("perturbation", name, (*imagenet_p.SEQUENCES, *SETS, AUTO))
        names = self._names("imagenet")
        if not names or len(set(names)) < len(names):
            given = ", ".join(names) or "none"
            raise ValueError(f"Expected names of one or more perturbations, each once, got {given}.")
        check_choice("preset", self.preset, PRESETS)
        check_choice("compat", self.compat, COMPATS)

    @property
    def num_cases(self) -> int:
        return len(self._names("imagenet"))

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("mean flips %", "all", "mean_flip_probability", scale=100),
            Column("mFR (AlexNet) %", "all", "mFR_AlexNet", scale=100, digits=1),
        )

    def perturbation_names(self, shape: Sequence[int]) -> tuple[str, ...]:
        """Of all perturbations of images of a shape, sets written out."""
        return self._names(self._benchmark(shape))

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields each perturbation's rows when it is done, then the means; all with 95 % bootstrap intervals.

        The intervals resample examples, each with its results under all perturbations.
        """
        fields = {**context.fields(self.name), "severity": None}
        shape, count = context.data.image_shape, context.data.num_examples
        names = self.perturbation_names(shape)
        measured: dict[str, list[np.ndarray]] = {}
        for name in names:
            ranking = self._case(context, name)["ranking"]
            context.advance()
            for metric, values in self._measures(name, ranking).items():
                measured.setdefault(metric, []).append(values)
                yield make_row(metric, metrics.bootstrap_interval(values), count, **fields, case=name)
        for metric, values in measured.items():
            statistics = {
                summary: (statistic, "percentile")
                for summary, statistic in self._summaries(metric, names, shape).items()
            }
            intervals = metrics.bootstrap_intervals(np.stack(values, axis=1), statistics)
            for summary, interval in intervals.items():
                yield make_row(summary, interval, count, **fields, case="all")

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images in the last frame of every perturbation, with what is predicted for them."""
        batch, shape = next(iter(context.data.batches())), context.data.image_shape
        columns = {}
        for name in self.perturbation_names(shape):
            sequence = self._sequence(name)
            last = sequence.num_frames(shape) - 1
            images = _frame(sequence, named_key(context.key, name), jnp.int32(last), batch)
            columns[name.replace("_", " ")] = jax.device_put(images, batch.image.sharding)
        return predicted_samples(context, columns, batch.label, num_images=num_images)

    def _measures(self, name: str, ranking: Int[np.ndarray, "n frames k"]) -> dict[str, Float[np.ndarray, "n"]]:
        noise = imagenet_p.SEQUENCES[name].is_noise
        found = {"flip_probability": flips.flip_probability(ranking[..., 0], noise=noise)}
        if ranking.shape[-1] == flips.TOP:
            found["top5_distance"] = flips.top5_distance(ranking, noise=noise)
        return found

    def _summaries(self, metric: str, names: Sequence[str], shape: Sequence[int]) -> Mapping[str, Summary]:
        benchmark = SETS[self._benchmark(shape)]
        over = benchmark if set(benchmark) <= set(names) else names
        found = {f"mean_{metric}": lambda m: flips.mean_flip_probability(m, names, over)}
        imagenet = self._sequence(names[0]).table({"imagenet224": True, "cifar32": False, "tiny64": False}, shape)
        if metric == "flip_probability" and imagenet and set(imagenet_p.PERTURBATIONS) <= set(names):
            found["mFR_AlexNet"] = lambda m: flips.mean_flip_rate(m, names)
        return found

    def _case(self, context: Context, name: str) -> Table:
        """The likeliest classes ``[n, frames, 5]`` of every frame of every example, fewer where there are fewer."""
        key, data = context.key, context.data

        def compute() -> Table:
            shape = None if self.crop is None else (self.crop, self.crop, data.image_shape[2])
            program = partial(self._rank_frames, named_key(key, name), context.classifier(shape), name)
            ranking = run_case(program, data)["ranking"]
            # So small, they can be kept for all examples.
            return {"ranking": ranking.astype(np.int16 if data.num_classes < 2**15 else np.int32)}

        folder = context.folder(NAME, key, self.preset, self.compat, self.crop)
        return context.store.table(folder, name, compute)

    def _rank_frames(
        self, key: PRNGKey, predictor: LogitsFn, name: str, batch: Batch
    ) -> dict[str, Int[Array, "b frames k"]]:
        sequence = self._sequence(name)
        state, rankings = _start(sequence, key, batch), []
        for frame in range(sequence.num_frames(batch.image.shape[1:])):
            state, images = _next(sequence, state, jnp.int32(frame))
            # Laid out as the data are, the network does not compile again.
            rankings.append(_rank(predictor, jax.device_put(images, batch.image.sharding)))
            if frame >= FRAMES_IN_FLIGHT:
                jax.block_until_ready(rankings[frame - FRAMES_IN_FLIGHT])
        return {"ranking": jnp.stack(rankings, axis=1)}

    def _sequence(self, name: str) -> PerturbationSequence:
        return imagenet_p.SEQUENCES[name](preset=self.preset, compat=self.compat, crop=self.crop)

    def _benchmark(self, shape: Sequence[int]) -> str:
        sequence = imagenet_p.TranslateSequence(preset=self.preset, crop=self.crop)
        return sequence.table({"imagenet224": "imagenet", "cifar32": "cifar", "tiny64": "imagenet"}, shape)

    def _names(self, benchmark: str) -> tuple[str, ...]:
        sets = {**SETS, AUTO: SETS[benchmark]}
        return tuple(member for name in self.names for member in sets.get(name, (name,)))


@partial(jax.jit, static_argnums=0)
def _start(sequence: PerturbationSequence, key: PRNGKey, batch: Batch):
    return jax.vmap(sequence.start)(example_keys(key, batch.id), batch.image)


@partial(jax.jit, static_argnums=0)
def _next(sequence: PerturbationSequence, state, frame: Int[Array, ""]):
    """The images of a frame, and what the next is made of."""
    images = jax.vmap(sequence.show, (0, None))(state, frame)
    return jax.vmap(sequence.advance, (0, None))(state, frame + 1), images


@partial(jax.jit, static_argnums=0)
def _frame(sequence: PerturbationSequence, key: PRNGKey, frame: Int[Array, ""], batch: Batch) -> Images:
    return jax.vmap(sequence, (0, 0, None))(example_keys(key, batch.id), batch.image, frame)


@jax.jit
def _rank(predictor: LogitsFn, images: Images) -> Int[Array, "b k"]:
    logits = predictor(images)
    return jax.lax.top_k(logits, min(flips.TOP, logits.shape[-1]))[1]
