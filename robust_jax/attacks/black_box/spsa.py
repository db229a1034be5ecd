"""SPSA: gradients from differences along random signs, followed by Adam."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from robust_jax.attacks.black_box.gradient_estimates import EstimatedGradients
from robust_jax.attacks.problem import Problem
from robust_jax.core.checks import check_positive
from robust_jax.core.random_words import random_words
from robust_jax.types import Image, Images, PRNGKey


@dataclasses.dataclass(frozen=True)
class SPSA(EstimatedGradients):
    r"""Adam on the margin, by gradients of simultaneous perturbation.

    .. math::
        x \leftarrow \Pi\Big(x + \mathrm{Adam}\Big(\frac{1}{n} \sum_{i=1}^{n}
        \frac{L(x + \delta v_i) - L(x - \delta v_i)}{2 \delta}\, v_i\Big)\Big), \quad v_i \in \{-1, 1\}^d

    It starts at the image, and leaves an example alone once an iterate is misclassified. One step takes ``samples`` +
    1 evaluations of the network.

    Raises:
        ValueError: if a name is unknown, or a number out of range; when run, see :meth:`Attack.run`.

    References:
        Uesato et al., "Adversarial risk and the dangers of evaluating against weak attacks" (arXiv 1802.05666),
        algorithm 1. Points outside the box are clipped to it, see :func:`estimate_gradient`.
    """

    step_size: float = 0.01
    """Learning rate of Adam: about what a step changes an entry by."""

    def __post_init__(self):
        super().__post_init__()
        check_positive("step_size", self.step_size)

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.step_size)

    def _direction(self, key: PRNGKey, shape: tuple[int, ...]) -> Image:
        return jnp.where(random_words(key, shape) & 1, 1.0, -1.0)

    def _remember(self, problem: Problem) -> optax.OptState:
        return jax.vmap(self._adam.init)(problem.images)

    def _change(
        self, problem: Problem, memory: optax.OptState, value: Float[Array, "b"], gradient: Images
    ) -> tuple[Images, optax.OptState]:
        update, memory = jax.vmap(self._adam.update)(-gradient, memory)
        (change,) = jax.tree.leaves(update)
        return change, memory
