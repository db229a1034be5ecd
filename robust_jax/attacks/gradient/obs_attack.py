"""ObsAtk: the worst noise of mean zero that can be added to what a denoiser is given."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, Float

from robust_jax.attacks.engine import maximise
from robust_jax.attacks.starts import Start, check_start
from robust_jax.attacks.threats import L2, Radius
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.mathematics.norms import project_lp, sample_lp
from robust_jax.predictors import as_predictor
from robust_jax.types import Image, Images, LogitsFn, PRNGKey, PRNGKeys


class ObsAtkResult(NamedTuple):
    """The attacked observations, the root mean square of what was added, and the mean squared error of what the
    denoiser makes of them, per example."""

    images: Images
    norm: Float[Array, "b"]
    loss: Float[Array, "b"]


def project_zero_mean(delta: Image, radius: float | Float[Array, ""]) -> Image:
    r"""The nearest perturbation of mean zero, over all pixels and channels, and L2 norm at most the radius.

    First on the hyperplane of mean zero, then on the ball. Because the hyperplane passes through the middle of the
    ball, this is the projection on their intersection; the other way round it would not be.

    References:
        Yan et al. (arXiv 2201.04397).
    """
    return project_lp(delta - jnp.mean(delta), 2, radius)


@dataclasses.dataclass(frozen=True)
class ZeroMean(L2):
    r""":math:`\lVert \delta \rVert_2 \le \epsilon` and :math:`\sum_i \delta_i = 0`, without a box."""

    def random(self, key: PRNGKey, image: Image, eps: Radius) -> Image:
        """Uniform in the ball, then projected."""
        return self.project(sample_lp(key, image.shape, 2.0, eps), image, eps)

    def project(self, delta: Image, image: Image, eps: Radius) -> Image:
        """See :func:`project_zero_mean`."""
        return project_zero_mean(delta, eps)


@dataclasses.dataclass(frozen=True)
class ObsAtk:
    r"""Projected gradient ascent on the error of a denoiser D, for a noisy image y of a clean image x.

    .. math:: \max_\delta \lVert D(y + \delta) - x \rVert_2^2 \quad\text{with}\quad
        \textstyle\sum_i \delta_i = 0, \; \lVert \delta \rVert_2 \le \rho \sqrt{d}

    by steps along the gradient over its norm. Of all iterates the worst is returned; the original returns the last.

    Noisy images may leave [0, 1], and so may the result: the box, which the published code clips to and then leaves
    again, is not a constraint here.

    Raises:
        ValueError: if a number is out of range; when run, if shapes disagree or rho is negative.

    References:
        Yan, Zhang, Feng, Sugiyama & Tan, "Towards adversarially robust deep image denoising" (arXiv 2201.04397).
    """

    rho: float = 5 / 255
    """Largest root mean square of the perturbation, in units of the image's range."""
    steps: int = 5
    """Gradients followed."""
    relative_step: float = 0.3
    """Length of a step over the radius."""
    start: Start = "zero"
    """Start of the ascent: "uniform" in the ball and then moved to mean zero, "zero", or
    :class:`~robust_jax.attacks.Gaussian` noise, projected."""

    def __post_init__(self):
        check_non_negative("rho", self.rho)
        check_positive("steps", self.steps)
        check_positive("relative_step", self.relative_step)
        check_start(self.start)

    def __call__(
        self,
        keys: PRNGKeys,
        denoiser_fn: LogitsFn,
        noisy: Images,
        clean: Images,
        *,
        rho: float | Float[Array, ""] | Float[Array, "b"] | None = None,
    ) -> Images:
        """The attacked observations; arguments as of :meth:`run`."""
        return self.run(keys, denoiser_fn, noisy, clean, rho=rho).images

    def run(
        self,
        keys: PRNGKeys,
        denoiser_fn: LogitsFn,
        noisy: Images,
        clean: Images,
        *,
        rho: float | Float[Array, ""] | Float[Array, "b"] | None = None,
    ) -> ObsAtkResult:
        """Attacks a batch.

        Args:
            keys: one for each example; of random starts.
            denoiser_fn: noisy images ``[b, h, w, c]`` to images of the same shape.
            noisy: what it is given.
            clean: what it should return.
            rho: in place of the attack's; one number, or one for each example. It is traced.
        """
        noisy, clean = jnp.asarray(noisy, jnp.float32), jnp.asarray(clean, jnp.float32)
        rho = jnp.asarray(self.rho if rho is None else rho, jnp.float32)
        if noisy.ndim != 4 or clean.shape != noisy.shape or keys.shape != noisy.shape[:1]:
            raise ValueError(
                f"Expected noisy and clean images of one shape [b, h, w, c], and b keys, got shapes "
                f"{noisy.shape}, {clean.shape} and {keys.shape}."
            )
        if rho.shape not in ((), noisy.shape[:1]):
            raise ValueError(f"Expected rho to be one number, or one for each image, got shape {rho.shape}.")
        if not isinstance(rho, Tracer) and not np.all(np.asarray(rho) >= 0):
            raise ValueError(f"Expected rho >= 0, got rho={float(jnp.min(rho))!r}.")
        radius = jnp.broadcast_to(rho, noisy.shape[:1]) * math.sqrt(noisy[0].size)
        loss_fn = Partial(_error, as_predictor(denoiser_fn), clean)
        settings = {"steps": self.steps, "relative_step": self.relative_step, "start": self.start, "keep": "best"}
        found = maximise(keys, loss_fn, noisy, radius, ZeroMean(), **settings)
        norm = jnp.sqrt(jnp.mean((found.images - noisy) ** 2, axis=(1, 2, 3)))
        return ObsAtkResult(found.images, norm, found.loss)


def _error(denoiser: LogitsFn, clean: Images, images: Images) -> Float[Array, "b"]:
    return jnp.mean((denoiser(images) - clean) ** 2, axis=(1, 2, 3))
