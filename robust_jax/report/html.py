"""Self-contained pages: of one run, and of several side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from robust_jax import config as configs_module
from robust_jax.config import Tree
from robust_jax.core.files import write_atomically
from robust_jax.report.calibration_plots import member_disagreement, severity_box_plots
from robust_jax.report.corruption_plots import severity_curves, severity_heat_map
from robust_jax.report.curves import curve_figures
from robust_jax.report.plots import Samples, reliability_diagram, sample_grid
from robust_jax.report.seeds import pool_seeds
from robust_jax.report.shift_plots import effective_robustness_plot, effective_robustness_table
from robust_jax.report.tables import Declared, Runs, comparison_cells
from robust_jax.report.text_tables import TextTable, suite_tables
from robust_jax.types import Row

STYLE = """
:root { --ink: #1d2330; --soft: #5c6475; --line: #dfe3ea; --paper: #ffffff; --shade: #f5f7fa; --mark: #1f5fbf;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #9aa3b5; --line: #333a48; --paper: #161a22; --shade: #1e2430; --mark: #7fb0ff; }
}
body { margin: 0 auto; max-width: 74rem; padding: 2.5rem 1.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; }
p.sub, td small, figcaption { color: var(--soft); }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { padding: .45rem .9rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid var(--line); }
td.best b { color: var(--mark); } td small { display: block; font-size: .75rem; }
td b { font-weight: 600; } td.best b { font-weight: 700; } table.cases td:nth-child(2) { text-align: left; }
figure { margin: 0; overflow-x: auto; } figure svg { max-width: 100%; height: auto; }
figure.curves svg { width: 100%; } figcaption { font-size: .9rem; margin-top: .3rem; max-width: 60rem; }
details > :not(summary) { margin-top: .7rem; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem;
  overflow-x: auto; font-size: .85rem; } summary { cursor: pointer; color: var(--mark); }
"""

SEVERITY_CAPTION = "Mean error of each group of cases against their severity; dotted lines are the clean error."
HEAT_MAP_CAPTION = "Error in % of each case at each severity."
CALIBRATION_CAPTION = (
    "Accuracy against confidence, in bins; on the dashed line confidence equals accuracy. "
    "Bars are 95 % intervals, larger marks stand for more examples."
)
BOXES_CAPTION = "By severity, over cases: boxes are of quartiles, whiskers reach to the best and the worst case."
MEMBERS_CAPTION = "How often two members predict different classes, in %; on the diagonal is the error of each."
SHIFT_CAPTION = (
    "Accuracy under shift against accuracy on clean images, on axes of logits. Round marks are standard models, to "
    "which the line is fitted; what lies above it is effectively robust. On the dashed line nothing is lost. "
    "Bars are 95 % intervals."
)
SAMPLES_CAPTION = "What is predicted, and its confidence; red is wrong. The true class is at the left."
RESTORED_CAPTION = "What became of images; PSNR is to the clean ones. Values beyond black and white are cut off."


def write_report(
    path: Path,
    rows: Sequence[Row],
    declared: Declared,
    *,
    config: Mapping[str, Tree],
    command: str,
    versions: Mapping[str, str],
    samples: Sequence[Samples] = (),
) -> None:
    """Writes the page of one run.

    Args:
        path: the file.
        rows: its results.
        declared: how its suites show them.
        config: the experiment's tree.
        command: how to make it again.
        versions: what it was made with.
        samples: grids of images to show.
    """
    first = rows[0] if rows else None
    runs = {first.run if first else "run": rows}
    sections = [
        _section("Results", _table(runs, declared) + _details("Every case", _cases(rows))),
        *_plots(runs, declared),
        *(_figure("Samples", sample_grid(grid), _samples_caption(grid)) for grid in samples),
        _section("Command", f"<pre>{escape(command)}</pre>"),
        _section("Configuration", _details("As JSON", f"<pre>{escape(json.dumps(config, indent=2))}</pre>")),
        _section("Versions", _pairs(versions)),
    ]
    sub = (
        f"{first.model} on {first.dataset}, seed {first.seed}, {max(row.count for row in rows):,} examples"
        if first
        else ""
    )
    write_atomically(path, _page(next(iter(runs)), sub, sections))


def write_comparison(path: Path, runs: Runs, declared: Declared, *, configs: Mapping[str, Mapping[str, Tree]]) -> None:
    """Writes the page of several runs, the baseline first, with what differs in their configurations.

    Runs that differ in their seed are shown as one, see :func:`~robust_jax.report.pool_seeds`.
    """
    pooled = pool_seeds(runs)
    results = _table(pooled, declared) + (
        _details("Every seed", _table(runs, declared)) if len(pooled) < len(runs) else ""
    )
    sections = [
        _section("Results", results),
        *_plots(pooled, declared),
        _section("What differs", _differences(configs)),
    ]
    write_atomically(path, _page("Comparison", ", ".join(runs), sections))


def _plots(runs: Runs, declared: Declared) -> list[str]:
    shift = _figure("Effective robustness", effective_robustness_plot(runs, declared), SHIFT_CAPTION, "curves")
    return [
        *(_figure(figure.title, text, figure.caption, "curves") for figure, text in curve_figures(runs, declared)),
        *(_text_table(title, table) for title, table in suite_tables(runs, declared).items()),
        _figure("Error by severity", severity_curves(runs, declared), SEVERITY_CAPTION, "curves"),
        _figure("Case and severity", severity_heat_map(runs, declared), HEAT_MAP_CAPTION),
        shift + _effective(runs, declared),
        _figure("Calibration", reliability_diagram(runs, declared), CALIBRATION_CAPTION),
        _figure("Calibration by severity", severity_box_plots(runs, declared), BOXES_CAPTION, "curves"),
        _figure("Disagreement of members", member_disagreement(runs, declared), MEMBERS_CAPTION),
    ]


def _samples_caption(samples: Samples) -> str:
    return RESTORED_CAPTION if samples.confidences is None else SAMPLES_CAPTION


def _page(title: str, sub: str, sections: Sequence[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>{escape(title)}</h1><p class="sub">{escape(sub)}</p>{"".join(sections)}</body></html>\n'
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _figure(title: str, svg: str | None, caption: str, kind: str = "") -> str:
    if svg is None:
        return ""
    caption = f"<figcaption>{escape(caption)}</figcaption>"
    return _section(title, f'<figure class="{kind}">{svg}{caption}</figure>')


def _table(runs: Runs, declared: Declared) -> str:
    titles, cells = comparison_cells(runs, declared)
    head = "".join(f"<th>{escape(title)}</th>" for title in ("run", *titles))
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(
            f'<td class="{"best" if cell.best else ""}"><b>{escape(cell.value)}</b>'
            f"<small>{escape(cell.interval)}</small></td>"
            for cell in row
        )
        + "</tr>"
        for name, row in cells.items()
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _effective(runs: Runs, declared: Declared) -> str:
    found = effective_robustness_table(runs, declared)
    if not found:
        return ""
    titles = ("shift", "run", "clean accuracy %", "under shift %", "effective robustness", "relative robustness")
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = ""
    for line in found:
        changes = ("–" if value is None else f"{100 * value:+.2f}" for value in (line.effective, line.relative))
        accuracies = (f"{100 * value:.2f}" for value in (line.clean_accuracy, line.shifted_accuracy))
        cells = (line.shift, line.run, *accuracies, *changes)
        body += "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    table = f'<table class="cases"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return _details("As a table, in points", f'<div class="wide">{table}</div>')


def _text_table(title: str, table: TextTable) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in table.titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in line) + "</tr>" for line in table.lines)
    shown = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _section(title, f'<div class="wide">{shown}</div>')


def _differences(configs: Mapping[str, Mapping[str, Tree]]) -> str:
    names = list(configs)
    if len(names) < 2:
        return "<p>One run.</p>"
    baseline = configs[names[0]]
    lines = []
    for name in names[1:]:
        for path, before, after in configs_module.diff(dict(baseline), dict(configs[name])):
            cells = (name, path, json.dumps(before), json.dumps(after))
            lines.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    if not lines:
        return "<p>Nothing.</p>"
    head = "".join(f"<th>{escape(text)}</th>" for text in ("run", "field", names[0], "here"))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _cases(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in ("suite", "case", "metric", "value", "interval", "count"))
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in _case_cells(row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="cases"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _case_cells(row: Row) -> tuple[str, ...]:
    interval = "" if row.low is None or row.high is None else f"[{row.low:.4g}, {row.high:.4g}]"
    return row.suite, row.case, row.metric, f"{row.value:.4g}", interval, f"{row.count:,}"


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def _pairs(pairs: Mapping[str, str]) -> str:
    lines = (f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in pairs.items())
    return f"<table><tbody>{''.join(lines)}</tbody></table>"
