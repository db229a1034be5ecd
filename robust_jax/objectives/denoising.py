"""Removing Gaussian noise, by the mean squared error."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.keys import example_keys
from robust_jax.core.random_words import random_normal
from robust_jax.objectives.cross_entropy import masked_mean, plain_loss
from robust_jax.types import Batch, Context, Forward, Image, Images, Loss, Objective, PRNGKey


@dataclasses.dataclass(frozen=True)
class Denoising(Objective):
    r"""Mean squared error of a denoiser D on images with Gaussian noise, over pixels, channels and examples.

    .. math:: \frac{1}{d} \lVert D(x + \sigma z) - x \rVert_2^2, \quad z \sim \mathcal N(0, I)

    Noisy images are not clipped to [0, 1]. The noise of an example depends on the step's key and its id. Labels are
    not used; but with ``sigma=None`` they are the clean images x, and the images are noisy already. Among the scalars,
    ``psnr`` is the mean over the examples, in dB.

    Raises:
        ValueError: if sigma is not positive, or no range of such; when run, if the network's output has not the shape
            of the images, or if just one of sigma and labels of clean images is missing.

    References:
        Zhang et al. (arXiv 1608.03981), equation 1, and section 3.4 for unknown levels of noise.
    """

    sigma: float | tuple[float, float] | None = 25 / 255
    """Standard deviation of the noise, in units of the images' range; or the two ends of a range, from which each
    image's is drawn uniformly, for a denoiser that is blind to the level of the noise. None adds no noise to images
    whose labels are the clean ones."""

    def __post_init__(self):
        if self.sigma is None:
            return
        low, high = self._range
        check_non_negative("sigma", low)
        check_positive("sigma", high)
        if low > high:
            raise ValueError(f"Expected sigma to be a range from low to high, got sigma={self.sigma!r}.")

    @property
    def _range(self) -> tuple[float, float]:
        if self.sigma is None:
            return 0.0, 0.0
        low, high = self.sigma if isinstance(self.sigma, tuple | list) else (self.sigma, self.sigma)
        return low, high

    def __call__(
        self, key: PRNGKey, forward: Forward, params: PyTree, batch: Batch, state: PyTree, context: Context
    ) -> Loss:
        del context
        noise_key, model_key = jax.random.split(key)
        clean, noisy = self._pair(noise_key, batch)
        output, model_state = forward(params, noisy, key=model_key, train=True)
        if output.prediction.shape != clean.shape:
            raise ValueError(
                f"Expected the network to return images of shape {clean.shape}, got {output.prediction.shape}."
            )
        errors = jnp.mean((output.prediction - clean) ** 2, axis=(1, 2, 3))
        metrics = {"psnr": masked_mean(-10 * jnp.log10(errors), batch.mask)}
        return plain_loss(errors, model_state, state, metrics)

    def _pair(self, key: PRNGKey, batch: Batch) -> tuple[Images, Images]:
        """Return clean and noisy images."""
        if (self.sigma is None) != (batch.label.ndim == 4):
            raise ValueError(
                "Expected sigma=None where labels are clean images [b, h, w, c], and there only, "
                f"got sigma={self.sigma!r} and labels {batch.label.dtype} {batch.label.shape}."
            )
        if self.sigma is None:
            return batch.label, batch.image
        return batch.image, jax.vmap(self.add_noise)(example_keys(key, batch.id), batch.image)

    def add_noise(self, key: PRNGKey, image: Image) -> Image:
        """A noisy image."""
        sigma_key, noise_key = jax.random.split(key)
        low, high = self._range
        sigma = low + (high - low) * jax.random.uniform(sigma_key)
        return image + sigma * random_normal(noise_key, image.shape)
