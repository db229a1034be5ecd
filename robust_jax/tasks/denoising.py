"""Denoising: predictions are images."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_jax.types import Images, Shaped


@dataclasses.dataclass(frozen=True)
class Denoising:
    """Restored images [b, h, w, c]; labels are the clean images, float, in [0, 1].

    Raises:
        ValueError: when run, if predictions or labels have other shapes.
    """

    def check(self, prediction: Shaped, label: Shaped) -> None:
        """Raise ``ValueError`` unless predictions and labels are float images of one shape."""
        real = jnp.issubdtype(label.dtype, jnp.floating)
        if len(prediction.shape) != 4 or tuple(prediction.shape) != tuple(label.shape) or not real:
            raise ValueError(
                f"Expected predictions [b, h, w, c] and labels float [b, h, w, c] for {self}, got predictions "
                f"{prediction.shape} and labels {label.dtype} {label.shape}."
            )

    def log_likelihood(self, prediction: Images, label: Images) -> Float[Array, "b"]:
        """Log-density of the clean image, in nats per value, under a normal distribution of variance 1 around it."""
        return -0.5 * (self._mse(prediction, label) + jnp.log(2 * jnp.pi))

    def measures(self, prediction: Images, label: Images) -> dict[str, Float[Array, "b"]]:
        """Return ``mse``, over pixels and channels, and ``psnr`` in dB with peak 1 of each image.

        The PSNR of a data set is the mean over its images; an image restored without error has an infinite one.
        """
        mse = self._mse(prediction, label)
        return {"mse": mse, "psnr": -10 * jnp.log10(mse)}

    def _mse(self, prediction: Images, label: Images) -> Float[Array, "b"]:
        self.check(prediction, label)
        return jnp.mean((prediction - label) ** 2, axis=(1, 2, 3))
