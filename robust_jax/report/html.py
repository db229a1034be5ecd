"""Self-contained pages: of one run, and of several side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from robust_jax import config as configs_module
from robust_jax.core.files import write_atomically
from robust_jax.report.plots import error_curves, reliability_diagram, sample_grid
from robust_jax.report.tables import Runs, comparison_cells
from robust_jax.types import Row

STYLE = """
:root { --ink: #1d2330; --soft: #5c6475; --line: #dfe3ea; --paper: #ffffff; --shade: #f5f7fa; --mark: #1f5fbf; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #9aa3b5; --line: #333a48; --paper: #161a22; --shade: #1e2430; --mark: #7fb0ff; }
  figure svg { filter: invert(0.9) hue-rotate(180deg); }
  figure.photos svg { filter: none; background: #fff; }
}
body { margin: 0 auto; max-width: 74rem; padding: 2.5rem 1.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; }
p.sub, td small, figcaption { color: var(--soft); }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { padding: .45rem .9rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid var(--line); }
td.best b { color: var(--mark); } td small { display: block; font-size: .75rem; }
figure { margin: 0; overflow-x: auto; } figure svg { max-width: 100%; height: auto; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem;
  overflow-x: auto; font-size: .85rem; } summary { cursor: pointer; color: var(--mark); }
"""


def write_report(
    path: Path,
    rows: Sequence[Row],
    *,
    config: Mapping[str, Any],
    command: str,
    versions: Mapping[str, str],
    samples: Sequence[Any] = (),
) -> None:
    """Writes the page of one run.

    Args:
        path: the file.
        rows: its results.
        config: the experiment's tree.
        command: how to make it again.
        versions: what it was made with.
        samples: grids of images to show.
    """
    name = rows[0].run if rows else "run"
    first = rows[0] if rows else None
    runs = {name: rows}
    sections = [
        _section("Results", _table(runs)),
        _figure("Error under random noise", error_curves(runs), "Error against the radius eps of the noise, by norm."),
        _figure("Calibration", reliability_diagram(runs), "Accuracy against confidence; bars are 95 % intervals."),
        *(
            _figure("Samples", sample_grid(grid), "What is predicted, with its confidence; red is wrong.", "photos")
            for grid in samples
        ),
        _section("Command", f"<pre>{escape(command)}</pre>"),
        _section("Configuration", _details("show", json.dumps(config, indent=2))),
        _section("Versions", _pairs(versions)),
    ]
    sub = f"{first.model} on {first.dataset}, seed {first.seed}" if first else ""
    write_atomically(path, _page(name, sub, sections))


def write_comparison(path: Path, runs: Runs, *, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the page of several runs, the baseline first, with what differs in their configurations."""
    sections = [
        _section("Results", _table(runs)),
        _figure("Error under random noise", error_curves(runs), "Error against the radius eps of the noise, by norm."),
        _figure("Calibration", reliability_diagram(runs), "Accuracy against confidence; bars are 95 % intervals."),
        _section("What differs", _differences(configs)),
    ]
    write_atomically(path, _page("Comparison", ", ".join(runs), sections))


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


def _table(runs: Runs) -> str:
    titles, cells = comparison_cells(runs)
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


def _differences(configs: Mapping[str, Mapping[str, Any]]) -> str:
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


def _details(summary: str, text: str) -> str:
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def _pairs(pairs: Mapping[str, str]) -> str:
    lines = (f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in pairs.items())
    return f"<table><tbody>{''.join(lines)}</tbody></table>"
