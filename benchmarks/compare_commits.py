"""Run experiment files at two commits and compare their rows.

    python benchmarks/compare_commits.py 43ae978 HEAD --files experiments/random_lp.py experiments/augmix.py

Rows are matched by run, data set, suite, case, severity, metric and seed; times are not compared. Prints the number of
rows that agree per file and, per run, of those that do not; exits with status 1 if there is one.

Networks with ReLU amplify rounding: an activation within rounding of 0 changes the gradient by 1e-4, and training
diverges from there. Compare changes of rounding with a smooth activation::

    python benchmarks/compare_commits.py 43ae978 HEAD --files experiments/random_lp.py \
        --overrides --model.activation silu

or see how far rounding alone moves the rows of one commit, with programs for another instruction set::

    python benchmarks/compare_commits.py 43ae978 43ae978 --files experiments/random_lp.py \
        --xla-flags=--xla_cpu_max_isa=AVX2
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
KEY = ("run", "dataset", "suite", "case", "severity", "metric", "seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", help="commit whose rows are expected")
    parser.add_argument("after", help="commit whose rows are checked")
    parser.add_argument("--files", nargs="+", required=True, help="experiment files, relative to the repository")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest difference, relative to max(1, |value|)")
    parser.add_argument("--xla-flags", default="", help="XLA flags of the second commit alone")
    parser.add_argument(
        "--workdir", type=Path, help="keep checkouts and results there; a second call runs only what is missing"
    )
    parser.add_argument("--overrides", nargs=argparse.REMAINDER, default=[], help="fields of every run; given last")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        workdir = args.workdir or Path(folder)
        differ = 0
        for file in args.files:
            expected, found = (
                rows_of(workdir, commit, file, args.scale, args.overrides, flags)
                for commit, flags in ((args.before, ""), (args.after, args.xla_flags))
            )
            differ += compare(file, expected, found, args.tolerance)
    sys.exit(1 if differ else 0)


def rows_of(
    workdir: Path, commit: str, file: str, scale: str, overrides: list[str], xla_flags: str
) -> dict[tuple[object, ...], dict[str, float]]:
    """Return the rows of an experiment file at a commit, by key."""
    commit = git("rev-parse", "--short", f"{commit}^{{commit}}").strip()
    tree = workdir / f"tree_{commit}"
    results = workdir / "_".join([f"rows_{commit}", *xla_flags.split(), *overrides]) / Path(file).stem
    if not tree.exists():
        tree.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x"], cwd=tree, input=archive, check=True)
    command = [
        sys.executable,
        "-m",
        "robust_jax",
        "run",
        file,
        "--scale",
        scale,
        "--workdir",
        str(results.resolve()),
        *overrides,
    ]
    environment = os.environ | {"PYTHONPATH": str(tree.resolve())}
    if xla_flags:
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
    subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    rows: dict[tuple[object, ...], dict[str, float]] = {}
    for path in sorted(results.glob("*/results.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if row["metric"] == "seconds":
                continue
            numbers = {name: float(row[name]) for name in ("value", "low", "high", "count") if row[name] is not None}
            rows[tuple(row[name] for name in KEY)] = numbers
    return rows


def compare(
    file: str,
    expected: dict[tuple[object, ...], dict[str, float]],
    found: dict[tuple[object, ...], dict[str, float]],
    tolerance: float,
) -> int:
    """Print how the rows differ, and return the number of those that do."""
    missing, new = [key for key in expected if key not in found], [key for key in found if key not in expected]
    worst: dict[tuple[object, ...], float] = {}
    for key in expected.keys() & found.keys():
        before, after = expected[key], found[key]
        if before.keys() != after.keys():
            worst[key] = math.inf
            continue
        difference = max(
            abs(after[name] - value) / max(1.0, abs(value)) if after[name] != value else 0.0
            for name, value in before.items()
        )
        if not difference <= tolerance:
            worst[key] = difference
    shared = len(expected) - len(missing)
    print(
        f"{file}: {shared - len(worst)} of {len(expected)} rows agree within {tolerance:g}; {len(missing)} missing, "
        f"{len(new)} new"
    )
    for key in missing:
        print(f"  missing {key}")
    for run, count in collections.Counter(str(key[0]) for key in worst).items():
        print(f"  {count} rows of {run} differ, by up to {max(v for k, v in worst.items() if k[0] == run):.2g}")
    return len(missing) + len(worst)


def git(*command: str) -> str:
    return subprocess.run(["git", *command], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
