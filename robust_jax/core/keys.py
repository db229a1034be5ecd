"""Random keys: every stream of a run derives from its seed, and randomness belongs to the example.

A key per example depends on the example's id alone, so results depend on neither batch size, order nor devices.
"""

from __future__ import annotations

import dataclasses
import zlib

import jax
import numpy as np
from jaxtyping import Array, Int

from robust_jax.types import PRNGKey, PRNGKeys

Index = int | Int[Array, ""]


def example_keys(key: PRNGKey, ids: Int[Array, "b"]) -> PRNGKeys:
    """Return one key per example, ``fold_in(key, id)``."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)


def named_key(key: PRNGKey, name: str) -> PRNGKey:
    """Return a key for a named purpose, stable across processes and versions: ``fold_in(key, crc32(name))``."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def epoch_order(seed: int, epoch: int, size: int) -> Int[np.ndarray, "n"]:
    """Return the order of the examples in an epoch, a permutation of ``range(size)``.

    The order is the same on every host, for any batch size and number of devices.
    """
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(size)


def derived_seed(seed: int, name: str) -> int:
    """Return the seed of a named part of a run, such as an extra stream or a later stage."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0] >> 1)


@dataclasses.dataclass(frozen=True)
class RunKeys:
    """The streams of random numbers of one run.

    The order of the examples is :func:`epoch_order` of the seed, on the host. A key for the examples of an epoch or a
    step becomes one per example by :func:`example_keys`.
    """

    root: PRNGKey
    """Key of the run's seed, ``jax.random.key(seed)``."""

    def init(self) -> PRNGKey:
        """Key of the network's initial parameters."""
        return named_key(self.root, "init")

    def objective_init(self) -> PRNGKey:
        """Key of the objective's own initial parameters."""
        return named_key(self.root, "objective_init")

    def augmentation(self, epoch: Index, stream: str | None = None) -> PRNGKey:
        """Key of the augmentations of an epoch, or of those of an extra stream in a step."""
        name = "augmentation" if stream is None else f"augmentation.{stream}"
        return jax.random.fold_in(named_key(self.root, name), epoch)

    def mixer(self, number: int, step: Index) -> PRNGKey:
        """Key of a mixer, by its place in the list."""
        return jax.random.fold_in(named_key(self.root, f"mixer.{number}"), step)

    def objective(self, step: Index) -> PRNGKey:
        """Key of the objective: dropout, views, attacks."""
        return jax.random.fold_in(named_key(self.root, "objective"), step)

    def gradient(self, step: Index) -> PRNGKey:
        """Key of the gradient's own noise."""
        return jax.random.fold_in(named_key(self.root, "gradient"), step)

    def posterior(self, member: int) -> PRNGKey:
        """Key of the posterior of a member."""
        return jax.random.fold_in(named_key(self.root, "posterior"), member)

    def validation(self) -> PRNGKey:
        """Key of the attack on held-out images, the same in every epoch."""
        return named_key(self.root, "validation")

    def whole_pass(self, epoch: Index) -> PRNGKey:
        """Key of what the objective learns from a whole pass before an epoch."""
        return jax.random.fold_in(named_key(self.root, "whole_pass"), epoch)

    def evaluation(self) -> PRNGKey:
        """Key of all suites."""
        return named_key(self.root, "evaluation")
