"""The examples an attack is given, and what it found."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_jax.types import Images, PRNGKeys


class Problem(NamedTuple):
    """Examples to attack. ``targets`` is None in attacks that only mean to leave the class.

    ``label_probs`` are soft labels where they were given, and ``labels`` then their most probable classes.
    """

    keys: PRNGKeys
    images: Images
    labels: Int[Array, "b"]
    eps: Float[Array, "b"]
    targets: Int[Array, "b"] | None
    label_probs: Float[Array, "b k"] | None = None


class AttackResult(NamedTuple):
    """What an attack found, per example.

    ``success`` is misclassification, or in a targeted attack classification as the target. ``norm`` is the size of
    the perturbation in the attack's threat, ``loss`` the attack's at ``images``. ``zero_gradient`` says that a
    gradient was zero throughout before the attack had succeeded, a sign of saturated outputs or of a network that
    hides its gradients. ``nan_gradient`` says that an entry of a gradient was NaN or infinite; attacks take it as zero.
    ``queries`` and ``gradients`` count evaluations of the network, and of it with its gradient.
    """

    images: Images
    success: Bool[Array, "b"]
    norm: Float[Array, "b"]
    loss: Float[Array, "b"]
    queries: Int[Array, "b"]
    gradients: Int[Array, "b"]
    zero_gradient: Bool[Array, "b"]
    nan_gradient: Bool[Array, "b"]

    def warnings(self) -> list[str]:
        """What should make one doubt the result, in words; for results on the host."""
        told = []
        if (share := float(jnp.mean(self.zero_gradient))) > 0:
            told.append(
                f"Zero gradients on {share:.1%} of the examples: the attack is blind there; try loss='margin' or 'dlr'."
            )
        if (share := float(jnp.mean(self.nan_gradient))) > 0:
            told.append(
                f"NaN or infinite gradients on {share:.1%} of the examples, taken as zero: robustness is overestimated "
                "there; look for norms and square roots of zero in the network."
            )
        return told


def succeeded(logits: Float[Array, "b k"], problem: Problem) -> Bool[Array, "b"]:
    """Whether logits are those of a successful attack. Logits that are not finite never are."""
    predicted = jnp.argmax(logits, axis=-1)
    reached = predicted != problem.labels if problem.targets is None else predicted == problem.targets
    return reached & jnp.all(jnp.isfinite(logits), axis=-1)
