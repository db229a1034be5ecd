"""Random Lp-norm corruptions: the 90 of arXiv 2305.05400, and its six imperceptible ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax import metrics
from robust_jax.core.checks import check_positive
from robust_jax.core.keys import example_keys, named_key
from robust_jax.data import Evaluation
from robust_jax.declarations import Column, Curves, Figure, Panel
from robust_jax.mathematics.lp_noise import add_lp_noise_choice
from robust_jax.mathematics.lp_tables import Case, evaluation_cases, imperceptible_cases, norm_name
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, measure, metric_rows, run_case
from robust_jax.suites.clean import clean_table
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Images, PRNGKey, Row

NAME = "random_lp"
IMPERCEPTIBLE = "imperceptible"
CURVES_CAPTION = (
    "Error against the radius eps of the noise, a panel for each norm; bands are 95 % intervals, "
    "dotted lines the clean error."
)
# The seventh of the ten radii of each norm: plain to see, and still to be recognised.
SAMPLE_RADIUS = 6


@dataclasses.dataclass(frozen=True)
class RandomLp(Suite):
    r"""Error under 90 random corruptions, nine norms at ten radii, their mean mCE_Lp, and iCE.

    mCE_Lp is the mean error over the 90, unnormalised. iCE is
    :func:`~robust_jax.metrics.imperceptible_corruption_error` over the six. All radii are scaled to the size of the
    images. The noise of an example depends on the key, the case and its id alone. One compiled program serves every
    case.

    References:
        Siedel, Shao, Vock & Morozov, arXiv 2305.05400, section 4.
    """

    table: str = "cifar"
    """Whose radii: cifar or tiny_imagenet."""
    repeats: int = 1
    """Draws of noise per image and case, averaged; the paper makes one."""
    imperceptible_repeats: int = 1
    """The same for the six imperceptible cases, whose effect is small."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        check_positive("repeats", self.repeats)
        check_positive("imperceptible_repeats", self.imperceptible_repeats)
        evaluation_cases(self.table)

    @property
    def num_cases(self) -> int:
        return len(evaluation_cases(self.table)) + len(imperceptible_cases(self.table))

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("mCE_Lp %", "all", "mCE_Lp", scale=100),
            Column("iCE %", IMPERCEPTIBLE, "iCE", scale=100),
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        cases = [label.name for label in evaluation_cases(self.table)]
        norms = dict.fromkeys(case.partition(" ")[0] for case in cases)
        panels = (
            Panel(norm, tuple(case for case in cases if case.partition(" ")[0] == norm), "error", "eps", "error %")
            for norm in norms
        )
        return (Curves("Error under random noise", CURVES_CAPTION, tuple(panels), log=True, baseline=True),)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields each case's rows when it is done, then mCE_Lp and iCE; all with 95 % bootstrap intervals.

        The intervals of the summaries resample images, each with its results under all cases.
        """
        fields = context.fields(self.name)
        data, clean = context.data, clean_table(context)["error"]
        errors = []
        for label, case in self._cases("test", data):
            table = self._case(context, "test", case, self.repeats)
            context.advance()
            errors.append(table["error"].mean(axis=1))
            yield from metric_rows(table, **fields, case=label.name, severity=case.eps)
        interval = metrics.bootstrap_interval(metrics.mean_corruption_error(np.stack(errors)))
        yield make_row("mCE_Lp", interval, data.num_examples, **fields, case="all", severity=None)

        invisible = []
        for label, case in self._cases(IMPERCEPTIBLE, data):
            table = self._case(context, IMPERCEPTIBLE, case, self.imperceptible_repeats)
            context.advance()
            invisible.append(table["error"].mean(axis=1))
            yield from metric_rows(table, **fields, case=f"{IMPERCEPTIBLE} {label.name}", severity=case.eps)
        both = np.stack([clean, metrics.mean_corruption_error(np.stack(invisible))], axis=1)
        ratio = metrics.bootstrap_interval(both, lambda m: metrics.imperceptible_corruption_error(m[..., 0], m[..., 1]))
        yield make_row("iCE", ratio, data.num_examples, **fields, case=IMPERCEPTIBLE, severity=None)

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images under one radius of every norm, with what is predicted for them."""
        batch = next(iter(context.data.batches()))
        cases = evaluation_cases(self.table, context.data.image_shape)
        clean = Case(math.inf, 0.0)
        shown = [clean, *(case for i, case in enumerate(cases) if i % 10 == SAMPLE_RADIUS)]
        columns = {}
        for title, case in zip(["clean", *(norm_name(case.p) for case in shown[1:])], shown, strict=True):
            case_key, index = self._key_and_index(context.key, "test", case, 0)
            columns[title] = add_noise(case_key, self._norms(), index, case.eps, batch)
        return predicted_samples(context, columns, batch.label, num_images=num_images)

    def _cases(self, kind: str, data: Evaluation) -> Iterator[tuple[Case, Case]]:
        """Every case as published, which names it, and scaled to the images."""
        cases = imperceptible_cases if kind == IMPERCEPTIBLE else evaluation_cases
        return zip(cases(self.table), cases(self.table, data.image_shape), strict=True)

    def _case(self, context: Context, kind: str, case: Case, repeats: int) -> Table:
        """Measures ``[n, repeats]`` of every example under every draw of noise."""

        def compute() -> Table:
            classifier, tables = context.classifier(), []
            for repeat in range(repeats):
                case_key, index = self._key_and_index(context.key, kind, case, repeat)
                program = partial(_measure_noisy, self._norms(), classifier, case_key, index, case.eps)
                tables.append(run_case(program, context.data))
            return {metric: np.stack([t[metric] for t in tables], axis=1) for metric in tables[0]}

        return context.store.table(context.folder(NAME, context.key, repeats), f"{kind} {case.name}", compute)

    def _key_and_index(self, key: PRNGKey, kind: str, case: Case, repeat: int) -> tuple[PRNGKey, Int[Array, ""]]:
        key = jax.random.fold_in(named_key(key, f"{kind} {case.name}"), repeat)
        return key, jnp.int32(self._norms().index(case.p))

    def _norms(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(case.p for case in evaluation_cases(self.table)))


@partial(jax.jit, static_argnums=1)
def add_noise(
    key: PRNGKey, norms: tuple[float, ...], index: Int[Array, ""], eps: Float[Array, ""], batch: Batch
) -> Images:
    """A batch under noise from the ball of radius eps in one of several norms; each example has its own."""

    def corrupt(key, image):
        return add_lp_noise_choice(key, image, norms, index, eps)

    return jax.vmap(corrupt)(example_keys(key, batch.id), batch.image)


@partial(jax.jit, static_argnums=0)
def _measure_noisy(norms, predictor, key, index, eps, batch: Batch) -> dict[str, Array]:
    return measure(predictor, add_noise(key, norms, index, eps, batch), batch.label)
