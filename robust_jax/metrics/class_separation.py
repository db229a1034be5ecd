"""How far apart the classes of a data set are, and what a classifier loses within that distance (arXiv 2206.13405)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# Images compared with each other at a time.
BLOCK = 2048
# Cells along each side that images are averaged over: few for all pairs, more for those that remain.
COARSE, FINE = 4, 8
# Pairs compared first, so that their distance rules out most of the others, and then at a time.
PROBES, PAIRS = 64, 4096
# Lower bounds are computed in float32, and may be too high by this much of the longest distance there can be.
SLACK = 1e-6
# Above, the largest difference bounds about as well as the norm, and no power underflows.
LARGE_P = 8


class Separation(NamedTuple):
    """The two examples of different classes that are nearest to each other; infinite where there are none."""

    distance: float
    first: int
    second: int

    @property
    def eps_min(self) -> float:
        """Half the distance: within this radius of its examples no class overlaps with another."""
        return self.distance / 2


def nearest_classes(
    images: Float[np.ndarray, "n h w c"], labels: Int[np.ndarray, "n"], p: float, *, identical: bool = False
) -> Separation:
    r"""The smallest distance :math:`\min_{y_i \ne y_j} \lVert x_i - x_j \rVert_p`, exact, in float64.

    Pairs whose averages over cells already differ by more than the smallest distance found are ruled out without
    comparing pixels: by Jensen's inequality :math:`\sum_B m_B |\bar x_B - \bar y_B|^p \le \lVert x - y \rVert_p^p`
    for any partition of the pixels into blocks B of m_B. 50,000 CIFAR images take about ten seconds on two cores.

    Args:
        images: in [0, 1].
        labels: classes.
        p: order of the norm, positive or infinity; for p < 1, where it is none, the same sum.
        identical: count pairs of identical images with different labels, whose distance is 0. By default they are
            left out: they are faults of labelling, and leave no radius at all.

    Raises:
        ValueError: if p is not positive, or there are not as many labels as images.
    """
    if not p > 0:
        raise ValueError(f"Expected p > 0, got p={p!r}.")
    images, labels = np.asarray(images, np.float32), np.asarray(labels)
    if labels.shape != images.shape[:1]:
        raise ValueError(f"Expected {len(images)} labels, got shape {labels.shape}.")
    # Neighbours in brightness stand together, so that whole blocks of pairs are ruled out.
    order = np.argsort(images.reshape(len(images), -1).mean(axis=1, dtype=np.float64), kind="stable")
    search = _Search(images[order], labels[order], p, identical)
    for rows, columns in search.blocks():
        search.look(rows, columns)
    if search.distance == np.inf:
        return Separation(np.inf, -1, -1)
    return Separation(search.distance, *sorted(int(order[i]) for i in search.pair))


def minimal_separation_robustness(
    clean_accuracy: Float[np.ndarray, "..."], noisy_accuracy: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    r"""MSCR :math:`(A_{\epsilon_{min}} - A_{clean}) / A_{clean}`, the share of the accuracy lost to avoidable errors.

    0 is best. ``noisy_accuracy`` is that under noise drawn uniformly from the ball of radius eps_min, where no two
    classes overlap, so that a classifier could keep all of its accuracy. NaN where the clean accuracy is 0.

    References:
        Siedel, Vock, Morozov & Voß, arXiv 2206.13405, section 3.
    """
    clean, noisy = np.asarray(clean_accuracy, np.float64), np.asarray(noisy_accuracy, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(clean > 0, (noisy - clean) / clean, np.nan)


class _Search:
    """The nearest pair so far, and what is needed to look for a nearer one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, p: float, identical: bool):
        self.images, self.labels, self.p, self.identical = images, labels, p, identical
        self.distance, self.pair = np.inf, (-1, -1)
        # A quasi-norm is at least the L1 norm, and any norm at least the largest difference.
        self.bound_p = np.inf if p > LARGE_P else max(p, 1.0)
        self.brightness, self.coarse, self.fine = (_cells(images, cells, self.bound_p) for cells in (0, COARSE, FINE))
        self.slack = SLACK * images[0].size ** (1 / self.bound_p)

    @property
    def limit(self) -> float:
        """Pairs whose bound is above cannot be nearer than the nearest so far."""
        return self.distance + self.slack

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Starts of blocks of pairs i <= j; those of like brightness first, where the nearest pairs are."""
        starts = range(0, len(self.images), BLOCK)
        for apart in range(len(starts)):
            for start in starts[: len(starts) - apart]:
                yield start, start + apart * BLOCK

    def look(self, row: int, column: int) -> None:
        """Compares the images of two blocks."""
        if self.brightness[column, 0] - self.brightness[min(row + BLOCK, len(self.images)) - 1, 0] > self.limit:
            return
        bounds = np.asarray(_bounds(*self._block(row, len(self.images)), *self._block(column, -1), self.bound_p))
        near = np.flatnonzero(bounds < self.limit)
        near = near[np.argsort(bounds.ravel()[near], kind="stable")]
        for start, stop in [(0, PROBES), *((s, s + PAIRS) for s in range(PROBES, len(near), PAIRS))]:
            part = near[start:stop]
            part = part[bounds.ravel()[part] < self.limit]
            if not len(part):
                return
            i, j = np.unravel_index(part, bounds.shape)
            self._compare(i + row, j + column)

    def _compare(self, i: Int[np.ndarray, "pairs"], j: Int[np.ndarray, "pairs"]) -> None:
        possible = _norm(self.fine[i] - self.fine[j], self.bound_p) < self.limit
        i, j = i[possible], j[possible]
        for start in range(0, len(i), PROBES):
            a, b = i[start : start + PROBES], j[start : start + PROBES]
            difference = self.images[a].astype(np.float64) - self.images[b]
            distances = _norm(difference.reshape(len(a), -1), self.p)
            if not self.identical:
                distances[distances == 0] = np.inf
            nearest = int(np.argmin(distances))
            if distances[nearest] < self.distance:
                self.distance, self.pair = float(distances[nearest]), (int(a[nearest]), int(b[nearest]))

    def _block(self, start: int, padding: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Averages, labels and positions of a block; it is filled up, so that one program serves all."""
        size = min(BLOCK, len(self.images))
        part = slice(start, start + size)
        missing = size - len(self.labels[part])
        positions = np.arange(start, start + size - missing)
        return (
            np.pad(self.coarse[part], ((0, missing), (0, 0))),
            np.pad(self.labels[part], (0, missing)),
            np.pad(positions, (0, missing), constant_values=padding),
        )


@partial(jax.jit, static_argnums=6)
def _bounds(x, labels_x, positions_x, y, labels_y, positions_y, p: float) -> Float[Array, "rows columns"]:
    """Lower bounds of the distances between examples of two blocks; infinite for pairs that do not count."""
    # An integer power is a product, far faster.
    power = int(p) if p != np.inf and p == int(p) else p
    total = jnp.zeros((len(x), len(y)))
    # Cell by cell, so that one fused loop runs along a row of the matrix.
    for k in range(x.shape[1]):
        difference = jnp.abs(x[:, k, None] - y[None, :, k])
        total = jnp.maximum(total, difference) if p == np.inf else total + difference**power
    bounds = total if p == np.inf else total ** (1 / p)
    counts = (labels_x[:, None] != labels_y[None]) & (positions_x[:, None] < positions_y[None])
    return jnp.where(counts, bounds, jnp.inf)


def _cells(images: Float[np.ndarray, "n h w c"], cells: int, p: float) -> Float[np.ndarray, "n values"]:
    """Averages over cells of each channel (0: over the whole image), scaled so that distances bound those of images."""
    if cells == 0:
        means = images.reshape(len(images), -1).mean(axis=1, dtype=np.float64)[:, None]
        return (means * images[0].size ** (1 / p)).astype(np.float32)
    size = images.shape[1:3]
    edges = [np.unique(np.linspace(0, side, min(cells, side) + 1).astype(int)) for side in size]
    sums = np.add.reduceat(images, edges[0][:-1], axis=1, dtype=np.float64)
    sums = np.add.reduceat(sums, edges[1][:-1], axis=2)
    number = np.diff(edges[0])[:, None] * np.diff(edges[1])[None]
    scaled = sums / number[:, :, None] ** (1 - 1 / p)
    return scaled.reshape(len(images), -1).astype(np.float32)


def _norm(values: Float[np.ndarray, "n m"], p: float) -> Float[np.ndarray, "n"]:
    values = np.abs(values)
    largest = values.max(axis=1, initial=0)
    if p == np.inf:
        return largest
    # Powers of ratios do not underflow where it matters.
    ratios = values / np.where(largest > 0, largest, 1)[:, None]
    return largest * (ratios**p).sum(axis=1) ** (1 / p)
