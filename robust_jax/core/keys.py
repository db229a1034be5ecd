"""Random keys. Randomness belongs to the example, so it depends on neither batch size, order nor devices."""

import zlib

import jax
from jaxtyping import Array, Int

from robust_jax.types import PRNGKey, PRNGKeys


def example_keys(key: PRNGKey, ids: Int[Array, "b"]) -> PRNGKeys:
    """One key per example, derived from its id: ``fold_in(key, id)``."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)


def named_key(key: PRNGKey, name: str) -> PRNGKey:
    """A key for a named purpose, stable across processes and versions: ``fold_in(key, crc32(name))``."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
