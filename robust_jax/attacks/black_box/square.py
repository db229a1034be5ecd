"""Square: random search with square windows, which reads the logits and no gradient."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import Attack, where_examples
from robust_jax.attacks.losses import attack_loss, margin
from robust_jax.attacks.problem import AttackResult, Problem, succeeded
from robust_jax.attacks.threats import THREATS
from robust_jax.core.checks import check_choice, check_fraction, check_non_negative, check_positive
from robust_jax.core.random_words import random_uniform
from robust_jax.mathematics.norms import norm_lp
from robust_jax.mathematics.projections import project_l1_box
from robust_jax.types import Image, Images, LogitsFn, PRNGKey

NORMS = ("Linf", "L2", "L1")
# Queries after which the share of pixels in a window halves; of 10,000.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Below eps by a little, so that rounding does not carry over the radius.
SHORT = 1 - 1e-6


class SquareState(NamedTuple):
    """The best images, whether they are adversarial, and their margin."""

    images: Images
    success: Bool[Array, "b"]
    loss: Float[Array, "b"]


@dataclasses.dataclass(frozen=True)
class Square(Attack):
    r"""Random search: perturbs square windows, and keeps what increases the margin.

    The side of the window is :math:`\sqrt{p\, h w}`, with p halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and
    8000 queries. For Linf a window moves by ±2 eps, the same in all of it, and is clipped; the start is vertical
    stripes of ±eps. For L2 and L1 the perturbation in one window is taken away and that in another grows by as much,
    in the shape of two peaks of opposite sign; the start is a chessboard of them.

    An example is left alone once it is misclassified, as are images that were to begin with.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Andriushchenko et al., "Square attack" (arXiv 1912.00049), algorithms 1-3; for L1 Croce & Hein
        (arXiv 2103.01208), section 5. Here each example draws its own windows, where the published code shares one
        in a batch, so that results depend on it.
    """

    norm: str = "Linf"
    """Linf, L2 or L1."""
    queries: int = 5000
    """Windows tried; two more evaluations are of the image and the start."""
    share: float = 0.8
    """Share of the pixels in the first windows, p."""
    rescale: bool = False
    """Stretch the schedule, made for 10,000 queries, to the number there is. AutoAttack does not."""
    parity: Literal["reference", "fixed"] = "reference"
    """Whether to do as the published code, whose windows never reach the last row and column. ``fixed`` places them
    anywhere."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_choice("norm", self.norm, NORMS)
        check_positive("queries", self.queries)
        check_fraction("share", self.share)
        check_choice("parity", self.parity, ("reference", "fixed"))

    @property
    def num_steps(self) -> int:
        return self.queries

    def init(self, predictor: LogitsFn, problem: Problem) -> SquareState:
        clean = self._judge(predictor, problem, problem.images)
        start = self._stripes if self.norm == "Linf" else self._chessboard
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, 0)
        started = self._judge(predictor, problem, jax.vmap(start)(keys, problem.images, problem.eps))
        return where_examples(clean.success, clean, started)

    def step(self, i: Int[Array, ""], predictor: LogitsFn, problem: Problem, state: SquareState) -> SquareState:
        sides = self.sides(*problem.images.shape[1:3])
        keys = jax.vmap(jax.random.fold_in, (0, None))(problem.keys, i + 1)
        examples, side = (keys, state.images, problem.images, problem.eps), jnp.asarray(sides)[i]
        if self.norm == "Linf":
            proposed = jax.vmap(self._flip_window, (0, 0, 0, 0, None))(*examples, side)
        else:
            distinct, which = np.unique(sides, return_inverse=True)
            peaks = np.stack([_upright_and_lying(side, self.norm, problem.images.shape) for side in distinct])
            shape = side, jnp.asarray(peaks)[jnp.asarray(which)[i]]
            proposed = jax.vmap(self._move_mass, (0, 0, 0, 0, None))(*examples, shape)
        found = self._judge(predictor, problem, proposed)
        return where_examples(found.success | (found.loss > state.loss), found, state)

    def result(self, predictor: LogitsFn, problem: Problem, state: SquareState, steps: Int[Array, "b"]) -> AttackResult:
        norm = jax.vmap(THREATS[self.norm].norm)(state.images - problem.images)
        none = jnp.zeros_like(steps)
        return AttackResult(state.images, state.success, norm, state.loss, steps + 2, none, none > 0, none > 0)

    def finished(self, problem: Problem, state: SquareState) -> Bool[Array, "b"]:
        return state.success

    def sides(self, height: int, width: int) -> Int[np.ndarray, "queries"]:
        """Of the windows, one after the other; for L2 and L1 odd and at least 3, where the image allows it."""
        queries = np.arange(self.queries)
        if self.rescale:
            queries = queries * 10_000 // self.queries
        halved = np.searchsorted(HALVINGS, queries)
        sides = np.maximum(np.round(np.sqrt(self.share / 2.0**halved * height * width)).astype(int), 1)
        if self.norm != "Linf":
            sides = np.maximum(sides, 3) // 2 * 2 + 1
        return np.minimum(sides, min(height, width))

    def _judge(self, predictor: LogitsFn, problem: Problem, images: Images) -> SquareState:
        logits = predictor(images)
        return SquareState(images, succeeded(logits, problem), attack_loss(margin, logits, problem))

    def _stripes(self, key: PRNGKey, image: Image, eps: Float[Array, ""]) -> Image:
        return jnp.clip(image + eps * _signs(key, (1, *image.shape[1:])), 0, 1)

    def _flip_window(
        self, key: PRNGKey, best: Image, image: Image, eps: Float[Array, ""], side: Int[Array, ""]
    ) -> Image:
        place_key, sign_key = jax.random.split(key)
        window = _window(self._corner(place_key, image.shape, side), side, image.shape)
        moved = best + jnp.where(window, 2 * eps * _signs(sign_key, (1, 1, image.shape[2])), 0)
        return jnp.clip(jnp.clip(moved, image - eps, image + eps), 0, 1)

    def _chessboard(self, key: PRNGKey, image: Image, eps: Float[Array, ""]) -> Image:
        height, width, channels = image.shape
        side = max(height // 5, 1)
        margin_of_board = max(height - 5 * side, 0) // 2
        row, in_row = np.divmod(np.arange(height) - margin_of_board, side)
        column, in_column = np.divmod(np.arange(width) - margin_of_board, side)
        rows, columns = (height - margin_of_board) // side, (width - margin_of_board) // side
        peaks = twin_peaks(side, self.norm)
        upright, lying = peaks[np.ix_(in_row, in_column)], peaks.T[np.ix_(in_row, in_column)]
        on_board = ((row >= 0) & (row < rows))[:, None] & ((column >= 0) & (column < columns))
        tile = np.clip(row, 0, rows - 1)[:, None] * columns + np.clip(column, 0, columns - 1)

        sign_key, turn_key = jax.random.split(key)
        signs = _signs(sign_key, (rows * columns, channels))[tile]
        turned = (random_uniform(turn_key, (rows * columns,)) > 0.5)[tile]
        delta = jnp.where(on_board & turned, lying, jnp.where(on_board, upright, 0))[..., None] * signs
        return self._within(delta, image, eps)

    def _move_mass(
        self,
        key: PRNGKey,
        best: Image,
        image: Image,
        eps: Float[Array, ""],
        shape: tuple[Int[Array, ""], Float[Array, "2 h w"]],
    ) -> Image:
        side, peaks = shape
        here_key, there_key, sign_key, turn_key = jax.random.split(key, 4)
        corner = self._corner(here_key, image.shape, side)
        here = _window(corner, side, image.shape)
        there = _window(self._corner(there_key, image.shape, side), side, image.shape)
        delta = best - image
        order = THREATS[self.norm].order

        def size(values: Image, where: Bool[Array, "h w 1"]) -> Float[Array, "1 1 c"]:
            masked = jnp.where(where, jnp.abs(values), 0)
            return jnp.sum(masked**order, axis=(0, 1), keepdims=True) ** (1 / order)

        turned = random_uniform(turn_key, ()) > 0.5
        peaks = jnp.roll(peaks[turned.astype(jnp.int32)], corner, axis=(0, 1))
        grown = peaks[..., None] * _signs(sign_key, (1, 1, image.shape[2])) + jnp.where(
            here, delta / (1e-12 + size(delta, here)), 0
        )
        channels = image.shape[2]
        # What the perturbation falls short of eps, shared by the channels, goes to the window as well.
        short = jnp.maximum(eps**order - norm_lp(delta, int(order)) ** order, 0) / channels
        budget = (short + size(delta, here | there) ** order) ** (1 / order)
        # Of L1 the published code gives all channels' worth to each; the projection takes it back.
        budget = budget * channels if self.norm == "L1" else budget
        grown = grown / (1e-12 + size(grown, here)) * budget
        return self._within(jnp.where(here, grown, jnp.where(there, 0, delta)), image, eps)

    def _within(self, delta: Image, image: Image, eps: Float[Array, ""]) -> Image:
        if self.norm == "L1":
            return image + project_l1_box(delta, image, eps * SHORT)
        return jnp.clip(image + eps * delta / (norm_lp(delta, 2) + 1e-12), 0, 1)

    def _corner(self, key: PRNGKey, shape: tuple[int, ...], side: Int[Array, ""]) -> Int[Array, "2"]:
        room = jnp.asarray(shape[:2]) - side
        places = room if self.parity == "reference" else room + 1
        return (random_uniform(key, (2,)) * places).astype(jnp.int32)


def twin_peaks(side: int, norm: str) -> Float[np.ndarray, "side side"]:
    r"""Two peaks of opposite sign one above the other, of norm 1; :math:`\eta` in the paper's section 3.2."""
    upper, lower = side // 2, side - side // 2
    power = 2 if norm == "L2" else 4
    both = np.concatenate([_peak(upper, side, power), -_peak(lower, side, power)])
    halves = np.split(both, [upper])
    order = 2 if norm == "L2" else 1
    both = np.concatenate([half / max(_size(half, order), 1e-30) for half in halves])
    return (both / _size(both, order)).astype(np.float32)


def _peak(height: int, width: int, power: int) -> Float[np.ndarray, "height width"]:
    """A sum of squares about the middle, each larger and lower than the one before."""
    steps = max(height // 2, width // 2) + 1
    heights = np.cumsum(1 / np.arange(steps, 0, -1.0) ** power)[::-1]
    rows, columns = np.arange(height) - height // 2, np.arange(width) - width // 2
    return heights[np.maximum(np.abs(rows)[:, None], np.abs(columns))]


def _size(values: np.ndarray, order: int) -> float:
    return math.pow(float(np.sum(np.abs(values) ** order)), 1 / order)


def _upright_and_lying(side: int, norm: str, shape: tuple[int, ...]) -> Float[np.ndarray, "2 h w"]:
    """Twin peaks in the first corner of an image, one above the other and one beside the other."""
    both = np.zeros((2, *shape[1:3]), np.float32)
    peaks = twin_peaks(side, norm)
    both[0, :side, :side], both[1, :side, :side] = peaks, peaks.T
    return both


def _window(corner: Int[Array, "2"], side: Int[Array, ""], shape: tuple[int, ...]) -> Bool[Array, "h w 1"]:
    rows, columns = jnp.arange(shape[0]) - corner[0], jnp.arange(shape[1]) - corner[1]
    return ((rows >= 0) & (rows < side))[:, None, None] & ((columns >= 0) & (columns < side))[None, :, None]


def _signs(key: PRNGKey, shape: tuple[int, ...]) -> Array:
    return jnp.where(random_uniform(key, shape) < 0.5, -1.0, 1.0)
