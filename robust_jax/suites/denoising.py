"""What a denoiser makes of noise, and of noise at its worst (arXiv 2201.04397)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_jax import metrics
from robust_jax.attacks import ObsAtk
from robust_jax.core.checks import check_non_negative, check_positive
from robust_jax.core.keys import example_keys, named_key
from robust_jax.core.random_words import random_normal
from robust_jax.core.shapes import image_shape
from robust_jax.declarations import Column
from robust_jax.predictors import as_predictor
from robust_jax.suites.base import Context, Suite
from robust_jax.suites.case import make_row, to_host
from robust_jax.suites.samples import Samples
from robust_jax.suites.store import Table
from robust_jax.types import Batch, Image, Images, PRNGKey, Row

Denoiser = Callable[[Images], Images]

NAME = "denoising"


@dataclasses.dataclass(frozen=True)
class Denoising(Suite):
    r"""PSNR of a denoiser on images with Gaussian noise, and with a perturbation of that noise besides.

    A perturbation has mean zero and a root mean square of at most rho. One kind is random, Gaussian less its mean, of
    exactly rho; the other is the worst that an attack finds. What is admissible within one rho is within a larger one,
    so the worst of an example within rho is that of all radii up to it. Random perturbations of different rho point in
    the same direction.

    The predictor is the denoiser, images [b, h, w, c] to images. An image has the same noise in all cases; it depends
    on the key and the image's id. Neither noisy images nor denoised ones are clipped to [0, 1]. What is found in a
    batch is kept as soon as it is.

    Raises:
        ValueError: if sigma is not positive, there is no radius, or one is negative; when run, if the predictor does
            not return images.

    References:
        Yan, Zhang, Feng, Sugiyama & Tan, arXiv 2201.04397, for the attack. The random control is ours.
    """

    sigma: float = 25 / 255
    """Standard deviation of the noise, in units of the images' range."""
    attack: ObsAtk = ObsAtk()
    """The attack; its own rho is not used."""
    radii: tuple[float, ...] = (3 / 255, 5 / 255, 7 / 255)
    """Values of rho, in the same units."""

    name: ClassVar[str] = NAME

    def __post_init__(self):
        check_positive("sigma", self.sigma)
        if not self.radii:
            raise ValueError("Expected at least one radius, got radii=().")
        for rho in self.radii:
            check_non_negative("radii", rho)

    @property
    def num_cases(self) -> int:
        return 1 + len(self.radii)

    @property
    def columns(self) -> tuple[Column, ...]:
        cases, largest = ("random", type(self.attack).__name__), float(max(self.radii))
        return (
            Column("PSNR dB", "denoised", "psnr", direction="higher"),
            *(
                Column(f"PSNR {case} {rho:.4g} dB", case, "psnr", level=float(rho), direction="higher")
                for case in cases
                for rho in sorted(self.radii)
            ),
            *(Column(f"drop {case} {largest:.4g} dB", case, "psnr_drop", level=largest) for case in cases),
        )

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields the rows of each case when it is done, smallest radius first, with 95 % bootstrap intervals.

        ``psnr`` is the mean over images, in dB, of the cases "noisy", "denoised" and, for each rho, of what is
        denoised under a perturbation, "random" or of the attack's name. ``psnr_drop`` is what these lose to "denoised".
        """
        key, count, denoiser = context.key, context.data.num_examples, as_predictor(context.predictor)
        fields = context.fields(self.name)
        program = partial(_measure_noisy, denoiser, key, self.sigma)
        table = _kept(context, context.folder(NAME, key, self.sigma), "noise", program)
        for case in ("noisy", "denoised"):
            interval = metrics.bootstrap_interval(metrics.psnr(table[case]))
            yield make_row("psnr", interval, count, **fields, case=case, severity=None)
        plain = metrics.psnr(table["denoised"])
        suite = context.folder(NAME, key, self.sigma, self._attack)
        worst = table["denoised"]
        for rho in sorted(self.radii):
            table = _kept(context, suite, f"rho={rho!r}", partial(self._perturbed, key, denoiser, rho))
            worst = np.maximum(worst, table["attacked"])
            for case, errors in (("random", table["random"]), (type(self.attack).__name__, worst)):
                found = metrics.psnr(errors)
                for metric, values in (("psnr", found), ("psnr_drop", plain - found)):
                    interval = metrics.bootstrap_interval(values)
                    yield make_row(metric, interval, count, **fields, case=case, severity=float(rho))

    def samples(self, context: Context, *, num_images: int = 6) -> Samples:
        """The first images, noisy, denoised, and denoised under attack at the largest radius; with their PSNR."""
        batch, denoiser = next(iter(context.data.batches())), as_predictor(context.predictor)
        attacked = self._attacked(context.key, denoiser, max(self.radii), batch).images
        noisy = gaussian_noise(context.key, self.sigma, batch)
        columns = {
            "clean": batch.image,
            "noisy": noisy,
            "denoised": _denoise(denoiser, noisy),
            "under attack": _denoise(denoiser, attacked),
        }
        parts = [to_host((images, _errors(images, batch.image))) for images in columns.values()]
        images, errors = (np.stack(part, axis=1)[:num_images] for part in zip(*parts, strict=True))
        return Samples(
            images=np.round(np.clip(images, 0, 1) * 255).astype(np.uint8),
            titles=list(columns),
            predictions=[["", *(f"{value:.1f} dB" for value in row[1:])] for row in metrics.psnr(errors)],
            confidences=None,
            labels=[context.data.class_names[k] for k in _classes(batch)[:num_images]],
        )

    @property
    def _attack(self) -> ObsAtk:
        return dataclasses.replace(self.attack, rho=0.0)

    def _attacked(self, key: PRNGKey, denoiser: Denoiser, rho: float, batch: Batch):
        keys = example_keys(named_key(key, f"{NAME} attack"), batch.id)
        noisy = gaussian_noise(key, self.sigma, batch)
        return self._attack.run(keys, denoiser, noisy, batch.image, rho=rho)

    def _perturbed(self, key: PRNGKey, denoiser: Denoiser, rho: float, batch: Batch) -> dict[str, Float[Array, "b"]]:
        return {
            "random": _measure_random(denoiser, key, self.sigma, rho, batch),
            "attacked": self._attacked(key, denoiser, rho, batch).loss,
        }


@jax.jit
def gaussian_noise(key: PRNGKey, sigma: float | Float[Array, ""], batch: Batch) -> Images:
    """The images of a batch with Gaussian noise, of which each example has its own; not clipped."""
    keys = example_keys(named_key(key, f"{NAME} noise"), batch.id)
    return batch.image + sigma * jax.vmap(lambda key: random_normal(key, batch.image.shape[1:]))(keys)


def random_zero_mean(key: PRNGKey, shape: tuple[int, int, int], rho: float | Float[Array, ""]) -> Image:
    """A random direction among the perturbations of mean zero, with a root mean square of rho."""
    delta = random_normal(key, shape)
    delta = delta - jnp.mean(delta)
    return rho * delta / jnp.sqrt(jnp.mean(delta**2))


def _errors(images: Images, clean: Images) -> Float[Array, "b"]:
    return jnp.mean((images - clean) ** 2, axis=(1, 2, 3))


@jax.jit
def _denoise(denoiser: Denoiser, noisy: Images) -> Images:
    denoised = denoiser(noisy)
    if denoised.shape != noisy.shape:
        raise ValueError(f"Expected a denoiser that returns images of shape {noisy.shape}, got {denoised.shape}.")
    return denoised


@jax.jit
def _measure_noisy(
    denoiser: Denoiser, key: PRNGKey, sigma: Float[Array, ""], batch: Batch
) -> dict[str, Float[Array, "b"]]:
    noisy = gaussian_noise(key, sigma, batch)
    return {"noisy": _errors(noisy, batch.image), "denoised": _errors(_denoise(denoiser, noisy), batch.image)}


@jax.jit
def _measure_random(
    denoiser: Denoiser, key: PRNGKey, sigma: Float[Array, ""], rho: Float[Array, ""], batch: Batch
) -> Float[Array, "b"]:
    keys = example_keys(named_key(key, f"{NAME} random"), batch.id)
    delta = jax.vmap(lambda key: random_zero_mean(key, image_shape(batch.image), rho))(keys)
    return _errors(_denoise(denoiser, gaussian_noise(key, sigma, batch) + delta), batch.image)


def _classes(batch: Batch) -> np.ndarray:
    labels = np.asarray(to_host(batch.label))
    return labels if labels.ndim == 1 else labels.argmax(axis=1)


def _kept(context: Context, folder: str, case: str, program: Callable[[Batch], dict[str, Array]]) -> Table:
    """What a program finds of every example, padding removed, kept batch by batch."""
    parts = []
    for number, batch in enumerate(context.data.batches()):
        mask = np.asarray(to_host(batch.mask))

        def compute(batch: Batch = batch, mask: np.ndarray = mask) -> Table:
            return {name: values[mask] for name, values in to_host(program(batch)).items()}

        parts.append(context.store.table(folder, f"{case}_batch={number}_of={len(mask)}", compute))
        context.advance(int(mask.sum()) / context.data.num_examples)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
