"""The radii of random Lp-norm corruptions (arXiv 2305.05400): what is tested, what is trained on, what is invisible.

They hold for the image sizes they were chosen for; :func:`scale_eps` carries a radius over to another.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from robust_jax.core.checks import check_choice

INF = math.inf


class Case(NamedTuple):
    """A norm and a radius; p = 0 is impulse noise, whose radius is the fraction of sub-pixels replaced."""

    p: float
    eps: float

    @property
    def name(self) -> str:
        return f"{norm_name(self.p)} eps={self.eps:g}"


class LpTable(NamedTuple):
    """Ten radii for each of nine norms, six cases nobody sees, and the image shape all are meant for."""

    shape: tuple[int, int, int]
    eps: dict[float, tuple[float, ...]]
    imperceptible: tuple[Case, ...]


TABLES = {
    "cifar": LpTable(
        shape=(32, 32, 3),
        eps={
            0: (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12),
            0.5: (25e3, 50e3, 75e3, 100e3, 150e3, 200e3, 250e3, 300e3, 350e3, 400e3),
            1: (12.5, 25, 37.5, 50, 75, 100, 125, 150, 175, 200),
            2: (0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5),
            5: (0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6),
            10: (0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3),
            50: (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18),
            200: (0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.09, 0.11, 0.13, 0.15),
            INF: (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15),
        },
        imperceptible=(
            Case(0.5, 25e3), Case(1, 25), Case(2, 0.5), Case(10, 0.03), Case(50, 0.02), Case(INF, 0.01),
        ),
    ),
    "tiny_imagenet": LpTable(
        shape=(64, 64, 3),
        eps={
            0: (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3),
            0.5: (200e3, 400e3, 700e3, 1200e3, 1800e3, 2500e3, 3500e3, 5000e3, 8000e3, 12000e3),
            1: (37.5, 75, 125, 200, 300, 400, 600, 800, 1100, 1500),
            2: (0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 20),
            5: (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5),
            10: (0.02, 0.04, 0.06, 0.1, 0.14, 0.18, 0.25, 0.35, 0.5, 0.7),
            50: (0.02, 0.03, 0.04, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.35),
            200: (0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3),
            INF: (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3),
        },
        imperceptible=(
            Case(0.5, 700e3), Case(1, 125), Case(2, 2), Case(10, 0.06), Case(50, 0.04), Case(INF, 0.01),
        ),
    ),
}  # fmt: skip

IDENTITY = Case(INF, 0.0)


def evaluation_cases(table: str, shape: tuple[int, ...] | None = None) -> tuple[Case, ...]:
    """The 90 test corruptions, scaled to images of a shape.

    Raises:
        ValueError: if the table is unknown.
    """
    radii = _table(table).eps
    return _scaled([Case(p, eps) for p, column in radii.items() for eps in column], table, shape)


def imperceptible_cases(table: str, shape: tuple[int, ...] | None = None) -> tuple[Case, ...]:
    """The six corruptions that people do not notice, scaled to images of a shape."""
    return _scaled(_table(table).imperceptible, table, shape)


def training_cases(name: str, table: str, shape: tuple[int, ...] | None = None) -> tuple[Case, ...]:
    """What a training image is corrupted with, one case drawn for each.

    Args:
        name: ``"c1"``, all 90; ``"c2"``, none, or any radius of L0, L2 and L∞ (31 cases); ``"c3"``, the lower five
            radii of every norm (45); or one norm, as ``"l0"`` or ``"linf"``: none, or any of its radii (11).
        table: ``"cifar"`` or ``"tiny_imagenet"``.
        shape: of the images.

    Raises:
        ValueError: if either name is unknown.
    """
    radii = _table(table).eps
    norms = {norm_name(p).lower(): p for p in radii}
    check_choice("training set of corruptions", name, ("c1", "c2", "c3", *norms))
    if name == "c1":
        cases = [Case(p, eps) for p, column in radii.items() for eps in column]
    elif name == "c2":
        cases = [IDENTITY, *(Case(p, eps) for p in (0, 2, INF) for eps in radii[p])]
    elif name == "c3":
        cases = [Case(p, eps) for p, column in radii.items() for eps in column[:5]]
    else:
        cases = [IDENTITY, *(Case(norms[name], eps) for eps in radii[norms[name]])]
    return _scaled(cases, table, shape)


def scale_eps(p: float, eps: float, *, size: int, new_size: int) -> float:
    r"""The radius that changes every sub-pixel as much at another image size.

    .. math:: \epsilon\,(d_{new} / d)^{1/p}; \quad \text{unchanged for } p \in \{0, \infty\}.
    """
    if p in (0, INF):
        return eps
    return eps * (new_size / size) ** (1 / p)


def norm_name(p: float) -> str:
    """``L0``, ``L0.5``, …, ``Linf``."""
    return "Linf" if p == INF else f"L{p:g}"


def _table(name: str) -> LpTable:
    check_choice("table", name, TABLES)
    return TABLES[name]


def _scaled(cases, table: str, shape: tuple[int, ...] | None) -> tuple[Case, ...]:
    size = math.prod(TABLES[table].shape)
    new_size = size if shape is None else math.prod(shape)
    return tuple(Case(float(p), float(scale_eps(p, eps, size=size, new_size=new_size))) for p, eps in cases)
