"""Stochastic gradient Markov chain Monte Carlo: Langevin and Hamiltonian dynamics over a few examples at a time."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.posteriors.sampler import Chain, Sampler, import_blackjax
from robust_jax.posteriors.target import Target
from robust_jax.types import PRNGKey


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sgld(Sampler):
    r"""Stochastic gradient Langevin dynamics (Welling & Teh, 2011), with a constant step size.

    .. math:: u \leftarrow u + h\, \hat\nabla \log p(u \mid D) + \sqrt{2 h}\, \xi

    with the gradient estimated from ``batch_size`` examples. Every step is accepted, which adds an error of the order
    of h.

    Raises:
        ValueError: if a number is not positive.
    """

    step_size: float = 1e-5
    """h, in units of the square of the prior's scale."""
    steps: int = 100
    """Steps between samples."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("step_size", "steps", "batch_size"):
            check_positive(name, getattr(self, name))

    def chain(self, key: PRNGKey, target: Target, unit: PyTree) -> Chain:
        """As :meth:`Sampler.chain`."""
        diffusion = import_blackjax().sgmcmc.diffusions.overdamped_langevin()

        def step(unit: PyTree, step_key: PRNGKey) -> tuple[PyTree, None]:
            data_key, noise_key = jax.random.split(step_key)
            gradient = target.gradient(data_key, unit, self.batch_size)
            return diffusion(noise_key, unit, gradient, self.step_size), None

        def sample(unit: PyTree, sample_key: PRNGKey) -> tuple[PyTree, Chain]:
            unit, _ = jax.lax.scan(step, unit, jax.random.split(sample_key, self.steps))
            return unit, Chain(unit, target.log_density(unit))

        return jax.lax.scan(sample, unit, jax.random.split(key, self.burn_in + self.num_samples))[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sghmc(Sampler):
    r"""Stochastic gradient Hamiltonian Monte Carlo (Chen, Fox & Guestrin, arXiv 1402.4102), with constant settings.

    .. math:: u \leftarrow u + h\, r, \quad
        r \leftarrow (1 - h \alpha)\, r + h\, \hat\nabla \log p(u \mid D) + \sqrt{h (2 \alpha - h \beta)}\, \xi

    one after the other, with the gradient estimated from ``batch_size`` examples, and the momentum kept from sample to
    sample.

    Raises:
        ValueError: if a number is out of range, or the noise would have a negative variance.
    """

    step_size: float = 1e-3
    """h, in units of the prior's scale."""
    friction: float = 10.0
    """α, the decay of the momentum per unit of time."""
    gradient_noise: float = 0.0
    """β, the variance of the estimated gradient that is made up for."""
    steps: int = 100
    """Steps between samples."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("step_size", "friction", "steps", "batch_size"):
            check_positive(name, getattr(self, name))
        check_non_negative("gradient_noise", self.gradient_noise)
        if self.step_size * self.gradient_noise > 2 * self.friction:
            raise ValueError(
                f"Expected step_size * gradient_noise <= 2 * friction, got step_size={self.step_size!r}, "
                f"gradient_noise={self.gradient_noise!r} and friction={self.friction!r}."
            )

    def chain(self, key: PRNGKey, target: Target, unit: PyTree) -> Chain:
        """As :meth:`Sampler.chain`."""
        diffusion = import_blackjax().sgmcmc.diffusions.sghmc(self.friction, self.gradient_noise)

        def step(state: tuple[PyTree, PyTree], step_key: PRNGKey) -> tuple[tuple[PyTree, PyTree], None]:
            data_key, noise_key = jax.random.split(step_key)
            # Where the position goes next: a step of both from where they are gains energy.
            ahead = jax.tree.map(lambda u, r: u + self.step_size * r, *state)
            gradient = target.gradient(data_key, ahead, self.batch_size)
            return diffusion(noise_key, *state, gradient, self.step_size), None

        def sample(state: tuple[PyTree, PyTree], sample_key: PRNGKey) -> tuple[tuple[PyTree, PyTree], Chain]:
            state, _ = jax.lax.scan(step, state, jax.random.split(sample_key, self.steps))
            return state, Chain(state[0], target.log_density(state[0]))

        start = (unit, jax.tree.map(jnp.zeros_like, unit))
        return jax.lax.scan(sample, start, jax.random.split(key, self.burn_in + self.num_samples))[1]
