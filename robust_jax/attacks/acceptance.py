"""How often images fool a classifier that draws random numbers."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from scipy import stats

from robust_jax.core.checks import check_positive
from robust_jax.predictors import Randomised, check_randomised, draw
from robust_jax.types import Images, PRNGKeys

# The 97.5 % quantile of the normal distribution, of 95 % intervals.
Z = float(stats.norm.ppf(0.975))


class Acceptance(NamedTuple):
    """Of each image, the share of draws that it fooled, with a 95 % interval."""

    rate: Float[Array, "b"]
    low: Float[Array, "b"]
    high: Float[Array, "b"]

    @property
    def accepted(self) -> Bool[Array, "b"]:
        """Whether it fools more draws than not, at 95 % confidence."""
        return self.low > 0.5


def repeated_acceptance(
    keys: PRNGKeys,
    predictor: Randomised,
    images: Images,
    labels: Int[Array, "b"],
    *,
    num_draws: int = 100,
    targets: Int[Array, "b"] | None = None,
) -> Acceptance:
    """Evaluates adversarial images on new draws of a randomised classifier.

    An attack on such a classifier succeeds or not by one draw, its last. To judge an image by that draw overstates
    the attack where it looks for any success, and a defence is broken where images fool it again.

    Args:
        keys: one for each image; other than those of the attack, so that its draws are not seen again.
        predictor: the randomised predictor.
        images: adversarial images, in [0, 1].
        labels: their true classes.
        num_draws: evaluations.
        targets: of a targeted attack, which succeeds where they are predicted.

    Returns:
        Rates with Wilson's intervals (Wilson, 1927).

    Raises:
        ValueError: if there is no draw, or the predictor is not randomised.
    """
    check_positive("num_draws", num_draws)
    check_randomised(predictor)
    fooled = sum(_fooled(predictor, keys, number, images, labels, targets) for number in range(num_draws))
    return _wilson(fooled / num_draws, num_draws)


@jax.jit
def _fooled(
    predictor: Randomised, keys: PRNGKeys, number: Int[Array, ""], images: Images, labels, targets
) -> Int[Array, "b"]:
    predicted = jnp.argmax(draw(keys, predictor, number)(images), axis=-1)
    return (predicted != labels if targets is None else predicted == targets).astype(jnp.int32)


@partial(jax.jit, static_argnums=1)
def _wilson(rate: Float[Array, "b"], count: int) -> Acceptance:
    scale = 1 + Z**2 / count
    centre = (rate + Z**2 / (2 * count)) / scale
    half = Z / scale * jnp.sqrt(rate * (1 - rate) / count + Z**2 / (4 * count**2))
    return Acceptance(rate, jnp.maximum(centre - half, 0), jnp.minimum(centre + half, 1))
