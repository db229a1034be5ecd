"""What every benchmark corruption shares: severities, presets, quirks, eight bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from robust_jax.core.checks import check_choice
from robust_jax.images.quantise import quantise
from robust_jax.types import Image, PRNGKey

PRESETS = ("auto", "imagenet224", "cifar32", "tiny64", "scaled")
COMPATS = ("original", "clean")
VARIABLES = ("illumination", "weather", "optics", "motion", "sensor", "processing", "transmission")
"""Variables of the imaging process that a corruption may intervene on, from the scene to the file."""
SEVERITIES = (1, 2, 3, 4, 5)

Severity = float | Float[Array, ""]
Table = TypeVar("Table")
"""Constants of one preset."""


@dataclasses.dataclass(frozen=True)
class BenchmarkCorruption:
    """A published corruption: ``corruption(key, image, severity)``, severity in [0, 5], images in [0, 1].

    The constants of severities 1 to 5 are those published; between them they are interpolated linearly, and those
    that count something are taken from the nearest severity. Below 1 the result is blended with the image, so that 0
    is the identity. Severity is traced: one compiled program serves all.

    Raises:
        ValueError: if a field is unknown, the image too small or not [h, w, c] with 1 or 3 channels, or the severity
            (where it is known) outside [0, 5].
        TypeError: if the image is not of floats.
    """

    preset: str = "auto"
    """Whose constants: imagenet224, cifar32, tiny64; scaled, those of imagenet224 with lengths scaled to the image's
    shorter side; auto, by the shorter side: up to 48 cifar32, up to 96 tiny64, 224 imagenet224, else scaled."""
    compat: str = "original"
    """``original`` reproduces the published code, quirks and truncation to eight bits included; ``clean`` repairs
    what the docstring names, and does not quantise."""

    variable: ClassVar[str]
    """What of the imaging process it intervenes on, one of ``VARIABLES``."""
    min_size: ClassVar[int] = 1
    """The least height and width."""
    by_image: ClassVar[bool] = False
    """Whether a CPU is faster by one large image after another than by all at once, as measured."""

    def __post_init__(self):
        check_choice("preset", self.preset, PRESETS)
        check_choice("compat", self.compat, COMPATS)

    def __call__(self, key: PRNGKey, image: Image, severity: Severity = 1.0) -> Image:
        check_image(image, type(self).__name__, self.min_size)
        check_severity(severity)
        severity = jnp.asarray(severity, jnp.float32)
        damaged = self.damage(key, image, jnp.clip(severity, 1, 5))
        damaged = quantise(damaged, "trunc_u8" if self.compat == "original" else "float")
        return blend(image, damaged, severity)

    def damage(self, key: PRNGKey, image: Image, severity: Float[Array, ""]) -> Image:
        """The corrupted image, severity in [1, 5]; it may leave [0, 1] and is clipped and quantised afterwards."""
        raise NotImplementedError

    @property
    def clean(self) -> bool:
        """Whether quirks are repaired."""
        return self.compat == "clean"

    def table(self, tables: Mapping[str, Table], image: Image) -> Table:
        """Of tables by preset (imagenet224, cifar32, tiny64) the one in force for an image."""
        return preset_table(tables, self.preset, image.shape)

    def scale(self, image: Image) -> float:
        """What lengths in pixels are multiplied by: 1, or with the preset scaled, the shorter side over 224."""
        return preset_scale(self.preset, image.shape)


def resolve_preset(preset: str, shape: Sequence[int]) -> str:
    """The preset that ``auto`` stands for on images of shape [h, w, c]; any other as it is."""
    if preset != "auto":
        return preset
    side = min(shape[:2])
    if side <= 48:
        return "cifar32"
    if side <= 96:
        return "tiny64"
    return "imagenet224" if tuple(shape[:2]) == (224, 224) else "scaled"


def preset_table(tables: Mapping[str, Table], preset: str, shape: Sequence[int]) -> Table:
    """Of tables by preset (imagenet224, cifar32, tiny64) the one in force for images of shape [h, w, ...]."""
    preset = resolve_preset(preset, shape)
    return tables["imagenet224" if preset == "scaled" else preset]


def preset_scale(preset: str, shape: Sequence[int]) -> float:
    """What lengths in pixels are multiplied by: 1, or with the preset scaled, the shorter side over 224."""
    return min(shape[:2]) / 224 if resolve_preset(preset, shape) == "scaled" else 1.0


def constants(table: ArrayLike, severity: Float[Array, ""]) -> Float[Array, "..."]:
    """The row of a table of five, one per severity, interpolated linearly between severities; shape that of a row."""
    rows = jnp.asarray(np.asarray(table, np.float32))
    low = jnp.clip(jnp.floor(severity).astype(jnp.int32), 1, 4)
    # From an integer severity the row itself, to the last bit.
    fraction = severity - low.astype(jnp.float32)
    return rows[low - 1] * (1 - fraction) + rows[low] * fraction


def counts(table: ArrayLike, severity: Float[Array, ""]) -> Int[Array, "..."]:
    """The row of a table of five that belongs to the nearest severity, as integers."""
    rows = jnp.asarray(np.asarray(table, np.int32))
    return rows[jnp.clip(jnp.round(severity).astype(jnp.int32), 1, 5) - 1]


def blend(image: Image, damaged: Image, severity: Float[Array, ""]) -> Image:
    """The damaged image from severity 1 on; below, on the straight line from the image to it."""
    return jnp.where(severity < 1, image + severity * (damaged - image), damaged)


def check_image(image: Image, name: str, min_size: int = 1) -> None:
    """Raises unless ``image`` is f[h, w, c] in [0, 1], c 1 or 3, of the least size; the range where it is known."""
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"Expected a float image in [0, 1], got {image.dtype}; divide pixels by 255 first.")
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"Expected one image of shape [h, w, 1 or 3], got {tuple(image.shape)}.")
    if min(image.shape[:2]) < min_size:
        height, width = image.shape[:2]
        raise ValueError(f"Expected an image of at least {min_size}x{min_size} for {name}, got {height}x{width}.")
    if not isinstance(image, Tracer):
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise ValueError(f"Expected image values in [0, 1], got values in [{low:.4g}, {high:.4g}].")


def check_severity(severity: Severity) -> None:
    """Raises ``ValueError`` unless ``severity`` is in [0, 5], where it is known."""
    if not isinstance(severity, Tracer) and not (np.min(severity) >= 0 and np.max(severity) <= 5):
        raise ValueError(f"Expected severity in [0, 5], got severity={severity!r}.")
