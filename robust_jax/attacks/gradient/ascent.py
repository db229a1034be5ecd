"""One ascent of Auto-PGD: how it moves, and the checks by which its step sizes change.

For Linf and L2 a move is a step along the gradient with momentum, and step sizes halve. For L1 a move is a step in the
few entries of largest gradient; how many follows the sparsity of the best perturbation so far.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_jax.attacks.base import where_examples
from robust_jax.attacks.threats import L1, L2, Linf, LpThreat
from robust_jax.core.random_words import random_normal, random_uniform
from robust_jax.mathematics.norms import norm_lp
from robust_jax.types import Image, Images, PRNGKeys

# Ball, then box: the projection of the original.
THREATS: dict[str, LpThreat] = {"Linf": Linf(), "L2": L2(exact=False), "L1": L1()}
MOMENTUM = 0.25
# Of L1: the share of entries that the first steps move, by what step sizes are divided, the least over the first.
FIRST_DENSITY = 0.2
REDUCTION = 1.5
LEAST_STEP = 0.1


class Ascent(NamedTuple):
    """Where an ascent is, the best it has seen, and what its step size depends on."""

    images: Images
    previous: Images
    step_size: Float[Array, "b"]
    best: tuple[Images, Images, Float[Array, "b"]]
    """Images of the highest loss, their gradient, the loss."""
    last_loss: Float[Array, "b"]
    increases: Int[Array, "b"]
    """Steps since the last check that increased the loss."""
    halved: Bool[Array, "b"]
    """At the last check."""
    best_at_check: Float[Array, "b"]
    density: Float[Array, "b"]
    """Of L1: the share of entries that a step moves."""
    changed: Float[Array, "b"]
    """Of L1: entries that the best perturbation changed, at the last check."""


def first_step_size(norm: str, eps: Float[Array, "b"]) -> Float[Array, "b"]:
    """2 eps, for L1 eps."""
    return eps if norm == "L1" else 2 * eps


def random_start(keys: PRNGKeys, norm: str, images: Images, eps: Float[Array, "b"]) -> Images:
    """On the sphere, then into the box; for L1, a Gaussian projected."""

    def start(key: Array, image: Image, eps: Float[Array, ""]) -> Image:
        noise = 2 * random_uniform(key, image.shape) - 1 if norm == "Linf" else random_normal(key, image.shape)
        if norm == "L1":
            return image + THREATS[norm].project(noise, image, eps)
        return jnp.clip(image + eps * noise / norm_lp(noise, THREATS[norm].order), 0, 1)

    return jax.vmap(start)(keys, images, eps)


def begin(norm: str, start: Images, eps: Float[Array, "b"]) -> Ascent:
    """An ascent from a random start."""
    zero = jnp.zeros_like(eps)
    count = zero.astype(jnp.int32)
    best = (start, jnp.zeros_like(start), zero - jnp.inf)
    step_size = first_step_size(norm, eps)
    density, changed = zero + FIRST_DENSITY, zero + start[0].size
    return Ascent(start, start, step_size, best, zero, count, count == 0, zero, density, changed)


def begin_within(norm: str, start: Images, images: Images, eps: Float[Array, "b"]) -> Ascent:
    """An ascent from where another got to, projected into a smaller ball."""
    start = images + jax.vmap(THREATS[norm].project)(start - images, images, eps)
    return with_density_of_start(begin(norm, start, eps), images)


def with_density_of_start(ascent: Ascent, images: Images) -> Ascent:
    """An ascent whose first steps are as dense as the perturbation it starts from."""
    changed = _num_changed(ascent.images, images)
    return ascent._replace(density=_density_of(changed, images), changed=changed)


def halving_check(
    ascent: Ascent, gradient: Images, window: Int[Array, ""], *, rho: float, drop_momentum: bool
) -> tuple[Ascent, Images]:
    """Halves step sizes and goes back to the best points, if it is time to (``window`` > 0) and called for."""
    stalled = ~ascent.halved & (ascent.best_at_check >= ascent.best[2])
    halve = (window > 0) & ((ascent.increases <= rho * window) | stalled)
    best_images, best_gradient, best_loss = ascent.best
    images, gradient = where_examples(halve, (best_images, best_gradient), (ascent.images, gradient))
    ascent = ascent._replace(
        images=images,
        previous=where_examples(halve, best_images, ascent.previous) if drop_momentum else ascent.previous,
        step_size=jnp.where(halve, ascent.step_size / 2, ascent.step_size),
        increases=jnp.where(window > 0, 0, ascent.increases),
        halved=jnp.where(window > 0, halve, ascent.halved),
        best_at_check=jnp.where(window > 0, best_loss, ascent.best_at_check),
    )
    return ascent, gradient


def sparsity_check(
    ascent: Ascent, gradient: Images, window: Int[Array, ""], images: Images, first_step: Float[Array, "b"]
) -> tuple[Ascent, Images]:
    """Adapts the density to the best perturbation; where that got sparser, goes back to it with the first step size,
    elsewhere takes smaller steps (arXiv 2103.01208, algorithm 1)."""
    changed = _num_changed(ascent.best[0], images)
    sparser = changed / jnp.maximum(ascent.changed, 1) < 0.95
    smaller = jnp.clip(ascent.step_size / REDUCTION, LEAST_STEP * first_step, first_step)
    back, gradient_back = where_examples(sparser, ascent.best[:2], (ascent.images, gradient))
    after = ascent._replace(
        images=back,
        step_size=jnp.where(sparser, first_step, smaller),
        density=_density_of(changed, images),
        changed=changed,
    )
    due = jnp.broadcast_to(window > 0, sparser.shape)
    return where_examples(due, (after, gradient_back), (ascent, gradient))


def momentum_move(ascent: Ascent, gradient: Images, norm: str, images: Images, eps: Float[Array, "b"], is_first):
    """A step along the gradient, then back a part of the way and on along the last move."""
    threat = THREATS[norm]
    weight = jnp.where(is_first, 1.0, 1 - MOMENTUM)

    def move(image: Image, x: Image, previous: Image, gradient: Image, size: Array, eps: Array) -> Image:
        z = image + threat.project(x + size * threat.steepest(gradient) - image, image, eps)
        mixed = x + weight * (z - x) + (1 - weight) * (x - previous)
        return image + threat.project(mixed - image, image, eps)

    moved = jax.vmap(move)(images, ascent.images, ascent.previous, gradient, ascent.step_size, eps)
    return ascent._replace(images=moved, previous=ascent.images)


def sparse_move(ascent: Ascent, gradient: Images, images: Images, eps: Float[Array, "b"]) -> Ascent:
    """A step in the entries of largest gradient, all of one size."""

    def move(image: Image, x: Image, gradient: Image, size: Array, density: Array, eps: Array) -> Image:
        modulus = jnp.abs(gradient)
        place = jnp.clip((1 - density) * modulus.size, 0, modulus.size - 1).astype(jnp.int32)
        threshold = jnp.sort(modulus.reshape(-1))[place]
        signs = jnp.where(modulus >= threshold, jnp.sign(gradient), 0)
        moved = x + size * signs / (jnp.sum(jnp.abs(signs)) + 1e-10)
        return image + THREATS["L1"].project(moved - image, image, eps)

    moved = jax.vmap(move)(images, ascent.images, gradient, ascent.step_size, ascent.density, eps)
    return ascent._replace(images=moved, previous=ascent.images)


def check_windows(steps: int) -> Int[np.ndarray, "steps+1"]:
    """After each number of steps, how many steps a check there looks back on; 0 where there is none."""
    windows = np.zeros(steps + 1, np.int32)
    window, least, shorter = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    step = window
    while step <= steps:
        windows[step] = window
        window = max(window - shorter, least)
        step += window
    return windows


def sparsity_windows(steps: int) -> Int[np.ndarray, "steps+1"]:
    """As :func:`check_windows`, for L1: every 4 % of the steps."""
    window = max(int(0.04 * steps), 1)
    numbers = np.arange(steps + 1)
    return np.where((numbers > 0) & (numbers % window == 0), window, 0).astype(np.int32)


def _num_changed(best: Images, images: Images) -> Float[Array, "b"]:
    return jnp.sum(best != images, axis=(1, 2, 3)).astype(jnp.float32)


def _density_of(changed: Float[Array, "b"], images: Images) -> Float[Array, "b"]:
    return changed / images[0].size / REDUCTION
