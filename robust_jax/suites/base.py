"""The base of suites: the context that each of them is given, and what it declares of its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from robust_jax.data import Evaluation
from robust_jax.declarations import Column, Declaration, Figure
from robust_jax.suites.case import RowLabels, admitted
from robust_jax.suites.identity import digest
from robust_jax.suites.store import CaseStore
from robust_jax.types import LogitsFn, PRNGKey, Row


def no_progress(fraction: float = 1.0) -> None:
    """Ignore progress."""
    del fraction


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """Everything that suites evaluate with: one value for all suites of a run.

    >>> import jax
    >>> from robust_jax import suites
    >>> context = suites.Context(jax.random.key(0), predictor, digits)  # doctest: +SKIP
    >>> rows = list(suites.Clean().rows(context))  # doctest: +SKIP
    """

    key: PRNGKey
    """Key of all random choices."""
    predictor: LogitsFn
    """Predictor to evaluate: any callable from images to logits, or to the output that a suite asks for."""
    data: Evaluation
    """Examples to evaluate it on."""
    store: CaseStore = dataclasses.field(default_factory=CaseStore)
    """Finished cases, which are not computed again; by default in memory."""
    labels: RowLabels = RowLabels()
    """Run, model and seed that rows carry."""
    advance: Callable[..., None] = no_progress
    """Called with the fraction of a case that is done, or without an argument after a whole case."""
    load: Callable[[str], Evaluation] | None = None
    """Loads another split of the same data set, such as ``"train"``; None where there is none."""

    def classifier(self, image_shape: tuple[int, int, int] | None = None) -> LogitsFn:
        """Return the predictor, its logits checked against the classes of the data; see :func:`~case.admitted`."""
        return admitted(self.predictor, self.data, image_shape=image_shape)

    def fields(self, suite: str) -> dict[str, Any]:
        """Return the fields that all rows of a suite share: run, model, seed, dataset and suite."""
        return {**dataclasses.asdict(self.labels), "dataset": self.data.name, "suite": suite}

    def folder(self, name: str, *settings: object) -> str:
        """Return the folder of the store for cases of these data under settings: literals, components or keys."""
        return f"{name}_{digest(self.data.fingerprint, *settings)}"


class Suite(Protocol):
    """An evaluation recipe: a frozen dataclass that yields rows and declares how the report shows them.

    Subclasses define ``name``, ``columns`` and ``rows``; and where there is more to say ``num_cases``, ``figures`` and
    ``baseline``.
    """

    name: ClassVar[str]
    """Name in the rows."""
    baseline: ClassVar[str | None] = None
    """Case of the rows that holds the values on unchanged images, if there is one."""

    @property
    def num_cases(self) -> int:
        """Number of cases, for the progress bar."""
        return 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the table of runs, the most important first."""
        ...

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Figures and tables of the report, besides those columns."""
        return ()

    @property
    def declaration(self) -> Declaration:
        """How the report shows the rows."""
        return Declaration(self.name, self.columns, self.figures, self.baseline)

    def rows(self, context: Context) -> Iterator[Row]:
        """Yield the rows of each case as soon as it is done."""
        ...


def declarations(*suites: Mapping[str, Suite]) -> tuple[Declaration, ...]:
    """Return what the suites of one experiment or several declare, in their order, each declaration once."""
    return tuple(dict.fromkeys(suite.declaration for several in suites for suite in several.values()))
