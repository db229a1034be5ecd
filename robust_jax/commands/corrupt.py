"""``robust-jax corrupt``: corrupted copies of images, as files or as arrays, and a sheet to look at."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robust_jax import corruptions
from robust_jax.commands.corrupt_batches import corrupt_all
from robust_jax.commands.corrupt_inputs import ARRAYS, TFDS, Inputs, open_inputs
from robust_jax.commands.corrupt_outputs import GALLERY, LABELS, Arrays, Files, Outputs, contact_sheet, replace_file
from robust_jax.commands.options import Corrupt, UsageError
from robust_jax.core.checks import nearest

SETTINGS = "corrupt.json"
# What may differ between commands that write to one folder of files: more corruptions and severities join the others.
ADDITIVE = ("corruptions", "severities")
MANY_SIZES = 50


def corrupt(options: Corrupt) -> int:
    """Corrupts everything and returns the exit status: 1 if an image could not be read or corrupted.

    Raises:
        UsageError: if an option cannot be meant so.
        FileNotFoundError: if the source, or the folder of frost, is not there.
        ValueError: if the source holds no images of 8 bits, or the folder of outputs something else.
        OSError: if an output cannot be written.
    """
    names, severities = parse_corruptions(options.corruption), parse_severities(options.severity)
    _check(options)
    out = Path(options.out)
    kind = _kind(options)
    workers = options.workers or os.cpu_count() or 1
    components = {name: _component(name, options) for name in names}
    _check_claim(out)
    inputs = open_inputs(
        options.source,
        size=options.size,
        split=options.split,
        data_dir=options.data_dir,
        whole=kind == "npy",
        skip=out,
        workers=workers,
    )
    console, failures = Console(), _Failures(inputs.unreadable)
    if inputs.items:
        _claim(out, options, kind, names, severities, inputs)
        outputs = _outputs(out, kind, options, severities, inputs)
        _warn_of_sizes(console, inputs, names)
        _run(console, options, inputs, outputs, components, failures, workers)
        if options.gallery:
            _write_gallery(out, inputs, outputs, names, severities)
    console.print(f"{len(inputs.items)} images, {len(names)} corruptions, {len(severities)} severities: {out}")
    return failures.report()


def parse_corruptions(text: str) -> tuple[str, ...]:
    """Names and groups with commas between, as names, each once.

    Raises:
        UsageError: naming the nearest valid one.
    """
    groups = {
        "all": (*corruptions.COMMON, *corruptions.EXTRA),
        "common": corruptions.COMMON,
        "extra": corruptions.EXTRA,
        "bar": corruptions.BAR_IMAGENET,
        "bar-cifar": corruptions.BAR_CIFAR,
    }
    singles = dict.fromkeys(name for group in groups.values() for name in group)
    found: list[str] = []
    for word in filter(None, re.split(r"[,\s]+", text)):
        if word not in groups and word not in singles:
            raise UsageError(f"Unknown corruption {word!r}.{nearest(word, [*groups, *singles])}")
        found += groups.get(word, (word,))
    if not found:
        raise UsageError(f"Expected --corruption as a name or a group, got {text!r}.{nearest(text, groups)}")
    return tuple(dict.fromkeys(found))


def parse_severities(text: str) -> tuple[float, ...]:
    """Numbers and ranges with commas between, as ``1-5``, ``3``, ``1,3,5``, ``2.5``, in order, each once.

    Raises:
        UsageError: if one is not a number, or outside 0 to 5.
    """
    found: set[float] = set()
    for word in filter(None, re.split(r"[,\s]+", text)):
        match = re.fullmatch(r"(\d+)-(\d+)", word)
        try:
            found |= {float(i) for i in range(int(match[1]), int(match[2]) + 1)} if match else {float(word)}
        except ValueError:
            found.add(float("nan"))
        if not all(0 <= severity <= 5 for severity in found) or (match and int(match[1]) > int(match[2])):
            raise UsageError(f"Expected --severity within 0 to 5, as 1-5, 3, 1,3,5 or 2.5, got {text!r}.")
    if not found:
        raise UsageError(f"Expected --severity as 1-5, 3, 1,3,5 or 2.5, got {text!r}.")
    return tuple(sorted(found))


def _check(options: Corrupt) -> None:
    for name, low, high in (("quality", 1, 100), ("size", 1, None), ("workers", 1, None)):
        value = getattr(options, name)
        if value is not None and not (low <= value and (high is None or value <= high)):
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            raise UsageError(f"Expected --{name} {bounds}, got {value}.")


def _kind(options: Corrupt) -> str:
    if options.format != "auto":
        return options.format
    arrays = options.source.startswith(TFDS) or Path(options.source).suffix.lower() in ARRAYS
    return "npy" if arrays else "files"


def _component(name: str, options: Corrupt) -> corruptions.BenchmarkCorruption:
    fields = {}
    if name == "frost" and options.frost is not None:
        if not Path(options.frost).is_dir():
            raise FileNotFoundError(f"No folder of frost photographs: --frost {options.frost}.")
        fields = {"textures": options.frost}
    return corruptions.component(name, preset=options.preset, compat=options.compat, **fields)


def _check_claim(out: Path) -> None:
    """Raises unless the folder is new, empty, or of an earlier run of this command."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; OUT must be a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / SETTINGS).is_file():
        raise ValueError(
            f"{out} is not empty and has no {SETTINGS}, so that it is of no earlier run: name a new folder."
        )


def _claim(
    out: Path, options: Corrupt, kind: str, names: Sequence[str], severities: Sequence[float], inputs: Inputs
) -> None:
    """Writes the settings, or checks that those there are the same; what exists is then not made again."""
    settings = {
        "source": options.source if options.source.startswith(TFDS) else str(Path(options.source).resolve()),
        "split": options.split,
        "format": kind,
        "preset": options.preset,
        "compat": options.compat,
        "seed": options.seed,
        "size": options.size,
        "quality": options.quality,
        "frost": options.frost and str(Path(options.frost).resolve()),
        "corruptions": list(names),
        "severities": list(severities),
    }
    if kind == "npy":
        if shapes := {item.shape for item in inputs.items[1:]} - {inputs.items[0].shape}:
            first, other = inputs.items[0].shape, shapes.pop()
            raise ValueError(f"Expected images of one shape for --format npy, got {first} and {other}; give a --size.")
        settings["images"] = len(inputs.items)
    before = _read_settings(out)
    if options.overwrite:
        for name in before.get("corruptions", ()):
            shutil.rmtree(out / name, ignore_errors=True)
            for path in (out / f"{name}.npy", *out.glob(f".{name}.npy.*")):
                path.unlink(missing_ok=True)
        for name in (LABELS, GALLERY, SETTINGS):
            (out / name).unlink(missing_ok=True)
    elif before:
        additive = ADDITIVE if kind == "files" else ADDITIVE[:1]
        differing = [n for n in {**before, **settings} if n not in additive and before.get(n) != settings.get(n)]
        if differing:
            listed = "; ".join(f"{n}: {before.get(n)!r} there, {settings.get(n)!r} here" for n in differing)
            raise ValueError(
                f"{out} holds images of other settings: name a new folder, or --overwrite to remove them. {listed}"
            )
        for name in additive:
            settings[name] = before[name] + [value for value in settings[name] if value not in before[name]]
    replace_file(out / SETTINGS, (json.dumps(settings, indent=1) + "\n").encode())


def _read_settings(out: Path) -> dict:
    path = out / SETTINGS
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}; name a new folder.") from error


def _outputs(out: Path, kind: str, options: Corrupt, severities: Sequence[float], inputs: Inputs) -> Outputs:
    if kind == "npy":
        return Arrays(out, severities, inputs.items, inputs.labels)
    return Files(out, severities, options.quality)


def _warn_of_sizes(console: Console, inputs: Inputs, names: Sequence[str]) -> None:
    sizes = len({item.shape for item in inputs.items})
    if sizes > MANY_SIZES:
        console.print(
            f"{sizes} different sizes: {sizes * len(names)} programs to compile, which may take longer than running "
            "them; with --size 224 images are cut to one size first, as for ImageNet-C.",
            soft_wrap=True,
        )


def _run(
    console: Console,
    options: Corrupt,
    inputs: Inputs,
    outputs: Outputs,
    components: dict[str, corruptions.BenchmarkCorruption],
    failures: _Failures,
    workers: int,
) -> None:
    columns = (TextColumn("corrupting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    pending = sum(len(outputs.pending(item, name)) for name in components for item in inputs.items)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("corrupting", total=pending)
        corrupt_all(
            jax.random.key(options.seed),
            inputs,
            outputs,
            components,
            workers=workers,
            advance=lambda count: progress.advance(task, count),
            failed=failures.add,
        )


def _write_gallery(
    out: Path, inputs: Inputs, outputs: Outputs, names: Sequence[str], severities: Sequence[float]
) -> None:
    """The first image that has outputs."""
    for item in inputs.items:
        rows = {name: [outputs.read(item, name, severity) for severity in severities] for name in names}
        if any(image is not None for images in rows.values() for image in images):
            sheet = contact_sheet(inputs.read(item).pixels, rows, [f"{severity:g}" for severity in severities])
            sheet.save(out / GALLERY)
            return


class _Failures:
    """Images that could not be read or corrupted, and why."""

    def __init__(self, unreadable: dict[str, str]):
        self.lock = threading.Lock()
        self.reasons = dict(unreadable)

    def add(self, name: str, why: str) -> None:
        """Notes one."""
        with self.lock:
            self.reasons[name] = why

    def report(self) -> int:
        """Names them on stderr; returns the exit status."""
        lines = [f"  {name}: {why}" for name, why in sorted(self.reasons.items())]
        if lines:
            print("\n".join([f"robust-jax: left out ({len(lines)}):", *lines]), file=sys.stderr)
        return 1 if lines else 0
