"""Ensembles: equally likely members, whose probabilities are averaged (Lakshminarayanan et al., arXiv 1612.01474)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_choice
from robust_jax.core.mixtures import mixture_logits
from robust_jax.types import Images, LogitsFn, PRNGKey

MEMBER_MAPS = ("auto", "vmap", "map")
MemberMap = Literal["auto", "vmap", "map"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A posterior of finitely many points: logits functions of one kind, stacked along their arrays' first axis.

    A pytree: ``jax.vmap(lambda f: f(images))(ensemble.members)`` are the members' logits, and a stack of ensembles is
    one more axis.
    """

    members: Partial
    """A logits function whose arrays have an axis of members first."""
    member_map: MemberMap = dataclasses.field(default="auto", metadata={"static": True})
    """How members are computed: together by ``vmap``, or one after the other by ``map``. Auto does the latter on a
    CPU, where convolutions with a batch of kernels are many times slower than one after the other."""

    @property
    def num_members(self) -> int:
        """M."""
        return jax.tree.leaves(self.members)[0].shape[0]

    def member_logits(self, images: Images) -> Float[Array, "members b k"]:
        """What each member says."""
        return _map_members(self.member_map, self.members, images)

    def logits_fn(self, key: PRNGKey | None = None) -> Partial:
        """Log-probabilities of the mean of the members' probabilities, as one logits function; nothing is random."""
        del key
        return Partial(_Mean(self.member_map), self.members)


@dataclasses.dataclass(frozen=True)
class _Mean:
    member_map: MemberMap

    def __call__(self, members: Partial, images: Images) -> Float[Array, "b k"]:
        return mixture_logits(self.member_logits(members, images))

    def member_logits(self, members: Partial, images: Images) -> Float[Array, "members b k"]:
        """For who looks at what members disagree on."""
        return _map_members(self.member_map, members, images)


def ensemble(members: Sequence[LogitsFn], *, member_map: MemberMap = "auto") -> Ensemble:
    """An ensemble of logits functions that are alike but for their arrays, such as of one network.

    Args:
        members: as :func:`~robust_jax.models.predictor` gives them.
        member_map: see :class:`Ensemble`.

    Raises:
        ValueError: if there is none, they differ in more than their arrays, or the map is unknown.
    """
    check_choice("member_map", member_map, MEMBER_MAPS)
    if not members:
        raise ValueError("Expected one member or more, got none.")
    first = jax.tree.structure(members[0])
    for i, member in enumerate(members):
        if jax.tree.structure(member) != first:
            raise ValueError(f"Expected members that differ in their arrays alone, got another kind at {i}.")
    return Ensemble(stack(members), member_map)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Trees of one structure as one, with an axis of them first."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _map_members(member_map: MemberMap, members: Partial, images: Images) -> Float[Array, "members b k"]:
    run = lambda member: member(images)  # noqa: E731
    together = member_map == "vmap" or (member_map == "auto" and jax.default_backend() != "cpu")
    return jax.vmap(run)(members) if together else jax.lax.map(run, members)
