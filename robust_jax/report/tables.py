"""One table of several runs: a line a run, the baseline first, the best of every column marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from robust_jax.types import Row


class Column(NamedTuple):
    """A summary metric, and how it is written."""

    title: str
    suite: str
    case: str
    metric: str
    scale: float
    digits: int


# Lower is better in all of them, as they are written.
COLUMNS = (
    Column("clean error %", "clean", "clean", "error", 100, 2),
    Column("mCE_Lp %", "random_lp", "all", "mCE_Lp", 100, 2),
    Column("iCE %", "random_lp", "imperceptible", "iCE", 100, 2),
    Column("mean error 15 %", "common_corruptions", "all", "mean_error_15", 100, 2),
    Column("mean error 19 %", "common_corruptions", "all", "mean_error_19", 100, 2),
    Column("mean error %", "common_corruptions", "all", "mean_error", 100, 2),
    Column("mCE (AlexNet) %", "common_corruptions", "all", "mCE_AlexNet", 100, 1),
    Column("mean flips %", "perturbations", "all", "mean_flip_probability", 100, 2),
    Column("mFR (AlexNet) %", "perturbations", "all", "mFR_AlexNet", 100, 1),
    Column("C-bar error %", "corruptions_bar", "all", "mean_error", 100, 2),
    Column("C-bar − C %", "corruptions_bar", "all", "mean_error_bar_minus_15", 100, 2),
    Column("error C and C-bar %", "interventions", "all", "mean_error", 100, 2),
    *(
        Column(f"{variable} %", "interventions", f"variable {variable}", "mean_error", 100, 1)
        for variable in ("illumination", "weather", "optics", "motion", "sensor", "processing", "transmission")
    ),
    Column("shifted error %", "natural_shift", "all", "mean_error", 100, 2),
    Column("accuracy drop %", "natural_shift", "all", "mean_accuracy_drop", 100, 2),
    *(Column(f"−MSCR {norm} %", "class_separation", norm, "MSCR", -100, 2) for norm in ("Linf", "L2", "L1")),
    *(
        Column(f"{attack} error %", "adversarial", attack, "error", 100, 2)
        for attack in ("PGD Linf", "PGD L2", "APGD Linf", "APGD L2", "worst")
    ),
    *(
        Column(f"AutoAttack error {norm} %", "autoattack", f"AutoAttack {norm}", "error", 100, 2)
        for norm in ("Linf", "L2", "L1")
    ),
    *(
        Column(f"{case}{votes} error %", "spatial", f"{case}{votes}", "error", 100, 2)
        for votes in ("", ", vote of 10")
        for case in ("clean", "random", "worst of 10", "first order", "grid")
    ),
    *(
        Column(f"{metric.replace('_', ' ')} %", "universal", "perturbation", metric, 100, 1)
        for metric in ("success_rate", "transfer_rate", "locality", "translation_invariance")
    ),
    Column("RMSE", "regression", "test", "rmse", 1, 4),
    Column("Gaussian NLL", "regression", "test", "nll", 1, 3),
    Column("mixture NLL", "regression", "test", "mixture_nll", 1, 3),
    Column("translation error %", "translation", "all", "mean_error", 100, 2),
    Column("−consistency %", "translation", "all", "mean_consistency", -100, 2),
    *(
        Column(f"−range of {name}", "learned_ranges", name, "range", -1, 3)
        for name in ("rotate", "translate_x", "translate_y")
    ),
    Column("−mean IoU %", "segmentation", "clean", "mean_iou", -100, 2),
    Column("−corrupted mean IoU %", "segmentation", "all", "mean_iou", -100, 2),
    Column("pixel error %", "segmentation", "clean", "error", 100, 2),
    Column("corrupted pixel error %", "segmentation", "all", "error", 100, 2),
    Column("−PSNR dB", "denoising", "denoised", "psnr", -1, 2),
    Column("−PSNR random dB", "denoising", "random", "psnr", -1, 2),
    Column("−PSNR ObsAtk dB", "denoising", "ObsAtk", "psnr", -1, 2),
    Column("drop random dB", "denoising", "random", "psnr_drop", 1, 2),
    Column("drop ObsAtk dB", "denoising", "ObsAtk", "psnr_drop", 1, 2),
    Column("−OOD AUROC %", "out_of_distribution", "all: max_probability", "auroc", -100, 2),
    Column("OOD FPR95 (out) %", "out_of_distribution", "all: max_probability", "fpr95_out", 100, 2),
    Column("NLL", "clean", "clean", "nll", 1, 3),
    *(
        Column(f"{title} of {number}", "members", f"{number} members", metric, scale, digits)
        for title, metric, scale, digits in (("NLL", "nll", 1, 3), ("error %", "error", 100, 2))
        for number in (1, 2, 5, 50)
    ),
    Column("corrupted NLL", "common_corruptions", "all", "mean_nll", 1, 3),
    Column("Brier", "clean", "clean", "brier", 1, 3),
    Column("ECE %", "clean", "clean", "ece", 100, 2),
    Column("calibrated NLL", "calibration", "clean", "calibrated_nll", 1, 3),
    *(
        Column(f"{title}, {name}", "calibration", shift, metric, scale, digits)
        for name, shift in (("corrupted", "corruptions"), ("rotated", "rotation"), ("translated", "translation"))
        for title, metric, scale, digits in (("NLL", "mean_nll", 1, 3), ("ECE %", "mean_ece", 100, 2))
    ),
)
Runs = Mapping[str, Sequence[Row]]


class Cell(NamedTuple):
    value: str
    interval: str
    best: bool


def comparison_cells(runs: Runs) -> tuple[list[str], dict[str, list[Cell]]]:
    """Column titles, and the cells of every run; only columns that some run has."""
    found = {name: {(row.suite, row.case, row.metric): row for row in rows if row.suite} for name, rows in runs.items()}
    columns = [c for c in COLUMNS if any((c.suite, c.case, c.metric) in rows for rows in found.values())]
    cells: dict[str, list[Cell]] = {name: [] for name in runs}
    for column in columns:
        rows = {name: table.get((column.suite, column.case, column.metric)) for name, table in found.items()}
        for name, row in rows.items():
            # Values on other data are no rivals.
            rivals = [other.value for other in rows.values() if row and other and other.dataset == row.dataset]
            values = [value for value in rivals if not math.isnan(value)]
            best = min(values, key=lambda value: value * column.scale) if len(runs) > 1 and values else None
            cells[name].append(_cell(row, column, best))
    return [column.title for column in columns], cells


def comparison_table(runs: Runs, *, title: str | None = None) -> Table:
    """For the terminal."""
    titles, cells = comparison_cells(runs)
    table = Table(title=title, caption="95 % intervals, bootstrap or over seeds; best in bold", caption_justify="left")
    table.add_column("run", overflow="fold", min_width=10)
    for text in titles:
        table.add_column(text, justify="right")
    for name, row in cells.items():
        table.add_row(escape(name), *(_rich(cell) for cell in row))
    return table


def comparison_markdown(runs: Runs) -> str:
    """For a README."""
    titles, cells = comparison_cells(runs)
    lines = ["| run | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for name, row in cells.items():
        texts = [f"**{cell.value}** {cell.interval}" if cell.best else f"{cell.value} {cell.interval}" for cell in row]
        lines.append(f"| {name.replace('|', chr(92) + '|')} | " + " | ".join(text.strip() for text in texts) + " |")
    return "\n".join(lines)


def headline(runs: Runs) -> str:
    """The table in a sentence: the first three columns' values of every run, in the order of the runs."""
    titles, cells = comparison_cells(runs)
    shown = min(3, len(titles))
    figures = ", ".join(f"{name} {' / '.join(cell.value for cell in row[:shown])}" for name, row in cells.items())
    return f"{' / '.join(titles[:shown])}: {figures}"


def _cell(row: Row | None, column: Column, best: float | None) -> Cell:
    if row is None:
        return Cell("–", "", False)
    # Without the sign that 0 gets from a negative scale.
    value = f"{row.value * column.scale + 0.0:.{column.digits}f}"
    if row.low is None or row.high is None:
        return Cell(value, "", row.value == best)
    bounds = sorted(bound * column.scale + 0.0 for bound in (row.low, row.high))
    low, high = (f"{bound:.{column.digits}f}" for bound in bounds)
    return Cell(value, f"[{low}, {high}]", row.value == best)


def _rich(cell: Cell) -> str:
    value = f"[bold]{cell.value}[/bold]" if cell.best else cell.value
    return f"{value} [dim]\\{cell.interval}[/dim]" if cell.interval else value
