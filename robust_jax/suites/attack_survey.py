"""Many attacks side by side on one model: what they break, how small the perturbations are, what they cost."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from robust_jax import metrics
from robust_jax.attacks import Attack
from robust_jax.suites.adversarial import (
    Adversarial,
    attack_batch,
    attack_name,
    attacked,
    clean_examples,
    proportion_row,
)
from robust_jax.suites.case import RowLabels, make_row, to_host
from robust_jax.suites.samples import Samples
from robust_jax.suites.store import CaseStore, digest, identity
from robust_jax.types import Evaluation, LogitsFn, PRNGKey, Row

NAME = "attack_survey"
COSTS = ("queries", "gradients")


@dataclasses.dataclass(frozen=True)
class AttackSurvey:
    """Every attack at its own radius, on the same examples.

    Raises:
        ValueError: if there is no attack, or two have the same name and norm.
    """

    attacks: tuple[Attack, ...]
    """The attacks. Minimum-norm ones may have an infinite radius."""

    def __post_init__(self):
        names = [attack_name(attack) for attack in self.attacks]
        if not names:
            raise ValueError("Expected at least one attack, got attacks=().")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"Expected attacks of different names and norms, got {name!r} twice.")

    @property
    def num_cases(self) -> int:
        return len(self.attacks)

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
        """Yields the rows of each attack, of the examples that are classified correctly.

        ``success_rate`` with a 95 % interval; ``median_norm`` of what broke them, in the attack's norm; means of
        ``queries`` and ``gradients``; and ``seconds`` an example, without compiling, which depend on the machine.

        Args:
            key: of the attacks' random choices.
            predictor: any logits function.
            data: the examples.
            store: where finished batches are kept and looked for.
            labels: of the rows.
            advance: called with the share of an attack that has been done.
        """
        store = store or CaseStore()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME}
        wrong, _ = clean_examples(predictor, data, store)
        correct = ~wrong
        for attack in self.attacks:
            seconds = self._seconds(key, attack, predictor, data, store)
            table = attacked(key, attack, predictor, data, store, attack.eps, (attack.eps,), wrong, advance)
            radius = float(attack.eps) if math.isfinite(attack.eps) else None
            case = {**columns, "case": attack_name(attack), "severity": radius}
            count = int(correct.sum())
            if count == 0:
                continue
            success = table["success"] & correct
            yield proportion_row("success_rate", success[correct], **case)
            if success.any():
                norm = metrics.Interval(float(np.median(table["norm"][success])))
                yield make_row("median_norm", norm, int(success.sum()), **case)
            for name in COSTS:
                yield make_row(name, metrics.Interval(float(table[name][correct].mean())), count, **case)
            yield make_row("seconds", metrics.Interval(seconds), count, **case)

    def samples(self, key: PRNGKey, predictor: LogitsFn, data: Evaluation, *, num_images: int = 6) -> Samples:
        """As :meth:`Adversarial.samples`, by the first attack."""
        first = self.attacks[0]
        return Adversarial(first, (first.eps,)).samples(key, predictor, data, num_images=num_images)

    def _seconds(self, key: PRNGKey, attack: Attack, predictor: LogitsFn, data: Evaluation, store: CaseStore) -> float:
        """Of an example in the first batch, in the second of two runs: the first compiles."""
        place = f"{NAME}_{digest(identity(data), repr(attack))}", "seconds"
        table = store.get(*place)
        if table is None:
            batch = next(iter(data.batches()))
            to_host(attack_batch(key, attack, predictor, batch, attack.eps))
            start = time.perf_counter()
            to_host(attack_batch(key, attack, predictor, batch, attack.eps))
            seconds = (time.perf_counter() - start) / int(np.asarray(to_host(batch.mask)).sum())
            table = {"seconds": np.asarray(seconds)}
            store.put(*place, table)
        return float(table["seconds"])
