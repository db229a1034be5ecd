"""Augmentations made of augmentations."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from robust_jax.augmentations.maps import Photometric, moving_maps
from robust_jax.types import Augmentation, Image, LabelMap, PRNGKey


@dataclasses.dataclass(frozen=True)
class Identity(Photometric):
    """The image as it is."""

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        del key
        return image


@dataclasses.dataclass(frozen=True)
class Chain:
    """One augmentation after the other, each with a key of its own."""

    steps: tuple[Augmentation, ...] = ()
    """What to apply, first to last."""

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        for i, step in enumerate(self.steps):
            image = step(jax.random.fold_in(key, i), image)
        return image

    def with_map(self, key: PRNGKey, image: Image, label_map: LabelMap) -> tuple[Image, LabelMap]:
        """Apply the steps to image and label map."""
        for i, step in enumerate(self.steps):
            image, label_map = moving_maps(step).with_map(jax.random.fold_in(key, i), image, label_map)
        return image, label_map


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One augmentation drawn for each image.

    Under ``jax.vmap`` every branch is computed and one is kept, so choose among cheap ones.

    Raises:
        ValueError: if there is no choice, the weights are not as many as the choices, or one is negative or all zero.
    """

    choices: tuple[Augmentation, ...] = (Identity(),)
    """What to choose from."""
    weights: tuple[float, ...] | None = None
    """Their relative chances; equal where not given."""

    def __post_init__(self):
        if not self.choices:
            raise ValueError("Expected at least one of choices, got none.")
        if self.weights is None:
            return
        if len(self.weights) != len(self.choices):
            raise ValueError(f"Expected {len(self.choices)} weights, one a choice, got {len(self.weights)}.")
        if min(self.weights) < 0 or sum(self.weights) == 0:
            raise ValueError(f"Expected weights >= 0 with a positive sum, got weights={self.weights!r}.")

    def __call__(self, key: PRNGKey, image: Image) -> Image:
        choice_key, key = jax.random.split(key)
        return jax.lax.switch(self._draw(choice_key), self.choices, key, image)

    def with_map(self, key: PRNGKey, image: Image, label_map: LabelMap) -> tuple[Image, LabelMap]:
        """Apply the choice to image and label map."""
        choice_key, key = jax.random.split(key)
        branches = [moving_maps(choice).with_map for choice in self.choices]
        return jax.lax.switch(self._draw(choice_key), branches, key, image, label_map)

    def _draw(self, key: PRNGKey) -> Int[Array, ""]:
        weights = jnp.ones(len(self.choices)) if self.weights is None else jnp.asarray(self.weights, jnp.float32)
        return jax.random.choice(key, len(self.choices), p=weights / weights.sum())
