"""EmpCov: a prior under which the first layer varies along the inputs alone (Izmailov et al., 2021)."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from robust_jax.core.checks import check_positive, nearest
from robust_jax.posteriors.priors import Axes, FittedPrior, GaussianPrior, independent
from robust_jax.types import Images, Model

FIRST_LAYERS = ("dense1", "stem_conv", "embedding")
"""What networks of this package call their first layer."""


@dataclasses.dataclass(frozen=True)
class EmpCov:
    r"""A normal prior whose first kernel has the covariance of its inputs; other weights are independent.

    Each column of the first kernel, all weights of one unit or channel, is drawn from

    .. math:: N(0,\ \alpha \hat\Sigma + \epsilon I)

    with :math:`\hat\Sigma` the covariance of the network's inputs over the training images, or for a convolution that
    of all patches of the kernel's size. Where images have a linear dependency, such as a pixel that is always black,
    the likelihood says nothing of the weights along it and the posterior there is the prior: under a standard normal
    one, weights that corrupted images set free, here weights near 0.

    Raises:
        ValueError: if a number is not positive.

    References:
        Izmailov, Nicholson, Lotfi & Wilson, "Dangers of Bayesian Model Averaging under Covariate Shift" (arXiv
        2106.11905), section 6.
    """

    alpha: float = 1.0
    """α, the variance of weights per variance of inputs."""
    epsilon: float = 1e-4
    """ε, the variance of weights in directions without inputs."""
    scale: float = 1.0
    """Standard deviation of all other weights."""
    layer: str | None = None
    """The first layer's name; None takes that of a network of this package."""

    def __post_init__(self):
        for name in ("alpha", "epsilon", "scale"):
            check_positive(name, getattr(self, name))

    def fit(self, model: Model, params: PyTree, images: Images) -> FittedPrior:
        """For weights like ``params``.

        Args:
            model: its ``std``, by which images are divided before the first layer, is taken where it has one.
            params: the network's weights.
            images: the training images.

        Raises:
            ValueError: if the network has no such layer (the nearest is named), or its kernel has another number of
                inputs than images have pixels.
        """
        layer = self._layer(params)
        kernel = params[layer]["kernel"]
        covariance = input_covariance(images, kernel.shape, std=getattr(model, "std", (1.0,)))
        # On the host, in double precision: it is done once, and least eigenvalues are lost in single.
        values, vectors = np.linalg.eigh(self.alpha * covariance)
        axes = Axes(jnp.float32(np.maximum(values, 0) + self.epsilon), jnp.float32(vectors))
        others = independent(GaussianPrior(), params, self.scale)
        return FittedPrior({**others.scales, layer: {**others.scales[layer], "kernel": axes}}, others.family)

    def _layer(self, params: PyTree) -> str:
        names = FIRST_LAYERS if self.layer is None else (self.layer,)
        for name in names:
            if name in params and "kernel" in params[name]:
                return name
        wanted = f"a first layer called {' or '.join(map(repr, names))}"
        raise ValueError(f"Expected {wanted} with a kernel, got layer={self.layer!r}.{nearest(names[0], params)}")


def input_covariance(
    images: Images, kernel_shape: tuple[int, ...], *, std: tuple[float, ...] = (1.0,)
) -> Float[np.ndarray, "n n"]:
    """The unbiased covariance of what a kernel reads, in double precision.

    Args:
        images: divided by ``std``.
        kernel_shape: (inputs, outputs) of a dense layer, which reads whole images; or (height, width, channels,
            outputs) of a convolution, which reads patches: all of those at stride 1 that lie within the images.
        std: one number, or one per channel.

    Raises:
        ValueError: if the kernel cannot read such images, or there are fewer than two of what it reads.
    """
    scaled = np.asarray(images, np.float32) / np.broadcast_to(np.asarray(std, np.float32), images.shape[-1:])
    height, width, channels = images.shape[1:]
    window = (height, width) if len(kernel_shape) == 2 else kernel_shape[:2]
    num_inputs = int(np.prod(kernel_shape[:-1]))
    if num_inputs != window[0] * window[1] * channels or window[0] > height or window[1] > width:
        raise ValueError(f"Expected a first kernel that reads images of {images.shape[1:]}, got shape {kernel_shape}.")
    windows = np.lib.stride_tricks.sliding_window_view(scaled, window, axis=(1, 2))
    count = windows[..., 0, 0, 0].size
    if count < 2:
        raise ValueError("Expected two images or more for their covariance, got one.")
    total, products = np.zeros(num_inputs), np.zeros((num_inputs, num_inputs))
    for each in windows:
        # [positions, channels, height, width] to the order of the kernel's axes.
        rows = each.transpose(0, 1, 3, 4, 2).reshape(-1, num_inputs).astype(np.float64)
        total += rows.sum(axis=0)
        products += rows.T @ rows
    return (products - np.outer(total, total) / count) / (count - 1)
