"""Error under attacks, as curves over their radii."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from robust_jax import metrics
from robust_jax.attacks import PGD, Attack, AttackResult
from robust_jax.attacks.survivors import can_select, rows_of, take
from robust_jax.core.checks import check_non_negative
from robust_jax.core.keys import example_keys, named_key
from robust_jax.data import Evaluation
from robust_jax.declarations import Column, Curves, Figure, Panel
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, to_host
from robust_jax.suites.clean import clean_table
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import Table
from robust_jax.types import Batch, LogitsFn, PRNGKey, Row

NAME = "adversarial"
WORST = "worst"
CURVES_CAPTION = "Error on the worst inputs found within each radius; dotted lines are the clean error."
KEPT = ("success", "norm", "queries", "gradients", "zero_gradient", "broken_by")
"""Of a result, what is kept of every example; ``broken_by`` is 0 for attacks without stages."""


@dataclasses.dataclass(frozen=True)
class Adversarial(Suite):
    """Error on the worst inputs that attacks find within each of several radii.

    An adversarial image of a radius is one of every larger radius too, so an example that has been broken is not
    attacked again, and the error grows with the radius. Examples that are misclassified as they are count as broken.
    What is found of an example depends on the key, its id and the attack alone. One compiled program serves all radii.

    What is found in a batch is kept as soon as it is, so that an interrupted evaluation goes on from there.

    Raises:
        ValueError: if there is no radius or no attack, or a radius is negative.
    """

    attack: Attack | tuple[Attack, ...] = PGD()
    """The attack, or several, each from the images as they are; their own radii are not used."""
    radii: tuple[float, ...] = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii, in the units of the attack's norm, of images in [0, 1]."""
    by_class: bool = False
    """Rows of the error of each class, too."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        if not self.radii:
            raise ValueError("Expected at least one radius, got radii=().")
        if not self.attacks:
            raise ValueError("Expected at least one attack, got attack=().")
        for radius in self.radii:
            check_non_negative("radii", radius)

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """All of them."""
        return self.attack if isinstance(self.attack, tuple) else (self.attack,)

    @property
    def num_cases(self) -> int:
        return len(self.radii) * len(self.attacks)

    @property
    def columns(self) -> tuple[Column, ...]:
        cases = [attack_name(attack) for attack in self.attacks]
        return tuple(
            Column(f"{case} error at {eps:.4g} %", case, "error", level=float(eps), scale=100)
            for case in (*cases, *self._worst)
            for eps in sorted(self.radii)
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        names = [attack_name(attack) for attack in self.attacks]
        panels = (Panel(name, (name,), "error", "eps", "error %") for name in (*names, *self._worst))
        return (Curves("Error under attack", CURVES_CAPTION, tuple(panels), baseline=True),)

    @property
    def _worst(self) -> tuple[str, ...]:
        """Case of what any attack breaks, if there are several."""
        return (WORST,) if len(self.attacks) > 1 else ()

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the rows of each attack and radius when it is done, smallest first, with 95 % intervals.

        ``error`` is that on adversarial inputs; ``success_rate`` the share broken of those that were classified
        correctly; ``median_norm`` the median size of what broke those; ``zero_gradient`` the share of examples on
        which the attack was blind. With several attacks, the case "worst" counts what any of them broke.
        """
        fields = context.fields(self.name)
        wrong, classes = clean_examples(context)
        worst = dict.fromkeys(sorted(self.radii), wrong)
        for attack in self.attacks:
            broken = wrong
            for eps in sorted(self.radii):
                table = attacked(context, attack, eps, self.radii, broken)
                broken = broken | table["success"]
                worst[eps] = worst[eps] | broken
                case = {**fields, "case": attack_name(attack), "severity": float(eps)}
                yield from self._rows(table, wrong, broken, classes, context.data, case)
        if self._worst:
            for eps, broken in worst.items():
                yield proportion_row("error", broken, **fields, case=WORST, severity=float(eps))

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images, their perturbations at the largest radius stretched to the range, and both together."""
        batch = next(iter(context.data.batches()))
        adversarial = attack_batch(context.key, self.attacks[0], context.predictor, batch, max(self.radii)).images
        delta = adversarial - batch.image
        largest = jnp.max(jnp.abs(delta), axis=(1, 2, 3), keepdims=True)
        stretched = 0.5 + 0.5 * delta / jnp.where(largest > 0, largest, 1)
        columns = {"clean": batch.image, "perturbation": stretched, "adversarial": adversarial}
        return predicted_samples(context, columns, batch.label, num_images=num_images)

    def _rows(
        self, table: Table, wrong: np.ndarray, broken: np.ndarray, classes: np.ndarray, data: Evaluation, case: dict
    ) -> Iterator[Row]:
        yield proportion_row("error", broken, **case)
        if not wrong.all():
            yield proportion_row("success_rate", broken[~wrong], **case)
        if (broken & ~wrong).any():
            norms = table["norm"][broken & ~wrong]
            yield make_row("median_norm", metrics.Interval(float(np.median(norms))), len(norms), **case)
        yield proportion_row("zero_gradient", table["zero_gradient"], **case)
        if self.by_class:
            yield from class_rows("error", broken, classes, data, **case)


def attack_name(attack: Attack) -> str:
    """Of the cases: the attack and its norm."""
    norm = getattr(attack, "norm", "")
    return f"{type(attack).__name__} {norm if isinstance(norm, str) else type(norm).__name__}".strip()


def clean_examples(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Which examples are misclassified as they are, and the classes of all."""
    wrong = clean_table(context)["error"] > 0
    parts = [to_host((hard_labels(batch), batch.mask)) for batch in context.data.batches()]
    return wrong, np.concatenate([classes[mask] for classes, mask in parts])


def hard_labels(batch: Batch) -> jax.Array:
    """Classes; of soft labels the most likely."""
    return batch.label if batch.label.ndim == 1 else jnp.argmax(batch.label, axis=-1)


def attack_batch(key: PRNGKey, attack: Attack, predictor: LogitsFn, batch: Batch, eps: float) -> AttackResult:
    """The attack on a batch, by keys of the examples' ids."""
    keys = example_keys(named_key(key, NAME), batch.id)
    return attack.run(keys, predictor, batch.image, hard_labels(batch), eps=eps)


def attacked(context: Context, attack: Attack, eps: float, radii: tuple[float, ...], broken: np.ndarray) -> Table:
    """What the attack found, of every example that was not broken before; its arrays are kept batch by batch."""
    key, predictor, store = context.key, context.predictor, context.store
    settings = (dataclasses.replace(attack, eps=0.0), sorted(radius for radius in radii if radius <= eps))
    suite = context.folder(NAME, key, *settings)
    parts, start = [], 0
    for number, batch in enumerate(context.data.batches()):
        size = len(batch.image)
        mask = np.asarray(to_host(batch.mask))
        stop = start + int(mask.sum())
        case = f"eps={eps!r}_batch={number}_of={size}"
        table = store.get(suite, case)
        if table is None:
            left = np.zeros(size, bool)
            left[mask] = ~broken[start:stop]
            table = {
                name: values[mask] for name, values in _attack_those(key, attack, predictor, batch, eps, left).items()
            }
            store.put(suite, case, table)
        parts.append(table)
        start = stop
        context.advance(int(mask.sum()) / context.data.num_examples)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def proportion_row(metric: str, holds: np.ndarray, **fields) -> Row:
    """A row of the share of examples of which something holds, with Wilson's interval."""
    return make_row(metric, metrics.proportion_interval(holds.sum(), len(holds)), len(holds), **fields)


def class_rows(metric: str, holds: np.ndarray, classes: np.ndarray, data: Evaluation, **fields) -> Iterator[Row]:
    """Rows as of :func:`proportion_row` for each class; their case is that of the fields and the class."""
    for number, name in enumerate(data.class_names):
        if (classes == number).any():
            case = f"{fields['case']}: {name}"
            yield proportion_row(metric, holds[classes == number], **{**fields, "case": case})


def _attack_those(
    key: PRNGKey, attack: Attack, predictor: LogitsFn, batch: Batch, eps: float, left: np.ndarray
) -> Table:
    """Arrays of the batch's size, zero of examples that are not ``left``."""
    whole = {name: np.zeros(len(left), np.int32) for name in KEPT}
    whole |= {"success": left & False, "zero_gradient": left & False, "norm": np.zeros(len(left), np.float32)}
    if not left.any():
        return whole
    rows = rows_of(left) if can_select(batch) else np.arange(len(left))
    result = attack_batch(key, attack, predictor, take(batch, rows), eps)._asdict()
    for name, values in to_host({name: result[name] for name in KEPT if name in result}).items():
        whole[name][rows] = values
        whole[name][~left] = 0
    return whole
