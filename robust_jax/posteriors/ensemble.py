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
from robust_jax.core.platform import on_cpu
from robust_jax.core.predictor import as_predictor
from robust_jax.mathematics.mixtures import mixture_logits
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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixture:
    """An ensemble of members that are unlike: of other networks, or of other subnetworks of one.

    A pytree; its members are computed one after the other, each by a part of the program.
    """

    members: tuple[Partial, ...]
    """Logits functions."""

    @property
    def num_members(self) -> int:
        """M."""
        return len(self.members)

    def member_logits(self, images: Images) -> Float[Array, "members b k"]:
        """What each member says.

        Raises:
            ValueError: if they tell different numbers of classes apart.
        """
        logits = [member(images) for member in self.members]
        classes = [each.shape[-1] for each in logits]
        if len(set(classes)) > 1:
            raise ValueError(f"Expected members with equal numbers of classes, got {classes}.")
        return jnp.stack(logits)

    def logits_fn(self, key: PRNGKey | None = None) -> Partial:
        """Log-probabilities of the mean of the members' probabilities, as one logits function; nothing is random."""
        del key
        return Partial(_MixtureMean(), self)


@dataclasses.dataclass(frozen=True)
class _MixtureMean:
    def __call__(self, mixture: Mixture, images: Images) -> Float[Array, "b k"]:
        return mixture_logits(mixture.member_logits(images))

    def member_logits(self, mixture: Mixture, images: Images) -> Float[Array, "members b k"]:
        """For who looks at what members disagree on."""
        return mixture.member_logits(images)


def ensemble(members: Sequence[LogitsFn], *, member_map: MemberMap = "auto") -> Ensemble | Mixture:
    """Equally likely logits functions: stacked where they are alike but for the values of their arrays, as of one
    network, and a :class:`Mixture` where not.

    Args:
        members: as :func:`~robust_jax.models.predictor` gives them, or any others.
        member_map: see :class:`Ensemble`.

    Raises:
        ValueError: if there is none, or the map is unknown.
    """
    check_choice("member_map", member_map, MEMBER_MAPS)
    if not members:
        raise ValueError("Expected one member or more, got none.")
    members = tuple(map(as_predictor, members))
    arrays = [tuple((jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(member)) for member in members]
    alike = len(set(zip(map(jax.tree.structure, members), arrays, strict=True))) == 1
    return Ensemble(stack(members), member_map) if alike and arrays[0] else Mixture(members)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Trees of one structure as one, with an axis of them first."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _map_members(member_map: MemberMap, members: Partial, images: Images) -> Float[Array, "members b k"]:
    run = lambda member: member(images)  # noqa: E731
    together = member_map == "vmap" or (member_map == "auto" and not on_cpu(members, images))
    return jax.vmap(run)(members) if together else jax.lax.map(run, members)
