"""Many attacks side by side on one model: what they break, how small the perturbations are, what they cost."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from robust_jax import metrics
from robust_jax.attacks import Attack
from robust_jax.data import Evaluation
from robust_jax.declarations import CaseTable, Column, Figure
from robust_jax.suites.adversarial import (
    Adversarial,
    attack_name,
    attacked,
    clean_examples,
    proportion_row,
)
from robust_jax.suites.base import Context, Suite, no_progress
from robust_jax.suites.case import make_row, to_host
from robust_jax.suites.samples import Samples
from robust_jax.suites.store import CaseStore, Table
from robust_jax.types import Batch, Row

NAME = "attack_survey"
COSTS = ("queries", "gradients")


@dataclasses.dataclass(frozen=True)
class AttackSurvey(Suite):
    """Every attack at its own radius, on the same examples.

    Raises:
        ValueError: if there is no attack, or two have the same name and norm.
    """

    attacks: tuple[Attack, ...]
    """The attacks. Minimum-norm ones may have an infinite radius."""

    name: ClassVar[str] = NAME

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

    @property
    def columns(self) -> tuple[Column, ...]:
        # Dozens of attacks are lines of a table of their own.
        return ()

    @property
    def figures(self) -> tuple[Figure, ...]:
        columns = (
            Column("success %", "", "success_rate", scale=100, digits=1),
            Column("median norm", "", "median_norm", format=".4g"),
            *(Column(name, "", name, format=",.0f") for name in COSTS),
            Column("ms per image", "", "seconds", scale=1000, format=".3g"),
        )
        return (CaseTable("Attacks", "attack", columns),)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the rows of each attack, of the examples that are classified correctly.

        ``success_rate`` with a 95 % interval; ``median_norm`` of what broke them, in the attack's norm; means of
        ``queries`` and ``gradients``; and ``seconds`` an example, without compiling, which depend on the machine.
        """
        fields = context.fields(self.name)
        wrong, _ = clean_examples(context)
        correct = ~wrong
        for attack in self.attacks:
            seconds, table = self._timed(context, attack, wrong)
            context.advance()
            case = {**fields, "case": attack_name(attack), "severity": _radius(attack)}
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

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """As :meth:`Adversarial.samples`, by the first attack."""
        first = self.attacks[0]
        return Adversarial(first, (first.eps,)).samples(context, num_images=num_images)

    def _timed(self, context: Context, attack: Attack, wrong: np.ndarray) -> tuple[float, Table]:
        """Seconds of an example, and what was found. A run over the first batch before compiles."""

        def run(data: Evaluation | _FirstBatch, broken: np.ndarray) -> Table:
            alone = dataclasses.replace(context, data=data, store=CaseStore(), advance=no_progress)
            return attacked(alone, attack, attack.eps, (attack.eps,), broken)

        def compute() -> Table:
            first = _FirstBatch(context.data)
            run(first, wrong[: first.num_examples])
            start = time.perf_counter()
            table = run(context.data, wrong)
            seconds = (time.perf_counter() - start) / max(int((~wrong).sum()), 1)
            return {**table, "seconds": np.full(len(wrong), seconds)}

        table = context.store.table(context.folder(NAME, context.key, attack), "found", compute)
        return float(table["seconds"][0]), table


class _FirstBatch:
    """The first batch of an evaluation set, as one."""

    def __init__(self, data: Evaluation):
        self.batch = next(iter(data.batches()))
        self.num_examples = int(np.asarray(to_host(self.batch.mask)).sum())
        self.name, self.image_shape, self.fingerprint = data.name, data.image_shape, data.fingerprint

    def batches(self) -> Iterator[Batch]:
        yield self.batch


def _radius(attack: Attack) -> float | None:
    return float(attack.eps) if math.isfinite(attack.eps) else None
