"""Plain geometry, indexed by severity: the camera turned, moved, brought nearer, or askew."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.core.checks import check_choice, check_fraction, check_positive
from robust_jax.corruptions.base import Severity, check_image, check_severity
from robust_jax.images import geometry
from robust_jax.images.borders import MODES
from robust_jax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True)
class _Geometry:
    """A warp whose extent is proportional to the severity: 0 is the identity, 5 the most."""

    mode: str = dataclasses.field(default="constant", kw_only=True)
    """What lies beyond the border: ``constant`` (black), ``nearest``, ``reflect``, ``mirror`` or ``wrap``."""

    variable: ClassVar[str] = "motion"

    def __post_init__(self):
        check_choice("mode", self.mode, MODES)

    def __call__(self, key: PRNGKey, image: Image, severity: Severity = 1.0) -> Image:
        check_image(image, type(self).__name__)
        check_severity(severity)
        share = jnp.clip(jnp.asarray(severity, jnp.float32), 0, 5) / 5
        return geometry.warp(image, self.matrix(key, image.shape, share), mode=self.mode)

    def matrix(self, key: PRNGKey, shape: tuple[int, ...], share: Float[Array, ""]) -> geometry.Matrix:
        """Where pixels read, at a share in [0, 1] of the most."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Rotation(_Geometry):
    """Turned about the centre by ``max_angle`` · severity / 5 degrees, either way with equal probability."""

    max_angle: float = 30.0
    """At severity 5, in degrees."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("max_angle", self.max_angle)

    def matrix(self, key: PRNGKey, shape: tuple[int, ...], share: Float[Array, ""]) -> geometry.Matrix:
        angle = self.max_angle * share * _sign(key)
        return geometry.rotation(angle, centre=geometry.image_centre(shape))


@dataclasses.dataclass(frozen=True)
class Translation(_Geometry):
    """Moved by ``max_shift`` · severity / 5 of the shorter side, in a direction drawn uniformly."""

    max_shift: float = 0.2
    """At severity 5, as a share of the shorter side."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("max_shift", self.max_shift)

    def matrix(self, key: PRNGKey, shape: tuple[int, ...], share: Float[Array, ""]) -> geometry.Matrix:
        direction = jax.random.uniform(key, minval=-jnp.pi, maxval=jnp.pi)
        length = self.max_shift * share * min(shape[:2])
        return geometry.translation(length * jnp.cos(direction), length * jnp.sin(direction))


@dataclasses.dataclass(frozen=True)
class Scale(_Geometry):
    """Enlarged or reduced about the centre by ``max_factor`` ^ (severity / 5), either with equal probability."""

    max_factor: float = 1.5
    """At severity 5, above 1."""

    variable: ClassVar[str] = "optics"

    def __post_init__(self):
        super().__post_init__()
        if not self.max_factor > 1:
            raise ValueError(f"Expected max_factor > 1, got max_factor={self.max_factor!r}.")

    def matrix(self, key: PRNGKey, shape: tuple[int, ...], share: Float[Array, ""]) -> geometry.Matrix:
        factor = jnp.float32(self.max_factor) ** (share * _sign(key))
        return geometry.scaling(factor, centre=geometry.image_centre(shape))


@dataclasses.dataclass(frozen=True)
class Shear(_Geometry):
    """Verticals tipped by ``max_angle`` · severity / 5 degrees, to either side with equal probability."""

    max_angle: float = 30.0
    """At severity 5, in degrees, below 90."""

    variable: ClassVar[str] = "optics"

    def __post_init__(self):
        super().__post_init__()
        check_positive("max_angle", self.max_angle)
        check_fraction("max_angle / 90", self.max_angle / 90)

    def matrix(self, key: PRNGKey, shape: tuple[int, ...], share: Float[Array, ""]) -> geometry.Matrix:
        angle = self.max_angle * share * _sign(key)
        return geometry.shearing(angle, centre=geometry.image_centre(shape))


def _sign(key: PRNGKey) -> Float[Array, ""]:
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
