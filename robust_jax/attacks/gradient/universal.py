"""Universal perturbations: one for all images."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from robust_jax.attacks.inputs import check_logits, in_float32, make_problem
from robust_jax.attacks.losses import cross_entropy
from robust_jax.attacks.starts import Gaussian, Start, check_start
from robust_jax.attacks.threats import THREATS, as_threat
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.keys import named_key
from robust_jax.core.loops import iterate
from robust_jax.core.random_words import random_normal
from robust_jax.core.shapes import image_shape
from robust_jax.mathematics.norms import project_lp, sample_lp
from robust_jax.predictors import as_predictor
from robust_jax.types import Image, Images, LogitsFn, PRNGKey

NORMS = ("Linf", "L2", "L1")


class UniversalState(NamedTuple):
    """The perturbation so far, and the state of its optimiser."""

    delta: Image
    optimiser: optax.OptState


@dataclasses.dataclass(frozen=True)
class UniversalPGD:
    r"""One perturbation that misleads the network on as many images of a data set as it can.

    .. math:: \max_{\lVert \delta \rVert \le \epsilon} \; \frac1n \sum_i \min(L(f(x_i + \delta), y_i), \beta)

    by projected gradient ascent over batches, with images plus perturbation clipped to [0, 1] and L the cross-entropy.
    Clipped at β, no single image can make up for the others. A targeted perturbation instead descends the mean
    cross-entropy of the target class, which needs no β.

    It is not an :class:`Attack`: what it finds depends on all images together. :meth:`fit` finds it, :meth:`apply` adds
    it to images, seen or not.

    Raises:
        ValueError: if a name is unknown, or a number out of range.

    References:
        Shafahi, Najibi, Xu, Dickerson, Davis & Goldstein, "Universal adversarial training" (arXiv 1811.11304). The
        problem is that of Moosavi-Dezfooli et al. (arXiv 1610.08401), who solve it by DeepFool on one image after the
        other.
    """

    eps: float = 8 / 255
    """Radius, in [0, 1] units of the image."""
    norm: str = "Linf"
    """Linf, L2 or L1."""
    steps: int = 200
    """Batches, each with one gradient. Every image is in one batch before any is in two."""
    batch_size: int = 128
    """Images in a batch; those left over after the last whole batch of a pass wait for the next."""
    relative_step: float = 0.1
    """Length of a step over eps; steps are the steepest of the norm, signs for Linf. Lengths fall linearly to zero."""
    optimiser: optax.GradientTransformation | None = None
    """Of gradient descent, such as Adam, in place of steepest steps."""
    clip_loss: float = 9.0
    """β, in nats; of targeted perturbations not used."""
    start: Start = "zero"
    """Start of the ascent: "uniform" in the ball, "zero", or :class:`~robust_jax.attacks.Gaussian` noise, projected."""

    def __post_init__(self):
        check_non_negative("eps", self.eps)
        check_start(self.start)
        if self.norm not in NORMS:
            as_threat(self.norm)
            raise ValueError(f"Expected norm in {NORMS}, got norm={self.norm!r}.")
        for name in ("steps", "batch_size", "relative_step", "clip_loss"):
            check_positive(name, getattr(self, name))

    def fit(
        self,
        key: PRNGKey,
        predictor: LogitsFn,
        images: Images,
        labels: Int[Array, "n"],
        *,
        eps: float | Float[Array, ""] | None = None,
        target: int | Int[Array, ""] | None = None,
    ) -> Image:
        """The perturbation, ``[h, w, c]``, of norm at most eps.

        Args:
            key: of the order of images, and of a random start.
            predictor: images in [0, 1] to logits ``[b, k]``.
            images: in [0, 1]; those it is fitted to.
            labels: classes; with a target not read, but for errors.
            eps: in place of the attack's radius. It is traced.
            target: class that all images should be taken for. It is traced.

        Raises:
            ValueError: if shapes disagree, images leave [0, 1], eps is negative or NaN, a label or the target is not a
                class, or logits are not ``[b, k]`` or not finite.
        """
        predictor = in_float32(as_predictor(predictor))
        eps = jnp.asarray(self.eps if eps is None else eps, jnp.float32)
        if eps.shape != ():
            raise ValueError(f"Expected eps to be one number, got shape {eps.shape}.")
        size = min(self.batch_size, len(images))
        classes = labels if target is None else jnp.full(len(images), target, jnp.int32)
        problem = make_problem(jax.random.split(key, len(images)), images, classes, eps, None)
        # The images with the greatest labels: of the others only the range of theirs would be checked.
        last = jnp.argsort(-problem.labels)[:size]
        check_logits(predictor, jax.tree.map(lambda leaf: leaf[last], problem))
        shape, order = image_shape(problem.images), THREATS[self.norm].order
        start = self._start(named_key(key, "start"), shape, order, eps)
        state = UniversalState(start, () if self.optimiser is None else self.optimiser.init(start))
        static = dataclasses.replace(self, eps=0.0, batch_size=size), target is not None
        operands = (predictor, problem.images, problem.labels, named_key(key, "order"), eps)
        return iterate(_step, static, range(self.steps), state, *operands).delta

    def _start(self, key: PRNGKey, shape: tuple[int, int, int], order: float, eps: Float[Array, ""]) -> Image:
        if isinstance(self.start, Gaussian):
            return project_lp(self.start.sigma * random_normal(key, shape), order, eps)
        return sample_lp(key, shape, order, eps) if self.start == "uniform" else jnp.zeros(shape)

    @staticmethod
    def apply(delta: Image, images: Images) -> Images:
        """Images with the perturbation added, clipped to [0, 1]."""
        return jnp.clip(images + delta[None], 0, 1)


def _step(
    static: tuple[UniversalPGD, bool],
    i: Int[Array, ""],
    state: UniversalState,
    predictor: LogitsFn,
    images: Images,
    labels: Int[Array, "n"],
    key: PRNGKey,
    eps: Float[Array, ""],
) -> UniversalState:
    attack, targeted = static
    threat = THREATS[attack.norm]
    batches = len(images) // attack.batch_size
    order = jax.random.permutation(jax.random.fold_in(key, i // batches), len(images))
    batch = jax.lax.dynamic_slice(order, (i % batches * attack.batch_size,), (attack.batch_size,))
    some, classes = images[batch], labels[batch]

    def gain(delta: Image) -> Float[Array, ""]:
        losses = cross_entropy(predictor(attack.apply(delta, some)), classes)
        return -jnp.mean(losses) if targeted else jnp.mean(jnp.minimum(losses, attack.clip_loss))

    gradient, optimiser = jax.grad(gain)(state.delta), state.optimiser
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
    if attack.optimiser is None:
        length = attack.relative_step * eps * (1 - i / attack.steps)
        change = length * threat.steepest(gradient)
    else:
        change, optimiser = attack.optimiser.update(-gradient, optimiser, state.delta)
    return UniversalState(project_lp(optax.tree.add(state.delta, change), threat.order, eps), optimiser)
