"""From an experiment to one predictor: its members trained, together or in turn, and the posterior of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
from rich.console import Console

from robust_jax import data, posteriors, predictors
from robust_jax.core.keys import RunKeys
from robust_jax.core.mesh import data_mesh
from robust_jax.tasks import Regression
from robust_jax.train.experiment import Experiment
from robust_jax.train.loop import Trained, fit_members, restore
from robust_jax.train.state import Variables
from robust_jax.types import Evaluation, LogitsFn, Task


@dataclasses.dataclass(frozen=True)
class TrainedEnsemble:
    """Members, and what they predict together: as :class:`~robust_jax.train.Trained`."""

    predictor: LogitsFn
    """Mean of the members: logits of classes, or means and variances for regression."""
    members: tuple[Trained, ...]
    """Each network; in place of one, its snapshots where it has any."""

    @property
    def step(self) -> int:
        """Of the member that is least far."""
        return min(member.step for member in self.members)

    @property
    def total_steps(self) -> int:
        """Of each member."""
        return self.members[0].total_steps


def member_experiments(experiment: Experiment) -> list[Experiment]:
    """What each member is alone: the same with a seed of its own, and no posterior.

    Member i of M has the seed ``seed * M + i``, so that experiments of other seeds share none.
    """
    return [
        dataclasses.replace(experiment, members=1, posterior=None, seed=experiment.seed * experiment.members + i)
        for i in range(experiment.members)
    ]


def fit_predictor(
    experiment: Experiment,
    workdir: Path | None = None,
    *,
    initial: Sequence[Variables] | None = None,
    console: Console | None = None,
) -> TrainedEnsemble:
    """Trains every member, together or in turn as ``execution.member_map`` says, and fits the posterior.

    Args:
        experiment: what to train.
        workdir: where the network goes, or where there are several each in ``member_I``; see
            :func:`~robust_jax.train.fit`.
        initial: variables that each member starts from, in place of ``experiment.initial``.
        console: where progress is shown; None shows none.

    Raises:
        ValueError: if the posterior is fitted to held-out examples and the data hold none out.
        As :func:`~robust_jax.train.fit` and the posterior do.
    """
    folders = [None] * experiment.members if workdir is None else _folders(experiment, workdir)
    return _predictor(experiment, lambda members: fit_members(members, folders, initial=initial, console=console))


def restore_predictor(experiment: Experiment, workdir: Path) -> TrainedEnsemble:
    """The same from the newest readable checkpoints, without training; the posterior is fitted again.

    Raises:
        FileNotFoundError: where a member has none.
    """
    return _predictor(experiment, lambda members: map(restore, members, _folders(experiment, workdir)))


def _folders(experiment: Experiment, workdir: Path) -> list[Path]:
    """Folder of each member."""
    return [workdir / f"member_{i}" for i in range(experiment.members)] if experiment.members > 1 else [workdir]


def _predictor(experiment: Experiment, train: Callable[[list[Experiment]], Iterable[Trained]]) -> TrainedEnsemble:
    # Before hours are spent on training: it raises where nothing is held out for a posterior that wants it.
    posterior = experiment.posterior
    sources = [] if posterior is None else list(map(experiment.data.load, fit_splits(posterior)))
    trained = train(member_experiments(experiment))
    members = tuple(member for one in trained for member in _snapshots(one))
    parts: list[LogitsFn] = [member.predictor for member in members]
    if posterior is not None:
        examples = [_as_they_are(experiment, source) for source in sources]
        parts = [_fit_posterior(experiment, posterior, member, i, examples) for i, member in enumerate(members)]
    return TrainedEnsemble(_together(parts, members[0].task), members)


def _together(parts: list[LogitsFn], task: Task | None) -> LogitsFn:
    """Combine equally likely members as their task says: normal distributions, or else probabilities of classes."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(task, Regression):
        return posteriors.gaussian_ensemble(parts, variance=task.variance, least_variance=task.least_variance)
    return predictors.ensemble(parts)


def fit_splits(posterior: posteriors.Posterior) -> tuple[str, ...]:
    """Which examples a posterior is fitted to: ``train``, or what it calls ``fit_splits``; its ``fit`` takes each."""
    return getattr(posterior, "fit_splits", ("train",))


def _snapshots(trained: Trained) -> tuple[Trained, ...]:
    """Each as a network of its own, where there are any."""
    taken = [dataclasses.replace(trained, variables=variables, snapshots=()) for variables in trained.snapshots]
    return tuple(taken) or (trained,)


def _as_they_are(experiment: Experiment, source: data.Source) -> Evaluation:
    mesh = data_mesh(jax.devices()[: experiment.execution.num_devices])
    return data.evaluation(source, batch_size=experiment.execution.eval_batch_size, mesh=mesh)


def _fit_posterior(
    experiment: Experiment, posterior: posteriors.Posterior, trained: Trained, member: int, examples: list[Evaluation]
) -> LogitsFn:
    key = RunKeys(jax.random.key(experiment.seed)).posterior(member)
    fit_key, predict_key = jax.random.split(key)
    batches = [split.batches() for split in examples]
    fitted = posterior.fit(fit_key, trained.model, trained.variables, *batches)
    return fitted.bind(predict_key) if isinstance(fitted, predictors.Draws) else fitted
