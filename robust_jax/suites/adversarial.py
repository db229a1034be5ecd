"""Error under an attack, as a curve over its radius."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from robust_jax import metrics
from robust_jax.attacks import PGD, Attack, AttackResult
from robust_jax.core.checks import check_non_negative
from robust_jax.core.keys import example_keys, named_key
from robust_jax.suites.case import RowLabels, make_row, run_case, to_host
from robust_jax.suites.clean import clean_table
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.types import Batch, Evaluation, LogitsFn, PRNGKey, Row

NAME = "adversarial"


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """Error on the worst inputs that an attack finds within each of several radii.

    An adversarial image of a radius is one of every larger radius too, so an example that has been broken is not
    attacked again, and the error grows with the radius. Examples that are misclassified as they are count as broken.
    What is found of an example depends on the key, its id and the attack alone. One compiled program serves all radii.

    Raises:
        ValueError: if there is no radius, or one is negative.
    """

    attack: Attack = PGD()
    """The attack; its own radius is not used."""
    radii: tuple[float, ...] = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii, in [0, 1] units of the image and the norm of the attack."""

    def __post_init__(self):
        if not self.radii:
            raise ValueError("Expected at least one radius, got radii=().")
        for radius in self.radii:
            check_non_negative("radii", radius)

    @property
    def num_cases(self) -> int:
        return len(self.radii)

    @property
    def attack_name(self) -> str:
        """Of the cases: the attack and its norm."""
        norm = getattr(self.attack, "norm", "")
        return f"{type(self.attack).__name__} {norm if isinstance(norm, str) else type(norm).__name__}".strip()

    def rows(
        self,
        key: PRNGKey,
        predictor: LogitsFn,
        data: Evaluation,
        *,
        store: CaseStore | None = None,
        labels: RowLabels = RowLabels(),
        advance: Callable[[], None] = lambda: None,
    ) -> Iterator[Row]:
        """Yields the rows of each radius when it is done, smallest first, with 95 % intervals.

        ``error`` is that on adversarial inputs; ``success_rate`` the share broken of those that were classified
        correctly; ``zero_gradient`` the share of examples on which the attack was blind.

        Args:
            key: of the attack's random starts.
            predictor: any logits function.
            data: the examples.
            store: where finished radii are kept and looked for.
            labels: of the rows.
            advance: called after every radius.
        """
        store = store or CaseStore()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME, "case": self.attack_name}
        wrong = clean_table(predictor, data, store)["error"] > 0
        broken = wrong
        for eps in sorted(self.radii):
            table = self._case(key, predictor, data, store, eps, broken)
            advance()
            broken = broken | table["success"]
            count = len(broken)
            yield make_row(
                "error", metrics.proportion_interval(broken.sum(), count), count, **columns, severity=float(eps)
            )
            correct = int((~wrong).sum())
            if correct:
                rate = metrics.proportion_interval((broken & ~wrong).sum(), correct)
                yield make_row("success_rate", rate, correct, **columns, severity=float(eps))
            blind = metrics.proportion_interval(table["zero_gradient"].sum(), count)
            yield make_row("zero_gradient", blind, count, **columns, severity=float(eps))

    def samples(self, key: PRNGKey, predictor: LogitsFn, data: Evaluation, *, num_images: int = 6) -> Samples:
        """The first images, their perturbations at the largest radius stretched to the range, and both together."""
        batch = next(iter(data.batches()))
        adversarial = self._attack(key, predictor, batch, max(self.radii)).images
        delta = adversarial - batch.image
        largest = jnp.max(jnp.abs(delta), axis=(1, 2, 3), keepdims=True)
        stretched = 0.5 + 0.5 * delta / jnp.where(largest > 0, largest, 1)
        columns = {"clean": batch.image, "perturbation": stretched, "adversarial": adversarial}
        return predicted_samples(predictor, columns, batch.label, data.class_names, num_images=num_images)

    def _case(
        self,
        key: PRNGKey,
        predictor: LogitsFn,
        data: Evaluation,
        store: CaseStore,
        eps: float,
        broken: np.ndarray,
    ) -> Table:
        """What the attack found, of every example that was not broken before."""
        attack = dataclasses.replace(self.attack, eps=0.0)
        settings = (repr(attack), sorted(radius for radius in self.radii if radius <= eps))
        place = f"{NAME}_{digest(identity(data), jax.random.key_data(key).tolist(), *settings)}", f"eps={eps!r}"
        table = store.get(*place)
        if table is None:
            start = 0

            def program(batch: Batch) -> dict[str, jax.Array]:
                nonlocal start
                stop = start + int(np.sum(to_host(batch.mask)))
                if broken[start:stop].all():
                    found = {"success": batch.mask & False, "zero_gradient": batch.mask & False}
                else:
                    result = self._attack(key, predictor, batch, eps)
                    found = {"success": result.success, "zero_gradient": result.zero_gradient}
                start = stop
                return found

            # Within a batch the others are attacked again, which must not count.
            table = {name: values & ~broken for name, values in run_case(program, data).items()}
            store.put(*place, table)
        return table

    def _attack(self, key: PRNGKey, predictor: LogitsFn, batch: Batch, eps: float) -> AttackResult:
        keys = example_keys(named_key(key, NAME), batch.id)
        labels = batch.label if batch.label.ndim == 1 else jnp.argmax(batch.label, axis=-1)
        return self.attack.run(keys, predictor, batch.image, labels, eps=eps)
