"""Spatial smoothing: neighbouring points of feature maps, averaged before the maps are made smaller."""

from __future__ import annotations

import jax.numpy as jnp

from robust_jax.models.layers import Maps


def smooth(x: Maps, *, temperature: float = 10.0) -> Maps:
    r"""Means of 2×2 neighbours at stride 1, of maps bounded from both sides.

    .. math:: y = \frac{1}{4} \sum_{i, j \in \{0, 1\}} \max(0, t \tanh(x_{h - i, w - j} / t))

    Zeros lie above and to the left of the maps, so that their shape is kept; the published layer has them on all sides
    and its maps grow by a row and a column, the others of which are these.

    Args:
        x: feature maps.
        temperature: t, the bound.

    References:
        Park & Kim, "Blurs Behave Like Ensembles" (arXiv 2105.12639), section 2; t = 10.
    """
    bounded = jnp.maximum(temperature * jnp.tanh(x / temperature), 0)
    padded = jnp.pad(bounded, ((0, 0), (1, 0), (1, 0), (0, 0)))
    return (padded[:, :-1, :-1] + padded[:, :-1, 1:] + padded[:, 1:, :-1] + padded[:, 1:, 1:]) / 4
