"""Robust accuracy by AutoAttack, with what each of its attacks contributes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from robust_jax import attacks, metrics
from robust_jax.attacks.autoattack import CODES, SQUARE_GAIN
from robust_jax.core.checks import check_non_negative
from robust_jax.declarations import Column, Figure, LevelTable
from robust_jax.suites.adversarial import (
    Adversarial,
    attack_name,
    attacked,
    class_rows,
    clean_examples,
    proportion_row,
)
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row
from robust_jax.suites.samples import Samples
from robust_jax.suites.store import Table
from robust_jax.types import Row

NAME = "autoattack"
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AutoAttack(Suite):
    """Robust accuracy by AutoAttack at one or several radii: overall, after each of its attacks, and of each class.

    As in :class:`Adversarial`, what has been broken at one radius is not attacked at larger ones, and finished batches
    are kept, since a whole evaluation outlives a machine that can be taken away.

    Raises:
        ValueError: if there is no radius, or one is negative.
    """

    attack: attacks.AutoAttack = attacks.AutoAttack()
    """The attack; its own radius is not used."""
    radii: tuple[float, ...] = (8 / 255,)
    """Radii, in the units of the norm, of images in [0, 1]."""
    alone: bool = False
    """Run each of its attacks on all examples, too, for what it would do alone."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        if not self.radii:
            raise ValueError("Expected at least one radius, got radii=().")
        for radius in self.radii:
            check_non_negative("radii", radius)

    @property
    def num_cases(self) -> int:
        return len(self.radii) * (1 + len(self.attack.stages) * self.alone)

    @property
    def columns(self) -> tuple[Column, ...]:
        case = attack_name(self.attack)
        return tuple(
            Column(
                f"{case} accuracy at {eps:.4g} %",
                case,
                "robust_accuracy",
                level=float(eps),
                scale=100,
                direction="higher",
            )
            for eps in sorted(self.radii)
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        after = {"clean": "clean"} | {stage: f"after {stage}" for stage in self.attack.stages}
        columns = (Column(title, case, "robust_accuracy_after", scale=100) for case, title in after.items())
        heading = f"eps {attack_name(self.attack).removeprefix('AutoAttack ')}"
        return (LevelTable("Robust accuracy by AutoAttack, %", heading, tuple(columns)),)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the rows of each radius when it is done, smallest first, with 95 % intervals.

        ``robust_accuracy`` of the case "AutoAttack" and of each class, ``error``, which is what it lacks to 1, and
        ``robust_accuracy_after`` each of the attacks in their order, the first being "clean";
        ``robust_accuracy_alone`` if asked for. ``median_norm`` is the median size of what broke examples,
        ``zero_gradient`` the share on which gradients were zero, ``square_gain`` the share that only Square broke;
        above 0.2 % it is warned of.
        """
        fields = context.fields(self.name)
        wrong, classes = clean_examples(context)
        broken = wrong
        broken_by = np.where(wrong, CODES["clean"], -1)
        for eps in sorted(self.radii):
            table = attacked(context, self.attack, eps, self.radii, broken)
            broken_by = np.where(table["success"] & ~broken, table["broken_by"], broken_by)
            broken = broken | table["success"]
            case = {**fields, "severity": float(eps)}
            yield from self._rows(table, wrong, broken, broken_by, case)
            name = attack_name(self.attack)
            yield from class_rows("robust_accuracy", ~broken, classes, context.data, **case, case=name)
            if self.alone:
                yield from self._alone(context, eps, wrong, case)

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """As :meth:`Adversarial.samples`, by the first of the attacks."""
        first = self.attack.stage(self.attack.stages[0], context.data.num_classes)
        return Adversarial(first, self.radii).samples(context, num_images=num_images)

    def _rows(
        self, table: Table, wrong: np.ndarray, broken: np.ndarray, broken_by: np.ndarray, fields: dict
    ) -> Iterator[Row]:
        name = attack_name(self.attack)
        yield proportion_row("robust_accuracy", ~broken, **fields, case=name)
        yield proportion_row("error", broken, **fields, case=name)
        robust = ~wrong
        yield proportion_row("robust_accuracy_after", robust, **fields, case="clean")
        for stage in self.attack.stages:
            robust = robust & (broken_by != CODES[stage])
            yield proportion_row("robust_accuracy_after", robust, **fields, case=stage)
        if (table["success"] & ~wrong).any():
            norms = table["norm"][table["success"] & ~wrong]
            yield make_row("median_norm", metrics.Interval(float(np.median(norms))), len(norms), **fields, case=name)
        yield proportion_row("zero_gradient", table["zero_gradient"], **fields, case=name)
        if "square" in self.attack.stages:
            gain = broken_by == CODES["square"]
            yield proportion_row("square_gain", gain, **fields, case=name)
            if gain.mean() > SQUARE_GAIN:
                logger.warning(
                    "Square broke %.1f %% of the examples that attacks with gradients did not: these may be hidden.",
                    100 * gain.mean(),
                )

    def _alone(self, context: Context, eps: float, wrong: np.ndarray, fields: dict) -> Iterator[Row]:
        for stage in self.attack.stages:
            attack = attacks.Stage(whole=self.attack, name=stage)
            table = attacked(context, attack, eps, (eps,), wrong)
            yield proportion_row("robust_accuracy_alone", ~(wrong | table["success"]), **fields, case=stage)
