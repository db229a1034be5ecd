"""Runs that differ in their seed alone, as one."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np
from scipy import special

from robust_jax.report.tables import Runs
from robust_jax.types import Row


def pool_seeds(runs: Runs) -> dict[str, Sequence[Row]]:
    r"""One run in the place of several that are called alike but for their seed, ``NAME_seed0``, ``NAME_seed1``, ….

    The pooled run is called ``NAME (3 seeds)``. Its values are means over the seeds, with the interval of Student's t
    in which the mean over all seeds lies with 95 %:

    .. math:: \bar{v} \pm t_{n - 1,\, 0.975}\; \frac{s}{\sqrt{n}}

    Args:
        runs: rows of every run, as :func:`~robust_jax.train.over_seeds` names them.

    Returns:
        The runs in their order. A row that not all seeds have is left out; a run that is alone stays as it is. The
        examples of a pooled row are those of all seeds together, its seed is the first.
    """
    recipes: dict[str, dict[str, Sequence[Row]]] = {}
    for name, rows in runs.items():
        recipes.setdefault(_recipe(name, rows), {})[name] = rows
    pooled: dict[str, Sequence[Row]] = {}
    for recipe, members in recipes.items():
        if len(members) == 1:
            pooled |= members
        else:
            name = f"{recipe} ({len(members)} seeds)"
            pooled[name] = [dataclasses.replace(row, run=name) for row in _means(list(members.values()))]
    return pooled


def _recipe(name: str, rows: Sequence[Row]) -> str:
    """The name without its seed, where the rows are of that seed."""
    found = re.fullmatch(r"(.+)_seed(\d+)", name)
    return found[1] if found and rows and rows[0].seed == int(found[2]) else name


def _means(members: Sequence[Sequence[Row]]) -> list[Row]:
    tables = [{(row.suite, row.case, row.severity, row.metric): row for row in rows} for rows in members]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    return [_mean([table[key] for table in tables]) for key in shared]


def _mean(rows: Sequence[Row]) -> Row:
    values = [row.value for row in rows]
    mean = float(np.mean(values))
    half = float(special.stdtrit(len(rows) - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(len(rows))
    low, high = (None, None) if math.isnan(half) else (mean - half, mean + half)
    return dataclasses.replace(rows[0], value=mean, low=low, high=high, count=sum(row.count for row in rows))
