"""Hamiltonian Monte Carlo over all data: trajectories of fixed length, and those that turn back by themselves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from robust_jax.core.checks import check_positive
from robust_jax.posteriors.sampler import Chain, Sampler, import_blackjax
from robust_jax.posteriors.target import Target
from robust_jax.types import PRNGKey

STEP_SIZES = 100
"""How many times smaller or larger an adapted step size may become."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Hamiltonian(Sampler):
    step_size: float = 0.01
    """Of the integrator, in units of the prior's scale."""
    target_acceptance: float | None = None
    """Mean acceptance for which the burn-in finds a step size, from ``step_size`` on; 0.8 is usual. None keeps it."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("step_size", self.step_size)
        target = self.target_acceptance
        if target is not None and not 0 < target < 1:
            raise ValueError(f"Expected target_acceptance between 0 and 1, got target_acceptance={target!r}.")
        if target is not None and not self.burn_in:
            raise ValueError("Expected a burn_in to find the step size in, got burn_in=0.")

    def _sampled(
        self, key: PRNGKey, target: Target, unit: PyTree, kernel: Callable[..., tuple[PyTree, PyTree]]
    ) -> Chain:
        """Samples by ``kernel(key, state, step_size, mass)``, the step size found on the way as in Nesterov's dual
        averaging (Hoffman & Gelman, section 3.2)."""
        blackjax = import_blackjax()
        mass = jnp.ones(sum(leaf.size for leaf in jax.tree.leaves(unit)))

        def step(state: PyTree, sample_key: PRNGKey, step_size: float | Array) -> tuple[PyTree, Chain]:
            state, info = kernel(sample_key, state, step_size, mass)
            size = jnp.asarray(step_size, jnp.float32)
            return state, Chain(state.position, state.logdensity, info.acceptance_rate, size)

        state = blackjax.hmc.init(unit, target.log_density)
        keys = jax.random.split(key, self.burn_in + self.num_samples)
        if self.target_acceptance is None:
            return jax.lax.scan(lambda state, key: step(state, key, self.step_size), state, keys)[1]
        start, update, final = blackjax.adaptation.step_size.dual_averaging_adaptation(self.target_acceptance)
        in_range = lambda size: jnp.clip(size, self.step_size / STEP_SIZES, self.step_size * STEP_SIZES)  # noqa: E731

        def adapt(carry: tuple[PyTree, PyTree], sample_key: PRNGKey) -> tuple[tuple[PyTree, PyTree], Chain]:
            state, adaptation = carry
            state, chain = step(state, sample_key, in_range(jnp.exp(adaptation.log_step_size)))
            return (state, update(adaptation, chain.acceptance_rate)), chain

        (state, adaptation), before = jax.lax.scan(adapt, (state, start(self.step_size)), keys[: self.burn_in])
        found = in_range(final(adaptation))
        after = jax.lax.scan(lambda state, key: step(state, key, found), state, keys[self.burn_in :])[1]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), before, after)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hmc(_Hamiltonian):
    r"""Hamiltonian Monte Carlo (Duane et al., 1987; Neal, arXiv 1206.1901) with the leapfrog integrator.

    One sample takes :math:`\lceil \mathrm{trajectory} / \mathrm{step\_size} \rceil` gradients over all data. Lengths
    are in units of the prior's scale, in which the weights that data say nothing of oscillate with the period 2π: after
    a quarter of it, π / 2, they are a fresh draw (Izmailov et al., arXiv 2104.14421, section 3.2).

    Raises:
        ValueError: if a number is not positive.
    """

    trajectory: float = math.pi / 2
    """Length of a trajectory, step size times number of steps."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("trajectory", self.trajectory)

    def chain(self, key: PRNGKey, target: Target, unit: PyTree) -> Chain:
        """As :meth:`Sampler.chain`."""
        move = import_blackjax().hmc.build_kernel()

        def kernel(
            key: PRNGKey, state: PyTree, step_size: float | Array, mass: Float[Array, "n"]
        ) -> tuple[PyTree, PyTree]:
            num_steps = self.trajectory / step_size
            num_steps = math.ceil(num_steps) if isinstance(num_steps, float) else jnp.ceil(num_steps).astype(jnp.int32)
            return move(key, state, target.log_density, step_size, mass, num_steps)

        return self._sampled(key, target, unit, kernel)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nuts(_Hamiltonian):
    """The No-U-Turn sampler (Hoffman & Gelman, arXiv 1111.4246): trajectories double until they turn back.

    Raises:
        ValueError: if a number is not positive.
    """

    max_doublings: int = 10
    """A trajectory has at most two to the power of this steps."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("max_doublings", self.max_doublings)

    def chain(self, key: PRNGKey, target: Target, unit: PyTree) -> Chain:
        """As :meth:`Sampler.chain`."""
        move = import_blackjax().nuts.build_kernel()

        def kernel(
            key: PRNGKey, state: PyTree, step_size: float | Array, mass: Float[Array, "n"]
        ) -> tuple[PyTree, PyTree]:
            return move(key, state, target.log_density, step_size, mass, self.max_doublings)

        return self._sampled(key, target, unit, kernel)
