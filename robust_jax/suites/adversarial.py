"""Error under attacks, as curves over their radii."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from robust_jax import metrics
from robust_jax.attacks import PGD, Attack, AttackResult
from robust_jax.attacks.survivors import can_select, rows_of, take
from robust_jax.core.checks import check_non_negative
from robust_jax.core.keys import example_keys, named_key
from robust_jax.suites.case import RowLabels, make_row, to_host
from robust_jax.suites.clean import clean_table
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.types import Batch, Evaluation, LogitsFn, PRNGKey, Row

NAME = "adversarial"
KEPT = ("success", "norm", "queries", "gradients", "zero_gradient", "broken_by")
"""Of a result, what is kept of every example; ``broken_by`` is 0 for attacks without stages."""


@dataclasses.dataclass(frozen=True)
class Adversarial:
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

    def rows(
        self,
        key: PRNGKey,
        predictor: LogitsFn,
        data: Evaluation,
        *,
        store: CaseStore | None = None,
        labels: RowLabels = RowLabels(),
        advance: Callable[..., None] = lambda share=1.0: None,
    ) -> Iterator[Row]:
        """Yields the rows of each attack and radius when it is done, smallest first, with 95 % intervals.

        ``error`` is that on adversarial inputs; ``success_rate`` the share broken of those that were classified
        correctly; ``median_norm`` the median size of what broke those; ``zero_gradient`` the share of examples on
        which the attack was blind. With several attacks, the case "worst" counts what any of them broke.

        Args:
            key: of the attacks' random choices.
            predictor: any callable from images to logits.
            data: the examples.
            store: where finished batches are kept and looked for.
            labels: of the rows.
            advance: called with the share of a radius that has been done.
        """
        store = store or CaseStore()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME}
        wrong, classes = clean_examples(predictor, data, store)
        worst = dict.fromkeys(sorted(self.radii), wrong)
        for attack in self.attacks:
            broken = wrong
            for eps in sorted(self.radii):
                table = attacked(key, attack, predictor, data, store, eps, self.radii, broken, advance)
                broken = broken | table["success"]
                worst[eps] = worst[eps] | broken
                case = {**columns, "case": attack_name(attack), "severity": float(eps)}
                yield from self._rows(table, wrong, broken, classes, data, case)
        if len(self.attacks) > 1:
            for eps, broken in worst.items():
                yield proportion_row("error", broken, **columns, case="worst", severity=float(eps))

    def samples(self, key: PRNGKey, predictor: LogitsFn, data: Evaluation, *, num_images: int = 6) -> Samples:
        """The first images, their perturbations at the largest radius stretched to the range, and both together."""
        batch = next(iter(data.batches()))
        adversarial = attack_batch(key, self.attacks[0], predictor, batch, max(self.radii)).images
        delta = adversarial - batch.image
        largest = jnp.max(jnp.abs(delta), axis=(1, 2, 3), keepdims=True)
        stretched = 0.5 + 0.5 * delta / jnp.where(largest > 0, largest, 1)
        columns = {"clean": batch.image, "perturbation": stretched, "adversarial": adversarial}
        return predicted_samples(predictor, columns, batch.label, data.class_names, num_images=num_images)

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


def clean_examples(predictor: LogitsFn, data: Evaluation, store: CaseStore) -> tuple[np.ndarray, np.ndarray]:
    """Which examples are misclassified as they are, and the classes of all."""
    wrong = clean_table(predictor, data, store)["error"] > 0
    parts = [to_host((hard_labels(batch), batch.mask)) for batch in data.batches()]
    return wrong, np.concatenate([classes[mask] for classes, mask in parts])


def hard_labels(batch: Batch) -> jax.Array:
    """Classes; of soft labels the most likely."""
    return batch.label if batch.label.ndim == 1 else jnp.argmax(batch.label, axis=-1)


def attack_batch(key: PRNGKey, attack: Attack, predictor: LogitsFn, batch: Batch, eps: float) -> AttackResult:
    """The attack on a batch, by keys of the examples' ids."""
    keys = example_keys(named_key(key, NAME), batch.id)
    return attack.run(keys, predictor, batch.image, hard_labels(batch), eps=eps)


def attacked(
    key: PRNGKey,
    attack: Attack,
    predictor: LogitsFn,
    data: Evaluation,
    store: CaseStore,
    eps: float,
    radii: tuple[float, ...],
    broken: np.ndarray,
    advance: Callable[..., None],
) -> Table:
    """What the attack found, of every example that was not broken before; its arrays are kept batch by batch."""
    settings = (repr(dataclasses.replace(attack, eps=0.0)), sorted(radius for radius in radii if radius <= eps))
    suite = f"{NAME}_{digest(identity(data), jax.random.key_data(key).tolist(), *settings)}"
    parts, start = [], 0
    for number, batch in enumerate(data.batches()):
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
        advance(int(mask.sum()) / data.num_examples)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def proportion_row(metric: str, holds: np.ndarray, **columns) -> Row:
    """A row of the share of examples of which something holds, with Wilson's interval."""
    return make_row(metric, metrics.proportion_interval(holds.sum(), len(holds)), len(holds), **columns)


def class_rows(metric: str, holds: np.ndarray, classes: np.ndarray, data: Evaluation, **columns) -> Iterator[Row]:
    """Rows as of :func:`proportion_row` for each class; their case is that of the columns and the class."""
    for number, name in enumerate(data.class_names):
        if (classes == number).any():
            case = f"{columns['case']}: {name}"
            yield proportion_row(metric, holds[classes == number], **{**columns, "case": case})


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
