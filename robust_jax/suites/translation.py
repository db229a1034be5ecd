"""Error and consistency when the picture is moved by whole pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_jax import metrics
from robust_jax.core.checks import check_choice, check_positive
from robust_jax.declarations import Column
from robust_jax.images.borders import MODES, fold
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, run_case
from robust_jax.suites.samples import Samples, predicted_samples
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Images, LogitsFn, Row

NAME = "translation"
DIRECTIONS = {
    "right": (1, 0),
    "down right": (1, 1),
    "down": (0, 1),
    "down left": (-1, 1),
    "left": (-1, 0),
    "up left": (-1, -1),
    "up": (0, -1),
    "up right": (1, -1),
}
"""Where the picture goes: to the right, and down. Diagonals go as far along either axis."""


@dataclasses.dataclass(frozen=True)
class Translation(Suite):
    """Error, worst error and consistency under translations by 0, 1, 2, … pixels in eight directions.

    Of each distance: ``error``, the mean over directions; ``worst_error``, where any direction is misclassified;
    ``consistency``, how often the class is that of the image unmoved. Of each direction the mean ``error`` over all
    distances but 0; and of case ``all`` the means of error and consistency over those and the directions.

    References:
        Consistency under translation is that of Zhang, "Making convolutional networks shift-invariant again"
        (arXiv 1904.11486), section 4.1, against the image itself where the paper compares two random shifts.

    Raises:
        ValueError: if ``max_shift`` is not positive or the border unknown; when run, if a shift would move the picture
            out of sight.
    """

    max_shift: int = 16
    """The furthest, in pixels."""
    border: str = "constant"
    """What moves in from beyond the image, see :data:`robust_jax.images.borders.MODES`; constant is black."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        check_positive("max_shift", self.max_shift)
        check_choice("border", self.border, MODES)

    @property
    def num_cases(self) -> int:
        return 1 + self.max_shift

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("translation error %", "all", "mean_error", scale=100),
            Column("consistency %", "all", "mean_consistency", scale=100, direction="higher"),
        )

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields each distance's rows when it is done, then those of directions and of all; with 95 % intervals."""
        data = context.data
        side = min(data.image_shape[:2])
        if self.max_shift >= side:
            raise ValueError(f"Expected max_shift < {side}, the images' side, got max_shift={self.max_shift!r}.")
        fields = context.fields(self.name)
        row = lambda metric, values, **more: make_row(  # noqa: E731
            metric, metrics.bootstrap_interval(values), data.num_examples, **fields, **more
        )
        unmoved = self._case(context, 0)
        context.advance()
        yield row("error", unmoved["error"][:, 0], case="shift 0", severity=0.0)
        errors, consistent = [], []
        for shift in range(1, self.max_shift + 1):
            table = self._case(context, shift)
            context.advance()
            errors.append(table["error"])
            consistent.append((table["prediction"] == unmoved["prediction"]).astype(float))
            place = {"case": f"shift {shift}", "severity": float(shift)}
            yield row("error", errors[-1].mean(axis=1), **place)
            yield row("worst_error", errors[-1].max(axis=1), **place)
            yield row("consistency", consistent[-1].mean(axis=1), **place)
        # [n, directions]
        over_shifts = np.mean(errors, axis=0)
        for i, direction in enumerate(DIRECTIONS):
            yield row("error", over_shifts[:, i], case=direction, severity=None)
        yield row("mean_error", over_shifts.mean(axis=1), case="all", severity=None)
        yield row("mean_consistency", np.mean(consistent, axis=(0, 2)), case="all", severity=None)

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images, moved furthest in every direction, with what is predicted for them."""
        batch = next(iter(context.data.batches()))
        moves = {"clean": (0, 0)} | {
            name: (self.max_shift * x, self.max_shift * y) for name, (x, y) in DIRECTIONS.items()
        }
        columns = {
            name: translated(self.border, batch.image, jnp.asarray(move, jnp.int32)) for name, move in moves.items()
        }
        return predicted_samples(context, columns, batch.label, num_images=num_images)

    def _case(self, context: Context, shift: int) -> Table:
        """Errors and predictions ``[n, directions]``; unmoved, ``[n, 1]``."""
        moves = [(shift * x, shift * y) for x, y in DIRECTIONS.values()] if shift else [(0, 0)]

        def compute() -> Table:
            return run_case(partial(self._predict, context.classifier(), np.asarray(moves, np.int32)), context.data)

        return context.store.table(context.folder(NAME, self.border), f"shift {shift}", compute)

    def _predict(self, predictor: LogitsFn, moves: Int[np.ndarray, "d 2"], batch: Batch) -> dict[str, Array]:
        found = [_predict_moved(self.border, predictor, move, batch) for move in moves]
        return jax.tree.map(lambda *columns: jnp.stack(columns, axis=1), *found)


@partial(jax.jit, static_argnums=0)
def _predict_moved(
    border: str, predictor: LogitsFn, move: Int[Array, "2"], batch: Batch
) -> dict[str, Float[Array, "b"] | Int[Array, "b"]]:
    logits = predictor(translated(border, batch.image, move))
    return {"error": metrics.errors(logits, batch.label), "prediction": jnp.argmax(logits, axis=-1)}


@partial(jax.jit, static_argnums=0)
def translated(border: str, images: Images, move: Int[Array, "2"]) -> Images:
    """Images moved by whole pixels, to the right and down.

    Args:
        border: what moves in, see :data:`robust_jax.images.borders.MODES`; constant is black.
        images: the images.
        move: pixels to the right, and down; may be traced.
    """
    for axis, by in ((2, move[0]), (1, move[1])):
        size = images.shape[axis]
        source = jnp.arange(size) - by
        images = jnp.take(images, fold(source, size, border), axis=axis, mode="clip")
        if border == "constant":
            inside = (source >= 0) & (source < size)
            images = jnp.where(inside.reshape([-1 if i == axis else 1 for i in range(4)]), images, 0)
    return images
