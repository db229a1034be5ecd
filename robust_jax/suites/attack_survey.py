"""Many attacks side by side on one model: what they break, how small the perturbations are, what they cost."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np

from robust_jax import metrics
from robust_jax.attacks import Attack
from robust_jax.suites.adversarial import (
    Adversarial,
    attack_name,
    attacked,
    clean_examples,
    proportion_row,
)
from robust_jax.suites.case import RowLabels, make_row, to_host
from robust_jax.suites.samples import Samples
from robust_jax.suites.store import CaseStore, Table, digest, identity
from robust_jax.types import Batch, Evaluation, LogitsFn, PRNGKey, Row

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
            predictor: any callable from images to logits.
            data: the examples.
            store: where finished attacks are kept and looked for.
            labels: of the rows.
            advance: called after every attack.
        """
        store = store or CaseStore()
        columns = {**dataclasses.asdict(labels), "dataset": data.name, "suite": NAME}
        wrong, _ = clean_examples(predictor, data, store)
        correct = ~wrong
        for attack in self.attacks:
            seconds, table = self._timed(key, attack, predictor, data, store, wrong)
            advance()
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

    def _timed(
        self,
        key: PRNGKey,
        attack: Attack,
        predictor: LogitsFn,
        data: Evaluation,
        store: CaseStore,
        wrong: np.ndarray,
    ) -> tuple[float, Table]:
        """Seconds of an example, and what was found. A run over the first batch before compiles."""
        place = f"{NAME}_{digest(identity(data), jax.random.key_data(key).tolist(), repr(attack))}", "found"
        table = store.get(*place)
        if table is None:
            run = partial(attacked, key, attack, predictor, eps=attack.eps, radii=(attack.eps,), advance=_nothing)
            first = _FirstBatch(data)
            run(data=first, store=CaseStore(), broken=wrong[: first.num_examples])
            start = time.perf_counter()
            table = run(data=data, store=CaseStore(), broken=wrong)
            seconds = (time.perf_counter() - start) / max(int((~wrong).sum()), 1)
            table = {**table, "seconds": np.full(len(wrong), seconds)}
            store.put(*place, table)
        return float(table["seconds"][0]), table


class _FirstBatch:
    """The first batch of an evaluation set, as one."""

    def __init__(self, data: Evaluation):
        self.batch = next(iter(data.batches()))
        self.num_examples = int(np.asarray(to_host(self.batch.mask)).sum())
        self.name, self.image_shape = data.name, data.image_shape

    def batches(self) -> Iterator[Batch]:
        yield self.batch


def _nothing(share: float = 1.0) -> None:
    del share
