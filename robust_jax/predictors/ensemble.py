"""Ensembles: equally likely members with averaged predictions (Lakshminarayanan et al., arXiv 1612.01474)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_choice
from robust_jax.core.platform import on_cpu
from robust_jax.mathematics.mixtures import mixture_logits
from robust_jax.predictors.base import MemberPredictor, as_predictor
from robust_jax.types import Images, LogitsFn

MEANS = ("probs", "logits", "log_probs")
Mean = Literal["probs", "logits", "log_probs"]
MEMBER_MAPS = ("auto", "vmap", "map")
MemberMap = Literal["auto", "vmap", "map"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble(MemberPredictor):
    """Predictors of one structure, stacked along the leading axis of their arrays.

    A pytree: ``jax.vmap(lambda f: f(images))(ensemble.stacked)`` are the members' logits, and stacked ensembles have
    one more axis.

    Raises:
        ValueError: if the mean or the map is unknown; the nearest is named.
    """

    stacked: LogitsFn
    """A predictor whose arrays have a leading axis of members."""
    member_map: MemberMap = dataclasses.field(default="auto", metadata={"static": True})
    """Parallel members by ``vmap``, or sequential ones by ``map``. ``auto`` is ``map`` on a CPU, where a convolution
    with a batch of kernels is many times slower, and ``vmap`` elsewhere."""
    of: Mean = dataclasses.field(default="probs", metadata={"static": True})
    """Quantity averaged over members: probabilities, logits or log-probabilities."""

    def __post_init__(self):
        check_choice("member_map", self.member_map, MEMBER_MAPS)
        check_choice("of", self.of, MEANS)

    @property
    def num_members(self) -> int:
        """M."""
        return jax.tree.leaves(self.stacked)[0].shape[0]

    def members(self, images: Images) -> Float[Array, "m b k"]:
        """Return the logits of each member."""
        run = lambda member: member(images)  # noqa: E731
        parallel = self.member_map == "vmap" or (self.member_map == "auto" and not on_cpu())
        return jax.vmap(run)(self.stacked) if parallel else jax.lax.map(run, self.stacked)

    def combine(self, logits: Float[Array, "m b k"]) -> Float[Array, "b k"]:
        """Return the mean over members as logits."""
        return _mean(self.of, logits)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Mixture(MemberPredictor):
    """An ensemble of members of different structure: other networks, or other subnetworks of one.

    A pytree; each member is a part of the program of its own, and they run sequentially.

    Raises:
        ValueError: if the mean is unknown; the nearest is named.
    """

    parts: tuple[LogitsFn, ...]
    """The members."""
    of: Mean = dataclasses.field(default="probs", metadata={"static": True})
    """Quantity averaged over members: probabilities, logits or log-probabilities."""

    def __post_init__(self):
        check_choice("of", self.of, MEANS)

    @property
    def num_members(self) -> int:
        """M."""
        return len(self.parts)

    def members(self, images: Images) -> Float[Array, "m b k"]:
        """Return the logits of each member.

        Raises:
            ValueError: if the numbers of classes differ.
        """
        logits = [part(images) for part in self.parts]
        classes = [each.shape[-1] for each in logits]
        if len(set(classes)) > 1:
            raise ValueError(f"Expected members with equal numbers of classes, got {classes}.")
        return jnp.stack(logits)

    def combine(self, logits: Float[Array, "m b k"]) -> Float[Array, "b k"]:
        """Return the mean over members as logits."""
        return _mean(self.of, logits)


def ensemble(members: Sequence[LogitsFn], *, of: Mean = "probs", member_map: MemberMap = "auto") -> Ensemble | Mixture:
    r"""Average the predictions of several predictors.

    .. math:: \log \frac{1}{M} \sum_m \mathrm{softmax}(z_m), \quad \frac{1}{M} \sum_m z_m, \quad\text{or}\quad
        \frac{1}{M} \sum_m \log \mathrm{softmax}(z_m)

    Args:
        members: any callables from images to logits.
        of: quantity to average: ``probs``, ``logits`` or ``log_probs``.
        member_map: see :class:`Ensemble`.

    Returns:
        An :class:`Ensemble` if members differ in the values of their arrays alone, as several weights of one network
        do, else a :class:`Mixture`.

    Raises:
        ValueError: if there is no member, or a name is unknown; the nearest is named.
    """
    check_choice("member_map", member_map, MEMBER_MAPS)
    check_choice("of", of, MEANS)
    if not members:
        raise ValueError("Expected at least one member, got none.")
    members = tuple(map(as_predictor, members))
    arrays = [tuple((jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(member)) for member in members]
    alike = len(set(zip(map(jax.tree.structure, members), arrays, strict=True))) == 1
    return Ensemble(stack(members), member_map, of) if alike and arrays[0] else Mixture(members, of)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Stack pytrees of one structure along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _mean(of: Mean, logits: Float[Array, "m b k"]) -> Float[Array, "b k"]:
    if of == "logits":
        return jnp.mean(logits, axis=0)
    if of == "log_probs":
        return jnp.mean(jax.nn.log_softmax(logits), axis=0)
    return mixture_logits(logits)
