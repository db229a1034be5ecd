"""AutoAttack: the ensemble of attacks that robust accuracies are published with."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.black_box.square import NORMS, Square
from robust_jax.attacks.gradient.apgd import APGD, APGDT
from robust_jax.attacks.losses import attack_loss, margin
from robust_jax.attacks.minimum_norm.fab import FAB, FABT
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.survivors import can_select, put, rows_of, take
from robust_jax.core.checks import check_choice, check_non_negative, check_positive
from robust_jax.core.keys import named_key
from robust_jax.predictors import draw
from robust_jax.types import Images, LogitsFn

STAGES = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""Attacks of each version, in order."""
CODES = {"clean": 0, "apgd-ce": 1, "apgd-t": 2, "fab-t": 3, "square": 4, "apgd-dlr": 5, "fab": 6}
"""Of ``broken_by``."""
SQUARE_GAIN = 0.002


class AutoAttackResult(NamedTuple):
    """As an :class:`AttackResult`, with the stage that broke an example, by its number in :data:`CODES`.

    That is 0 for "clean", of examples that are wrong as they are, and -1 where no stage did. ``loss`` is the margin of
    the logits.
    """

    images: Images
    success: Bool[Array, "b"]
    norm: Float[Array, "b"]
    loss: Float[Array, "b"]
    queries: Int[Array, "b"]
    gradients: Int[Array, "b"]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]
    broken_by: Int[Array, "b"]

    def robust_after(self, *stages: str) -> Bool[Array, "b"]:
        """Examples that are classified correctly and that none of these stages broke.

        Raises:
            ValueError: if a name is unknown; the nearest is named.
        """
        robust = self.broken_by != CODES["clean"]
        for name in stages:
            check_choice("stage", name, CODES)
            robust &= self.broken_by != CODES[name]
        return robust

    def warnings(self) -> list[str]:
        """What should make one doubt the result, in words; for results on the host."""
        told = AttackResult(*self[:-1]).warnings()
        gain = float(jnp.mean(self.broken_by == CODES["square"]))
        if gain > SQUARE_GAIN:
            told.append(
                f"Square broke {gain:.1%} of the examples that attacks with gradients did not: these may be hidden. "
                "Try more queries, or an attack made for the model."
            )
        return told


@dataclasses.dataclass(frozen=True)
class AutoAttack(Attack):
    """Several attacks in turn, each from the image as it is and on the examples that are left.

    | version | attacks |
    |---|---|
    | standard | APGD on cross-entropy, APGD towards 9 targets (DLR), FAB towards 9 targets, Square of 5,000 queries |
    | plus | APGD on cross-entropy and on DLR, FAB, 5 restarts each, Square, APGD and FAB towards 9 targets |
    | rand | APGD on cross-entropy and on DLR, gradients averaged over 20 draws of a randomised model |

    For L1, APGD ascends in balls of 3 and 2 eps first, has 5 restarts on cross-entropy, and 5 targets. Examples leave
    the batch as soon as they are broken. With fewer than 10 classes there are fewer targets; with fewer than 4, whose
    targeted DLR is undefined, the difference of the logits stands in for it.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    Warns:
        UserWarning: if there are fewer classes than targets.

    References:
        Croce & Hein (arXiv 2003.01690); for L1 (arXiv 2103.01208). Here every example has a key of its own, so that
        results do not depend on how examples are batched.
    """

    norm: str = "Linf"
    """Linf, L2 or L1."""
    version: Literal["standard", "plus", "rand"] = "standard"
    """Which attacks."""
    steps: int = 100
    """Of APGD and FAB."""
    queries: int = 5000
    """Of Square."""
    num_draws: int = 20
    """Draws of a randomised model that gradients are averaged over, in version rand."""
    parity: Literal["reference", "fixed"] = "reference"
    """See :class:`APGD` and :class:`Square`."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_choice("norm", self.norm, NORMS)
        check_choice("version", self.version, STAGES)
        check_choice("parity", self.parity, ("reference", "fixed"))
        for name in ("steps", "queries", "num_draws"):
            check_positive(name, getattr(self, name))

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the attacks, in order."""
        return STAGES[self.version]

    def stage(self, name: str, num_classes: int = 1000) -> Attack:
        """One of the attacks, for a model of so many classes."""
        targets = min(5 if self.norm == "L1" else 9, num_classes - 1)
        restarts = 5 if self.version == "plus" or (self.version == "standard" and self.norm == "L1") else 1
        common = {"norm": self.norm, "eps": self.eps}
        ascent = {**common, "steps": self.steps, "parity": self.parity, "early_stop": True}
        if self.norm == "L1":
            ascent["large_radii"] = True
        if self.version == "rand":
            ascent["num_draws"] = self.num_draws
        fab = {**common, "steps": self.steps, "early_stop": True}
        targeted_loss = "targeted_dlr" if num_classes >= 4 else "difference"
        attacks = {
            "apgd-ce": lambda: APGD(**ascent, restarts=restarts),
            "apgd-dlr": lambda: APGD(**ascent, restarts=restarts, loss="dlr" if num_classes >= 3 else "margin"),
            "apgd-t": lambda: APGDT(**ascent, num_targets=targets, loss=targeted_loss),
            "fab": lambda: FAB(**fab, restarts=restarts),
            "fab-t": lambda: FABT(**fab, num_targets=min(9, num_classes - 1)),
            "square": lambda: Square(**common, queries=self.queries, parity=self.parity),
        }
        check_choice("stage", name, attacks)
        return attacks[name]()

    def solve(self, predictor: LogitsFn, problem: Problem) -> AutoAttackResult:
        if problem.targets is not None:
            raise ValueError("Expected no targets: AutoAttack chooses its own.")
        num_classes = jax.eval_shape(draw(problem.keys, predictor, 0), problem.images).shape[1]
        if num_classes < 10 and self.version != "rand":
            warnings.warn(f"AutoAttack: {num_classes} classes, so {num_classes - 1} targets and not 9.", stacklevel=4)
        whole = _clean(predictor, problem)
        together = not can_select(predictor, problem)
        for name in self.stages:
            if together:
                found = _after_stage(CODES[name], whole, Stage(whole=self, name=name).solve(predictor, problem))
                whole = where_examples(whole.success, whole, found)
                continue
            rows = rows_of(~np.asarray(whole.success))
            if rows.size == 0:
                break
            part = take(problem, rows)
            found = _after_stage(CODES[name], take(whole, rows), Stage(whole=self, name=name).solve(predictor, part))
            whole = put(whole, rows, found)
        return _with_margin(predictor, problem, whole)


@dataclasses.dataclass(frozen=True)
class Stage(Attack):
    """One of AutoAttack's attacks alone, with the keys it has there, so that it finds what it would.

    Raises:
        ValueError: if the name is unknown; the nearest is named.
    """

    whole: AutoAttack = AutoAttack()
    """Which AutoAttack; its own radius is not used."""
    name: str = "apgd-ce"
    """Which of its attacks."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        self.whole.stage(self.name)

    @property
    def norm(self) -> str:
        """That of the whole."""
        return self.whole.norm

    def solve(self, predictor: LogitsFn, problem: Problem) -> AttackResult:
        num_classes = jax.eval_shape(draw(problem.keys, predictor, 0), problem.images).shape[1]
        keys = jax.vmap(named_key, (0, None))(problem.keys, self.name)
        attack = dataclasses.replace(self.whole.stage(self.name, num_classes), eps=0.0)
        return attack.solve(predictor, problem._replace(keys=keys))


@jax.jit
def _clean(predictor: LogitsFn, problem: Problem) -> AutoAttackResult:
    """Images that are misclassified as they are."""
    logits = draw(problem.keys, predictor, 0)(problem.images)
    success = succeeded(logits, problem)
    zero = jnp.zeros(len(logits), jnp.int32)
    loss = attack_loss(margin, logits, problem)
    broken_by = jnp.where(success, CODES["clean"], -1)
    return AutoAttackResult(problem.images, success, 0.0 * loss, loss, zero + 1, zero, zero > 0, zero > 0, broken_by)


@jax.jit
def _with_margin(predictor: LogitsFn, problem: Problem, result: AutoAttackResult) -> AutoAttackResult:
    logits = draw(problem.keys, predictor, 0)(result.images)
    return result._replace(loss=attack_loss(margin, logits, problem))


@jax.jit
def _after_stage(code: int, before: AutoAttackResult, found: AttackResult) -> AutoAttackResult:
    """With what a stage found; images that it did not break stay as they were."""
    return AutoAttackResult(
        *where_examples(found.success, (found.images, found.success, found.norm, found.loss), before[:4]),
        queries=before.queries + found.queries,
        gradients=before.gradients + found.gradients,
        zero_gradient=before.zero_gradient | found.zero_gradient,
        nan_gradient=before.nan_gradient | found.nan_gradient,
        broken_by=jnp.where(found.success, code, before.broken_by),
    )
