"""The options of every command. Light to import, so that ``--help`` is quick."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro


class UsageError(ValueError):
    """An option that cannot be meant so; the command ends with status 2."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Train, evaluate and report the runs of an experiment file; the same command resumes, or repeats nothing.

    Every field of the experiment can be overridden, as in --model.depth 16 --optimiser.learning-rate 0.05;
    `robust-jax run FILE --help` lists them.
    """

    file: tyro.conf.Positional[str]
    """Experiment file, such as experiments/random_lp.py."""
    scale: Literal["smoke", "small", "paper"] = "smoke"
    """Seconds on embedded data, minutes on real data, or as published."""
    only: str | None = None
    """Name of the one run to do; all of the table by default."""
    workdir: str | None = None
    """Folder of the results, one subfolder a run; by default runs/FILE/SCALE."""
    distributed: str = "off"
    """auto on a cluster, or host:port,count,index for the processes of one run."""
    deterministic: bool = False
    """Have a GPU give the same bits in every run; what adds to places by index can become very slow."""


@dataclasses.dataclass(frozen=True)
class Eval:
    """Evaluate a trained run again, perhaps with other suites, as in --suites.random-lp.repeats 5."""

    workdir: tyro.conf.Positional[str]
    """Work folder of one run."""
    distributed: str = "off"
    """auto on a cluster, or host:port,count,index for the processes of one run."""
    deterministic: bool = False
    """Have a GPU give the same bits in every run; what adds to places by index can become very slow."""


@dataclasses.dataclass(frozen=True)
class Compare:
    """Put finished runs side by side, here and in one HTML page; the first is the baseline."""

    workdirs: tyro.conf.Positional[tuple[str, ...]]
    """Work folders of runs, or folders of them."""
    out: str = "compare.html"
    """The page to write."""


@dataclasses.dataclass(frozen=True)
class Systems:
    """List every experiment file with its paper, claim and last result, and write the folder's README.md."""

    folder: tyro.conf.Positional[str] = "experiments"
    """Folder of experiment files."""
    record: str | None = None
    """Folder of finished runs, such as runs/random_lp/small, whose rows are kept under FOLDER/results first."""


@dataclasses.dataclass(frozen=True)
class Corrupt:
    """Write corrupted copies of an image, a folder, an array or a data set: ImageNet-C, C-bar.

    robust-jax corrupt cat.jpg out --gallery

    robust-jax corrupt photos out --corruption fog,snow --severity 1,3,5

    robust-jax corrupt imagenet/val imagenet-c --corruption common --size 224

    robust-jax corrupt images.npy cifar10-c --corruption all

    robust-jax corrupt tfds:cifar10 cifar10-c-bar --corruption bar-cifar

    Files go to OUT/CORRUPTION/SEVERITY/ and keep their names; arrays become OUT/CORRUPTION.npy, severity after
    severity, with labels.npy. What is there already is not made again, so an interrupted command goes on, and another
    with more corruptions adds to OUT. An image's result depends on its name (in arrays: its position) and the seed
    alone.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="IN")]
    """An image file; a folder, with its subfolders; a .npy or .npz file of uint8 images; or tfds:NAME."""
    out: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUT")]
    """Folder of the results: new, empty, or of the same command before."""
    corruption: str = "all"
    """Names and groups with commas between: common (the 15 of ImageNet-C), extra (its 4 others), all (both), bar
    (the 10 of ImageNet-C-bar), bar-cifar (the 10 of CIFAR-10-C-bar)."""
    severity: str = "1-5"
    """0, the clean image, to 5: as 1-5, 3, 1,3,5 or 2.5."""
    preset: Literal["auto", "imagenet224", "cifar32", "tiny64", "scaled"] = "auto"
    """Whose constants; scaled are those of ImageNet-C with lengths scaled to the image; auto goes by its size."""
    compat: Literal["original", "clean"] = "original"
    """As published, or with its quirks repaired."""
    seed: int = 0
    """Of all random numbers."""
    size: int | None = None
    """Cut images to squares of this side first, as for ImageNet-C: shorter side to 8/7 of it, then the middle."""
    format: Literal["auto", "files", "npy"] = "auto"
    """Image files, or arrays as of CIFAR-10-C; auto makes arrays of arrays and data sets."""
    quality: int = 85
    """Of jpg and webp files; 85 as published."""
    gallery: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also draw OUT/gallery.png: the first image under every corruption and severity."""
    frost: str | None = None
    """Folder of photographs for frost; by default crystals are drawn."""
    data_dir: str | None = None
    """Folder of prepared TFDS data sets."""
    split: str = "test"
    """Of a data set, or of a .npz file that has several."""
    workers: int | None = None
    """Threads that read, corrupt and write; by default one a core."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Remove what an earlier command made in OUT, and make all of it anew."""
