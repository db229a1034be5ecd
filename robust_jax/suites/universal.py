"""What one perturbation for all images does, beside one for each of them (arXiv 2112.15329)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from robust_jax import metrics
from robust_jax.attacks import Attack, UniversalPGD, patch_success, shift_success, success_of
from robust_jax.core.checks import check_positive
from robust_jax.core.keys import example_keys, named_key
from robust_jax.data import Evaluation
from robust_jax.declarations import Column
from robust_jax.suites.adversarial import hard_labels
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, to_host
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import Table
from robust_jax.types import Images, PRNGKey, Row

NAME = "universal"
CASE = "perturbation"


@dataclasses.dataclass(frozen=True)
class Universal(Suite):
    r"""Targeted perturbations, universal or one for each image, and how local and how free of place they are.

    A universal one is fitted to the first images, and tried on those after them; perturbations of single images are
    made for the latter. Images of the target class, or taken for it as they are, do not count. With S the share of
    images that are taken for the target,

    * success rate: S of images with their perturbation;
    * transfer rate: S of images with the perturbation of the image after them; of universal ones it is the same;
    * locality: S of images for which some square patch of their perturbation suffices, over the success rate;
    * translation invariance: S with the perturbation moved, the mean over places, over the success rate.

    The paper shows success under patches and translations in figures. The two ratios are this package's, chosen so that
    attacks of different strength compare; that of locality still grows with the radius beyond what success needs.

    Raises:
        ValueError: if a number is out of range, there is no target, or no place to move to.

    References:
        Park, Wei, Xiao, Li & Madry, "On distinctive properties of universal perturbations" (arXiv 2112.15329).
    """

    attack: UniversalPGD | Attack = UniversalPGD()
    """A universal attack, or one of single images. Of the latter perturbations are what it adds to images."""
    targets: tuple[int, ...] = (0,)
    """Target classes, one after the other; results are means over them."""
    num_fit: int = 1000
    """Images that a universal perturbation is fitted to."""
    num_test: int = 500
    """Images after those that it is tried on."""
    patch: int = 16
    """Side of patches, in pixels."""
    stride: int = 4
    """Pixels between patches."""
    offsets: tuple[int, ...] = (-4, -2, 0, 2, 4)
    """Pixels that perturbations are moved by, down and to the right, in all pairs but (0, 0)."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        for name in ("num_fit", "num_test", "patch", "stride"):
            check_positive(name, getattr(self, name))
        if not self.targets:
            raise ValueError("Expected at least one target, got targets=().")
        if not any(self.offsets):
            raise ValueError(f"Expected an offset other than 0, got offsets={self.offsets!r}.")

    @property
    def num_cases(self) -> int:
        return len(self.targets)

    @property
    def columns(self) -> tuple[Column, ...]:
        eps, metrics = float(self.attack.eps), ("success_rate", "transfer_rate", "locality", "translation_invariance")
        return tuple(Column(f"{m.replace('_', ' ')} %", CASE, m, level=eps, scale=100, digits=1) for m in metrics)

    @property
    def case(self) -> str:
        """Of the rows: universal, or per image."""
        return "universal" if isinstance(self.attack, UniversalPGD) else "per image"

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the four metrics over all targets when the last is done, with 95 % bootstrap intervals.

        Their case is "perturbation", so that universal ones and those of single images stand in one column of a table.
        Intervals resample images; the perturbation stays the same.

        Raises:
            ValueError: if there are not more examples than ``num_fit``, a target is not a class, or every image that
                is tried is one of the target, or is taken for it.
        """
        data = context.data
        if data.num_examples <= self.num_fit:
            raise ValueError(f"Expected more than num_fit={self.num_fit} examples, got {data.num_examples}.")
        if not 0 <= min(self.targets) <= max(self.targets) < data.num_classes:
            raise ValueError(f"Expected targets in [0, {data.num_classes - 1}], got targets={self.targets!r}.")
        tables = []
        for target in self.targets:
            tables.append(context.store.table(*self._place(context, target), partial(self._computed, context, target)))
            context.advance()
        table = {name: np.concatenate([part[name] for part in tables]) for name in tables[0]}
        fields = {**context.fields(self.name), "case": CASE}
        eps = float(self.attack.eps)
        if not len(table["success"]):
            raise ValueError(f"Expected images that are not taken for targets={self.targets!r} already, got none.")

        place = {name: index for index, name in enumerate(table)}

        def ratio(name: str, means: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore", invalid="ignore"):
                return means[..., place[name]] / means[..., place["success"]]

        statistics = {
            "success_rate": (lambda means: means[..., place["success"]], "percentile"),
            "transfer_rate": (lambda means: means[..., place["transfer"]], "percentile"),
            "locality": (partial(ratio, "patch"), "percentile"),
            "translation_invariance": (partial(ratio, "moved"), "percentile"),
        }
        intervals = metrics.bootstrap_intervals(np.stack(list(table.values()), axis=1), statistics)
        for metric, interval in intervals.items():
            # Of no success there is no share.
            if np.isfinite(interval.value):
                yield make_row(metric, interval, len(table["success"]), **fields, severity=eps)

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images that it is tried on, their perturbations stretched to the range, and both together."""
        classifier, data = context.classifier(), context.data
        fit, test = self._split(data)
        counts = np.flatnonzero(test["label"] != self.targets[0])[:num_images]
        test = {name: values[counts] for name, values in test.items()}
        delta = self._perturbations(context.key, classifier, fit, test, self.targets[0])
        whole = np.broadcast_to(np.asarray(delta), test["image"].shape)
        stretched = 0.5 + 0.5 * whole / max(float(np.abs(whole).max()), 1e-30)
        columns = {
            "clean": jnp.asarray(test["image"]),
            "perturbation": jnp.asarray(stretched),
            "adversarial": jnp.clip(jnp.asarray(test["image"] + whole), 0, 1),
        }
        return predicted_samples(context, columns, jnp.asarray(test["label"]), num_images=num_images)

    def _place(self, context: Context, target: int) -> tuple[str, str]:
        settings = (self.attack, self.num_fit, self.num_test, self.patch, self.stride, self.offsets)
        return context.folder(NAME, context.key, *settings), f"class {target}"

    def _computed(self, context: Context, target: int) -> Table:
        """Of every image that counts: whether it was a success whole, with another's, by a patch; the share moved."""
        classifier = context.classifier()
        fit, test = self._split(context.data)
        images = jnp.asarray(test["image"])
        classes = jnp.full(len(images), target)
        already = success_of(classifier, images, jnp.zeros(images.shape[1:]), classes, targeted=True)
        counts = ~np.asarray(already) & (test["label"] != target)
        test = {name: values[counts] for name, values in test.items()}
        if not counts.any():
            return {name: np.zeros(0) for name in ("success", "transfer", "patch", "moved")}
        images, classes = images[counts], classes[counts]
        delta = self._perturbations(context.key, classifier, fit, test, target)
        others = delta if delta.ndim == 3 else jnp.roll(delta, -1, axis=0)
        patches = patch_success(classifier, images, delta, classes, size=self.patch, stride=self.stride, targeted=True)
        offsets = tuple(dict.fromkeys((*self.offsets, 0)))
        moved = np.array(shift_success(classifier, images, delta, classes, offsets=offsets, targeted=True), float)
        middle = offsets.index(0)
        places = np.delete(moved.reshape(-1, len(images)), middle * len(offsets) + middle, axis=0)
        return {
            "success": np.asarray(success_of(classifier, images, delta, classes, targeted=True), float),
            "transfer": np.asarray(success_of(classifier, images, others, classes, targeted=True), float),
            "patch": np.asarray(patches.any(axis=(0, 1)), float),
            "moved": places.mean(axis=0),
        }

    def _perturbations(self, key: PRNGKey, predictor, fit: Table, test: Table, target: int) -> Images:
        key = jax.random.fold_in(named_key(key, NAME), target)
        if isinstance(self.attack, UniversalPGD):
            return self.attack.fit(key, predictor, jnp.asarray(fit["image"]), jnp.asarray(fit["label"]), target=target)
        images, labels = jnp.asarray(test["image"]), jnp.asarray(test["label"])
        keys = example_keys(key, jnp.asarray(test["id"]))
        return self.attack(keys, predictor, images, labels, targets=jnp.full(len(images), target)) - images

    def _split(self, data: Evaluation) -> tuple[Table, Table]:
        """Images, labels and ids on the host: those fitted to, and those tried on."""
        parts, count = [], 0
        for batch in data.batches():
            values = to_host({"image": batch.image, "label": hard_labels(batch), "id": batch.id, "mask": batch.mask})
            mask = values.pop("mask")
            parts.append({name: array[mask] for name, array in values.items()})
            count += int(mask.sum())
            if count >= self.num_fit + self.num_test:
                break
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        stop = self.num_fit + self.num_test
        return (
            {name: array[: self.num_fit] for name, array in whole.items()},
            {name: array[self.num_fit : stop] for name, array in whole.items()},
        )
