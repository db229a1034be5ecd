"""``robust-jax run``: train, evaluate and report the runs of an experiment file."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from robust_jax import __version__, config, data, report, suites
from robust_jax.commands import workdir as folders
from robust_jax.commands.experiment_file import load_experiment_file
from robust_jax.commands.options import Run
from robust_jax.commands.overrides import override_experiment
from robust_jax.commands.sources import source_variables, train_source, with_sources
from robust_jax.core.files import write_atomically
from robust_jax.core.keys import RunKeys
from robust_jax.core.mesh import data_mesh
from robust_jax.train import Experiment, FromRun, Preempted, TrainedEnsemble, Variables, fit_predictor
from robust_jax.types import Row

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def run(options: Run, overrides: list[str], *, command: str) -> int:
    """Does every chosen run and prints the table; returns the exit status."""
    file = load_experiment_file(options.file)
    chosen = file.runs(options.scale, options.only)
    every = {
        name: override_experiment(options, experiment, overrides, prog=f"robust-jax run {options.file}")
        for name, experiment in with_sources(file.runs(options.scale), chosen).items()
    }
    folder = Path(options.workdir or Path("runs") / file.slug / options.scale)
    console = Console()
    rows, runs = {}, {name: every[name] for name in chosen}
    for name, experiment in every.items():
        initial = None
        if isinstance(experiment.initial, FromRun):
            source = experiment.initial.name
            initial = source_variables(every[source], folder / source, experiment)
        if name in chosen:
            settings = {"command": command, "initial": initial, "console": console}
            rows[name] = run_experiment(name, experiment, folder / name, **settings)
        else:
            train_source(name, experiment, folder / name, command=command, initial=initial, console=console)
    if jax.process_index() == 0:
        trees = {name: config.to_tree(experiment) for name, experiment in runs.items()}
        declared = suites.declarations(*(experiment.suites for experiment in runs.values()))
        report.write_comparison(folder / folders.COMPARISON, rows, declared, configs=trees)
        pooled = report.pool_seeds(rows)
        console.print(report.comparison_table(pooled, declared, title=f"{file.slug}, {options.scale}"))
        for title, table in report.suite_tables(pooled, declared).items():
            console.print(table.terminal(title))
        for name in runs:
            console.print(f"{name}: {folder / name / folders.REPORT}", soft_wrap=True)
        console.print(f"comparison: {folder / folders.COMPARISON}", soft_wrap=True)
    return 0


def run_experiment(
    name: str,
    experiment: Experiment,
    workdir: Path,
    *,
    command: str = "",
    initial: Sequence[Variables] | None = None,
    console: Console | None = None,
) -> list[Row]:
    """Trains, evaluates and reports one run in its work folder; what is finished there is not done again.

    Args:
        name: what the run is called in tables.
        experiment: what to do.
        workdir: its folder; see :mod:`robust_jax.commands.workdir`.
        command: how to do it again, for the report.
        initial: variables that each member starts from, where another run gives them.
        console: where progress is shown; None shows none.

    Returns:
        Its rows.

    Raises:
        ConfigError: if the folder holds another experiment.
        NonFiniteLossError: if training diverges.
        Preempted: after SIGTERM, when everything is saved.
    """
    folders.claim(workdir, experiment, command)
    results = workdir / folders.RESULTS
    if results.exists():
        _say(console, f"{name}: finished before, in {workdir}")
        return report.read_rows(results)
    _say(console, f"{name}: {type(experiment.model).__name__} on {experiment.data.name}")
    try:
        trained = fit_predictor(experiment, workdir, initial=initial, console=console)
    except Preempted as stop:
        _say(console, f"{name}: stopped and saved at step {stop.step}; the same command goes on.")
        raise
    return evaluate_and_report(name, experiment, trained, workdir, command=command, console=console)


def evaluate_and_report(
    name: str, experiment: Experiment, trained: TrainedEnsemble, workdir: Path, *, command: str, console: Console | None
) -> list[Row]:
    """Runs the suites on the test split; writes ``declarations.json``, ``results.jsonl`` and ``report.html``."""
    context = evaluation_context(name, experiment, trained, workdir)
    rows = suites.evaluate(experiment.suites, context, console=console)
    samples = [suite.samples(context) for suite in experiment.suites.values() if isinstance(suite, suites.HasSamples)]
    if jax.process_index() == 0:
        declared = suites.declarations(experiment.suites)
        write_atomically(workdir / folders.DECLARATIONS, config.to_json(declared) + "\n")
        report.write_rows(workdir / folders.RESULTS, rows)
        report.write_report(
            workdir / folders.REPORT,
            rows,
            declared,
            config=config.to_tree(experiment),
            command=command,
            versions=versions(),
            samples=samples,
        )
    return rows


def evaluation_context(name: str, experiment: Experiment, trained: TrainedEnsemble, workdir: Path) -> suites.Context:
    """Return the predictor of a run with its test split, its store of finished cases and the labels of its rows."""
    execution = experiment.execution
    mesh = data_mesh(jax.devices()[: execution.num_devices])

    def load(split: str) -> data.Evaluation:
        return data.evaluation(experiment.data.load(split), batch_size=execution.eval_batch_size, mesh=mesh)

    return suites.Context(
        RunKeys(jax.random.key(experiment.seed)).evaluation(),
        trained.predictor,
        load("test"),
        store=suites.CaseStore(workdir / folders.EVALUATION),
        labels=suites.RowLabels(run=name, model=type(experiment.model).__name__, seed=experiment.seed),
        load=load,
    )


def versions() -> dict[str, str]:
    """What the numbers depend on beside the configuration."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "robust_jax": __version__,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "products": jax.default_matmul_precision.value or "float32",
        "device": f"{jax.device_count()} × {device.device_kind}, {jax.process_count()} process(es)",
    }


def _say(console: Console | None, text: str) -> None:
    if console is not None and jax.process_index() == 0:
        console.print(text, soft_wrap=True)
