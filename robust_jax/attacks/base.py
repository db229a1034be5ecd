"""What all attacks share: how they are called and run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from robust_jax.attacks.inputs import check_logits, in_float32, make_problem
from robust_jax.attacks.problem import AttackResult, Problem
from robust_jax.attacks.survivors import can_select, parts_of, put, rows_of, take
from robust_jax.core.loops import iterate
from robust_jax.core.mesh import replicate_beside, split_beside
from robust_jax.predictors import as_predictor, draw
from robust_jax.types import Images, Labels, LogitsFn, PRNGKeys


@dataclasses.dataclass(frozen=True)
class Attack:
    """Worst-case inputs for any predictor.

    An attack is its settings. ``attack(keys, predictor, images, labels)`` gives the adversarial images,
    :meth:`run` the whole :class:`AttackResult`. Both work under ``jit`` and ``vmap``. The result of an example depends
    on its key, image and label alone, not on the batch, but for rounding. The radius is traced: one compiled program
    serves all.

    An attack of its own kind overrides ``num_steps``, :meth:`init`, :meth:`step` and :meth:`result`, all pure, and
    :meth:`finished` if it leaves examples alone from some step on. Arrays of its state have one row per example.
    """

    soft_labels: ClassVar[bool] = False
    """Whether labels may be probabilities."""

    eps: float = 8 / 255
    """Radius of the threat, in [0, 1] units of the image."""

    def __call__(
        self,
        keys: PRNGKeys,
        predictor: LogitsFn,
        images: Images,
        labels: Labels,
        *,
        eps: float | Float[Array, ""] | Float[Array, "b"] | None = None,
        targets: Int[Array, "b"] | None = None,
    ) -> Images:
        """The adversarial images; arguments as of :meth:`run`."""
        return self.run(keys, predictor, images, labels, eps=eps, targets=targets).images

    def run(
        self,
        keys: PRNGKeys,
        predictor: LogitsFn,
        images: Images,
        labels: Labels,
        *,
        eps: float | Float[Array, ""] | Float[Array, "b"] | None = None,
        targets: Int[Array, "b"] | None = None,
    ) -> AttackResult:
        """Attacks a batch.

        Args:
            keys: one for each example, such as ``jax.random.split(key, len(images))``.
            predictor: images in [0, 1] to logits ``[b, k]``; one of :mod:`robust_jax.predictors` or another pytree
                compiles once for all weights.
            images: in [0, 1].
            labels: classes, or in attacks with ``soft_labels`` probabilities ``[b, k]``, whose cross-entropy is then
                increased; success is that another class than the most probable is predicted.
            eps: in place of the attack's radius; one number, or one for each example.
            targets: classes to be reached. Without them any class but the label will do.

        Raises:
            ValueError: if shapes disagree, images leave [0, 1], eps is negative or NaN, a label or target is not a
                class, soft labels are negative, do not sum to 1 or are not supported, a target is the label, or logits
                are not ``[b, k]`` or not finite. Values are checked where they are known, which within ``jit`` they
                are not.

        Warns:
            UserWarning: if the function seems to return probabilities, or looks at other images of the batch.
        """
        eps = self.eps if eps is None else eps
        predictor, problem = self._prepare(keys, predictor, images, labels, eps, targets)
        # The radius is an operand; without it, attacks of all radii are one program.
        return dataclasses.replace(self, eps=0.0).solve(predictor, problem)

    def sweep(
        self,
        keys: PRNGKeys,
        predictor: LogitsFn,
        images: Images,
        labels: Labels,
        radii: Sequence[float],
        *,
        targets: Int[Array, "b"] | None = None,
    ) -> AttackResult:
        """Attacks a batch at several radii, from the smallest to the largest; results have an axis of radii first.

        What breaks an example at one radius does at every larger one, so there it is not attacked again, and its
        result is the same. Examples that are broken leave the batch, outside ``jit``.

        Args:
            keys: as of :meth:`run`, and so are the others.
            predictor: the classifier.
            images: in [0, 1].
            labels: classes.
            radii: in any order, which the results have.
            targets: classes to be reached.

        Raises:
            ValueError: as :meth:`run`, or if there is no radius.
        """
        if not len(radii):
            raise ValueError("Expected at least one radius, got none.")
        predictor, problem = self._prepare(keys, predictor, images, labels, min(radii), targets)
        attack = dataclasses.replace(self, eps=0.0)
        together = not can_select(predictor, problem)
        order = np.argsort(radii)
        results, last = [], None
        for eps in np.asarray(radii, np.float32)[order]:
            at_eps = problem._replace(eps=jnp.full(len(problem.images), eps))
            if last is None:
                last = attack.solve(predictor, at_eps)
            elif together:
                last = where_examples(last.success, last, attack.solve(predictor, at_eps))
            elif (rows := rows_of(~np.asarray(last.success))).size:
                last = put(last, rows, attack.solve(predictor, take(at_eps, rows)))
            results.append(last)
        back = np.argsort(order)
        return jax.tree.map(lambda *leaves: jnp.stack([leaves[place] for place in back]), *results)

    def solve(self, predictor: LogitsFn, problem: Problem) -> AttackResult:
        """The same of inputs that have been checked."""
        state = _init(self, predictor, problem)
        carry = split_beside((state, jnp.zeros(len(problem.images), jnp.int32)), problem.images)
        if self.finished(problem, state) is None or not can_select(predictor, problem):
            carry = self._advance(range(self.num_steps), predictor, problem, carry)
        else:
            carry = self._solve_survivors(predictor, problem, carry)
        return _result(self, predictor, problem, *carry)

    def _prepare(self, keys, predictor, images, labels, eps, targets) -> tuple[LogitsFn, Problem]:
        predictor = in_float32(as_predictor(predictor))
        problem = make_problem(keys, images, labels, eps, targets, soft=self.soft_labels)
        predictor, problem = replicate_beside(predictor, problem.images), split_beside(problem, problem.images)
        check_logits(draw(problem.keys, predictor, 0), problem)
        return predictor, problem

    def _solve_survivors(self, predictor: LogitsFn, problem: Problem, carry: PyTree) -> PyTree:
        """All steps, of fewer and fewer examples: those that are finished are taken out now and then."""
        whole, rows, part = carry, np.arange(len(problem.images)), problem
        for start in range(0, self.num_steps, self.check_every):
            left = rows_of(~np.asarray(_finished(self, part, carry[0])))
            if left.size == 0:
                break
            if left.size < rows.size:
                whole = put(whole, rows, carry)
                carry, part, rows = take(carry, left), take(part, left), rows[left]
            steps = range(start, min(start + self.check_every, self.num_steps))
            carry = self._advance(steps, predictor, part, carry)
        return put(whole, rows, carry)

    def _advance(self, steps: range, predictor: LogitsFn, problem: Problem, carry: PyTree) -> PyTree:
        """These steps, of as many examples at once as the backend is fastest with."""
        parts = parts_of(predictor, problem, carry)
        if len(parts) == 1:
            return iterate(_step, self, steps, carry, predictor, problem)
        after = carry
        for rows in parts:
            part = iterate(_step, self, steps, take(carry, rows), predictor, take(problem, rows))
            after = put(after, rows, part)
        return after

    @property
    def num_steps(self) -> int:
        """How often :meth:`step` is called."""
        raise NotImplementedError

    def init(self, predictor: LogitsFn, problem: Problem) -> PyTree:
        """The state before the first step."""
        raise NotImplementedError

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: PyTree) -> PyTree:
        """The state after step i."""
        raise NotImplementedError

    def result(self, predictor: LogitsFn, problem: Problem, state: PyTree, steps: Int[Array, "b"]) -> AttackResult:
        """What was found, and in how many steps."""
        raise NotImplementedError

    @property
    def check_every(self) -> int:
        """Steps after which, outside ``jit``, examples that are finished are taken out of the batch."""
        return 10

    def finished(self, problem: Problem, state: PyTree) -> Bool[Array, "b"] | None:
        """Examples that no step changes any more; None where all steps are for all."""
        return None


def where_examples(condition: Bool[Array, "b"], chosen: PyTree, other: PyTree) -> PyTree:
    """Per example, arrays of the one tree or of the other."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, chosen, other)


@partial(jax.jit, static_argnums=0)
def _init(attack: Attack, predictor: LogitsFn, problem: Problem) -> PyTree:
    return attack.init(draw(problem.keys, predictor, 0), problem)


def _step(attack: Attack, i: Int[Array, ""], carry: PyTree, predictor: LogitsFn, problem: Problem) -> PyTree:
    state, steps = carry
    after = attack.step(i, draw(problem.keys, predictor, i + 1), problem, state), steps + 1
    finished = attack.finished(problem, state)
    return after if finished is None else where_examples(finished, carry, after)


@partial(jax.jit, static_argnums=0)
def _finished(attack: Attack, problem: Problem, state: PyTree) -> Bool[Array, "b"] | None:
    return attack.finished(problem, state)


@partial(jax.jit, static_argnums=0)
def _result(
    attack: Attack, predictor: LogitsFn, problem: Problem, state: PyTree, steps: Int[Array, "b"]
) -> AttackResult:
    last = draw(problem.keys, predictor, attack.num_steps + 1)
    return attack.result(last, problem, state, steps)
