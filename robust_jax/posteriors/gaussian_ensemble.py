"""Ensembles of networks that predict normal distributions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from robust_jax.mathematics.gaussian import LEAST_VARIANCE, mean_and_variance, mean_and_variance_outputs
from robust_jax.posteriors.gaussian_mixture import gaussian_mixture
from robust_jax.predictors import as_predictor, stack
from robust_jax.types import Images, LogitsFn


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GaussianEnsemble:
    """Equally likely regression networks as one predictor: a pytree, which passes through ``jit`` as an argument.

    Called, it returns the mean and the variance of the members' mixture in the coding of one network's outputs, or the
    mean of the members' predictions where they predict no variance.

    References:
        Lakshminarayanan, Pritzel & Blundell (arXiv 1612.01474), section 2.4.
    """

    stacked: Partial
    """A predictor whose arrays have an axis of members first."""
    variance: bool = dataclasses.field(default=True, metadata={"static": True})
    """Whether members predict variances beside means."""
    least_variance: float = dataclasses.field(default=LEAST_VARIANCE, metadata={"static": True})
    """Added to every variance, as in the objective."""

    def members(self, images: Images) -> Float[Array, "members b o"]:
        """Return the prediction of each member."""
        return jax.vmap(lambda member: member(images))(self.stacked)

    def __call__(self, images: Images) -> Float[Array, "b o"]:
        outputs = self.members(images)
        if not self.variance:
            return outputs.mean(axis=0)
        moments = jax.vmap(lambda each: mean_and_variance(each, least_variance=self.least_variance))(outputs)
        return mean_and_variance_outputs(*gaussian_mixture(*moments), least_variance=self.least_variance)


def gaussian_ensemble(
    members: Sequence[LogitsFn], *, variance: bool = True, least_variance: float = LEAST_VARIANCE
) -> GaussianEnsemble:
    """Combine regression networks that are alike but for the values of their arrays.

    Args:
        members: predictors as :func:`~robust_jax.models.predictor` returns them.
        variance: whether they predict variances beside means.
        least_variance: added to every variance, as in the objective.

    Raises:
        ValueError: if there is no member.
    """
    if not members:
        raise ValueError("Expected one member or more, got none.")
    return GaussianEnsemble(stack([as_predictor(member) for member in members]), variance, least_variance)
