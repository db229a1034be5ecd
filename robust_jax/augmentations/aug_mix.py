"""AugMix: mixtures of short random chains of operations (arXiv 1912.02781)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_jax.augmentations.chains import check_chains, mix_chains
from robust_jax.augmentations.operations import FACTORS, OPERATIONS, operate, operation_number
from robust_jax.core.checks import check_choice
from robust_jax.types import Image, PRNGKey

PUBLISHED = (
    "auto_contrast",
    "equalise",
    "posterise",
    "rotate",
    "solarise",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The published operations, none of which is a corruption of ImageNet-C."""
ALL = (*PUBLISHED, "saturation", "contrast", "brightness", "sharpness")
"""With those that resemble its corruptions."""

Operation = tuple[Int[Array, ""], Float[Array, ""]]
"""Its number and its value."""


@dataclasses.dataclass(frozen=True)
class AugMix:
    r"""The image mixed with a mixture of chains of random operations.

    .. math::
        \tilde{x} = (1 - m)\, x + m \sum_{i=1}^{k} w_i\, \mathrm{chain}_i(x), \quad
        w \sim \mathrm{Dirichlet}(\alpha, \ldots, \alpha), \; m \sim \mathrm{Beta}(\alpha, \alpha)

    Raises:
        ValueError: if an operation is unknown or cannot be scaled, or a number out of range.

    References:
        Hendrycks, Mu, Cubuk, Zoph, Gilmer & Lakshminarayanan (arXiv 1912.02781), algorithm 1; magnitudes are those of
        the published code.
    """

    severity: float = 3.0
    """Of the operations, up to 10: each has a magnitude drawn from U(0.1, severity)."""
    width: int = 3
    """k, how many chains."""
    depth: int | None = None
    """Operations of a chain; by default 1, 2 or 3, drawn for each."""
    alpha: float = 1.0
    """α, of the Dirichlet and Beta distributions."""
    operations: tuple[str, ...] = PUBLISHED
    """Names of what is drawn from, see :data:`ALL`."""

    def __post_init__(self):
        if not 0.1 <= self.severity <= 10:
            raise ValueError(f"Expected severity in [0.1, 10], got severity={self.severity!r}.")
        check_chains(self.width, self.depth, self.alpha)
        if not self.operations:
            raise ValueError("Expected at least one of operations, got none.")
        for name in self.operations:
            check_choice("operation", name, ALL)

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        numbers = jnp.asarray([operation_number(name) for name in self.operations])

        def draw(key: PRNGKey) -> Operation:
            choice_key, level_key, sign_key = jax.random.split(key, 3)
            number = jax.random.choice(choice_key, numbers)
            level = jax.random.uniform(level_key, minval=0.1, maxval=self.severity) / 10
            return number, _values(level, jax.random.rademacher(sign_key, (), jnp.float32), image.shape)[number]

        def apply(operation: Operation, image: Image) -> Image:
            return operate(*operation, image, interpolation="bilinear")

        return mix_chains(key, image, draw, apply, width=self.width, depth=self.depth, alpha=self.alpha)


def _values(level: Float[Array, ""], sign: Float[Array, ""], shape: tuple[int, ...]) -> Float[Array, "operations"]:
    """What a magnitude in [0, 1] means to each of :data:`OPERATIONS`; most are whole numbers, as published."""
    height, width, _ = shape
    share = lambda side: sign * jnp.floor(level * side / 3) / side  # noqa: E731
    values: dict[str, Array] = dict.fromkeys(OPERATIONS, jnp.zeros(())) | dict.fromkeys(FACTORS, 1.8 * level + 0.1)
    values |= {
        "posterise": 4 - jnp.floor(4 * level),
        "rotate": sign * jnp.floor(30 * level),
        "solarise": (256 - jnp.floor(256 * level)) / 255,
        "shear_x": sign * 0.3 * level,
        "shear_y": sign * 0.3 * level,
        "translate_x": share(width),
        "translate_y": share(height),
    }
    return jnp.stack([values[name] for name in OPERATIONS])
