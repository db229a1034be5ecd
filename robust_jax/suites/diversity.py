"""How much the members of an ensemble differ on the test images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from robust_jax import metrics
from robust_jax.declarations import Column, Figure, MemberMatrix
from robust_jax.predictors import HasMembers
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, run_case
from robust_jax.types import Batch, Row

NAME = "diversity"
SHOWN = 10
"""Members whose pairs have rows of their own."""


@dataclasses.dataclass(frozen=True)
class Diversity(Suite):
    """Disagreement, divergence and mutual information of members, and what a member does alone.

    Of case ``all``: ``disagreement``, the share of pairs of members that predict different classes, and
    ``normalised_disagreement``, divided by the members' mean error; ``kl_divergence`` between pairs;
    ``mutual_information`` of class and member; ``member_error`` and ``member_nll``, the means over members. Of case
    ``members I-J``, of the first ten: the ``disagreement`` of a pair, and of case ``member I`` its ``error``. A
    predictor that is not made of two or more members has no rows.

    References:
        Fort, Hu & Lakshminarayanan, "Deep Ensembles: A Loss Landscape Perspective" (arXiv 1912.02757).
    """

    name: ClassVar[str] = NAME

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("member error %", "all", "member_error", scale=100, secondary=True),
            Column("disagreement %", "all", "disagreement", scale=100, direction=None, secondary=True),
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        return (MemberMatrix(),)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the rows, with 95 % bootstrap intervals over examples."""
        place = context.folder(NAME), "members"
        table = context.store.get(*place)
        if table is None and isinstance(context.predictor, HasMembers):
            table = run_case(partial(_member_batch, context.classifier()), context.data)
            context.store.put(*place, table)
        context.advance()
        if table is None or table["error"].shape[1] < 2:
            return
        fields = {**context.fields(self.name), "severity": None}
        means = {name: table[name] for name in ("disagreement", "kl_divergence", "mutual_information")}
        means |= {f"member_{name}": table[name].mean(axis=1) for name in ("error", "nll")}
        row = lambda metric, interval, case: make_row(metric, interval, len(table["error"]), **fields, case=case)  # noqa: E731
        for metric, values in means.items():
            yield row(metric, metrics.bootstrap_interval(values), "all")
        pairs = np.stack([means["disagreement"], means["member_error"]], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            normalised = metrics.bootstrap_interval(pairs, lambda m: m[..., 0] / m[..., 1])
        yield row("normalised_disagreement", normalised, "all")
        shown = min(table["error"].shape[1], SHOWN)
        for i in range(shown):
            yield row("error", metrics.bootstrap_interval(table["error"][:, i]), f"member {i}")
        for i, j in zip(*np.triu_indices(shown, 1), strict=True):
            differ = table["prediction"][:, i] != table["prediction"][:, j]
            yield row("disagreement", metrics.bootstrap_interval(differ.astype(float)), f"members {i}-{j}")


@jax.jit
def _member_batch(predictor: HasMembers, batch: Batch) -> dict[str, Array]:
    """Measures ``[b]`` of all members, and ``[b, members]`` of each."""
    logits = predictor.members(batch.image)
    of_each = {
        "error": jax.vmap(metrics.errors, (0, None), 1)(logits, batch.label),
        "nll": jax.vmap(metrics.nll, (0, None), 1)(logits, batch.label),
        "prediction": jnp.argmax(logits, axis=-1).T,
    }
    if len(logits) < 2:
        return of_each
    return of_each | {
        "disagreement": metrics.disagreement(logits),
        "kl_divergence": metrics.kl_divergence(logits),
        "mutual_information": metrics.mutual_information(logits),
    }
