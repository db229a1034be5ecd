"""Accuracy lost to noise too weak to carry one class into another: MSCR (arXiv 2206.13405)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.core.checks import check_positive
from robust_jax.core.keys import named_key
from robust_jax.declarations import Column
from robust_jax.mathematics.lp_tables import norm_name
from robust_jax.metrics.class_separation import minimal_separation_robustness, nearest_classes
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, measure_batch, metric_rows, run_case, to_host
from robust_jax.suites.clean import clean_table
from robust_jax.suites.random_lp import add_noise
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Images, LogitsFn, Row

NAME = "class_separation"
# Of the images as float32, which the search for the nearest two holds in memory.
MAX_BYTES = 8 << 30


@dataclasses.dataclass(frozen=True)
class ClassSeparation(Suite):
    r"""MSCR in several norms, and the error as a curve over multiples of the class separation.

    .. math:: \mathrm{MSCR} = \frac{A_{\epsilon_{min}} - A_{clean}}{A_{clean}}, \quad
        \epsilon_{min} = \tfrac12 \min_{y_i \ne y_j} \lVert x_i - x_j \rVert_p

    with :math:`A_\epsilon` the accuracy under noise drawn uniformly from the ball of radius eps. The radius is found
    among the examples evaluated, exactly; fewer of them are further apart. To compare with published figures give
    theirs: of CIFAR-10's training set 0.10588 (inf), 1.3753 (2) and 32.93 (1). Images that are identical are not
    counted as a pair. The noise of an example depends on the key, the norm and its id alone: along a curve it is the
    same, longer and longer. One compiled program serves all cases.

    Raises:
        ValueError: if a norm, a factor, a radius or ``repeats`` is not positive, or there are not as many radii as
            norms; when run, if the examples are too many to be compared, or no two differ in class.

    References:
        Siedel, Vock, Morozov & Voß, arXiv 2206.13405, section 3, where the norm is inf.
    """

    norms: tuple[float, ...] = (math.inf, 2.0, 1.0)
    """Orders of the norms."""
    eps: tuple[float, ...] | None = None
    """The radius eps_min for each norm; by default it is found in the data."""
    factors: tuple[float, ...] = (0.5, 1.5, 2.0, 3.0)
    """Further multiples of eps_min, for the curve."""
    repeats: int = 1
    """Draws of noise per image and case, averaged."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        for name in ("norms", "factors", "eps"):
            for value in getattr(self, name) or ():
                check_positive(name, value)
        check_positive("number of norms", len(self.norms))
        check_positive("repeats", self.repeats)
        if self.eps is not None and len(self.eps) != len(self.norms):
            raise ValueError(f"Expected {len(self.norms)} radii, one a norm, got eps={self.eps!r}.")

    @property
    def num_cases(self) -> int:
        return len(self.norms) * len(self._factors)

    @property
    def _factors(self) -> tuple[float, ...]:
        return tuple(sorted({1.0, *self.factors}))

    @property
    def columns(self) -> tuple[Column, ...]:
        norms = [norm_name(p) for p in self.norms]
        return tuple(Column(f"MSCR {norm} %", norm, "MSCR", scale=100, direction="higher") for norm in norms)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields for each norm eps_min, each case's rows when it is done, and MSCR; with 95 % bootstrap intervals."""
        fields = context.fields(self.name)
        clean = clean_table(context)["error"]
        radii = self.eps or self._radii(context)
        count = context.data.num_examples
        for p, eps_min in zip(self.norms, radii, strict=True):
            norm, eps_min = norm_name(p), float(eps_min)
            yield make_row("eps_min", metrics.Interval(eps_min), count, **fields, case=norm, severity=None)
            for factor in self._factors:
                eps = factor * eps_min
                table = self._case(context, p, eps)
                context.advance()
                yield from metric_rows(table, **fields, case=f"{norm} eps_min x{factor:g}", severity=eps)
                if factor == 1:
                    both = np.stack([clean, table["error"].mean(axis=1)], axis=1)
                    mscr = metrics.bootstrap_interval(both, _mscr)
            yield make_row("MSCR", mscr, count, **fields, case=norm, severity=None)

    def _radii(self, context: Context) -> Float[np.ndarray, "norms"]:
        data = context.data

        def compute() -> Table:
            size = 4 * data.num_examples * math.prod(data.image_shape)
            if size > MAX_BYTES:
                raise ValueError(f"{data.num_examples} images of {data.image_shape} are too many to compare; give eps.")
            parts = [to_host((batch.image, batch.label, batch.mask)) for batch in data.batches()]
            images, labels, mask = (np.concatenate(part) for part in zip(*parts, strict=True))
            classes = labels if labels.ndim == 1 else labels.argmax(axis=1)
            radii = [nearest_classes(images[mask], classes[mask], p).eps_min for p in self.norms]
            if not np.isfinite(radii).all():
                raise ValueError(f"No two examples of {data.name} differ in class; give eps.")
            return {"eps_min": np.array(radii)}

        return context.store.table(context.folder(NAME, self.norms), "eps_min", compute)["eps_min"]

    def _case(self, context: Context, p: float, eps: float) -> Table:
        """Measures ``[n, repeats]`` of every example under every draw of noise."""

        def compute() -> Table:
            classifier, index = context.classifier(), jnp.int32(self.norms.index(p))
            tables = []
            for repeat in range(self.repeats):
                noise_key = jax.random.fold_in(named_key(context.key, f"{NAME} {norm_name(p)}"), repeat)
                noisy = partial(add_noise, noise_key, self.norms, index, jnp.float32(eps))
                tables.append(run_case(partial(_measure_noisy, classifier, noisy), context.data))
            return {metric: np.stack([t[metric] for t in tables], axis=1) for metric in tables[0]}

        folder = context.folder(NAME, context.key, self.norms, self.repeats)
        return context.store.table(folder, f"{norm_name(p)} eps={eps!r}", compute)


def _measure_noisy(predictor: LogitsFn, noisy: Callable[[Batch], Images], batch: Batch) -> dict[str, Array]:
    # Laid out as the clean images are, the network does not compile again.
    images = jax.device_put(noisy(batch), batch.image.sharding)
    return measure_batch(predictor, batch._replace(image=images))


def _mscr(means: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "..."]:
    return minimal_separation_robustness(1 - means[..., 0], 1 - means[..., 1])
