"""Hamiltonian Monte Carlo over all data: trajectories of fixed length, and those that turn back by themselves."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from robust_jax.core.checks import check_positive
from robust_jax.posteriors.sampler import Chain, Sampler, import_blackjax
from robust_jax.posteriors.target import Target
from robust_jax.types import PRNGKey


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hmc(Sampler):
    r"""Hamiltonian Monte Carlo (Duane et al., 1987; Neal, arXiv 1206.1901) with the leapfrog integrator.

    One sample takes :math:`\lceil \mathrm{trajectory} / \mathrm{step\_size} \rceil` gradients over all data. Lengths
    are in units of the prior's scale, in which the weights that data say nothing of oscillate with the period 2π: after
    a quarter of it, π / 2, they are a fresh draw (Izmailov et al., arXiv 2104.14421, section 3.2).

    Raises:
        ValueError: if a number is not positive.
    """

    step_size: float = 0.01
    """Of the integrator."""
    trajectory: float = math.pi / 2
    """Length of a trajectory, step size times number of steps."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("step_size", self.step_size)
        check_positive("trajectory", self.trajectory)

    @property
    def num_steps(self) -> int:
        """Of the integrator, per sample."""
        return math.ceil(self.trajectory / self.step_size)

    def chain(self, key: PRNGKey, target: Target, unit: PyTree) -> Chain:
        """As :meth:`Sampler.chain`."""
        mass = jnp.ones(_size(unit))
        kernel = import_blackjax().hmc(target.log_density, self.step_size, mass, self.num_steps)
        return _sampled(key, self.burn_in + self.num_samples, kernel, unit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nuts(Sampler):
    """The No-U-Turn sampler (Hoffman & Gelman, arXiv 1111.4246): trajectories double until they turn back.

    Raises:
        ValueError: if a number is not positive.
    """

    step_size: float = 0.01
    """Of the integrator, in units of the prior's scale."""
    max_doublings: int = 10
    """A trajectory has at most two to the power of this steps."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("step_size", self.step_size)
        check_positive("max_doublings", self.max_doublings)

    def chain(self, key: PRNGKey, target: Target, unit: PyTree) -> Chain:
        """As :meth:`Sampler.chain`."""
        mass = jnp.ones(_size(unit))
        kernel = import_blackjax().nuts(target.log_density, self.step_size, mass, max_num_doublings=self.max_doublings)
        return _sampled(key, self.burn_in + self.num_samples, kernel, unit)


def _size(unit: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(unit))


def _sampled(key: PRNGKey, num_samples: int, kernel: Any, unit: PyTree) -> Chain:
    def sample(state: Any, sample_key: PRNGKey) -> tuple[Any, Chain]:
        state, info = kernel.step(sample_key, state)
        return state, Chain(state.position, state.logdensity, info.acceptance_rate)

    return jax.lax.scan(sample, kernel.init(unit), jax.random.split(key, num_samples))[1]
